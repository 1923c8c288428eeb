"""Log records as one JSON object a line, and what a request adds to its own line.

The formatter is ours, as it must leave out what others put in: tracebacks, arguments and the words of other libraries
may quote a request. Only our own messages and numbers, names and codes that `note` was given are written.
"""

from __future__ import annotations

import json
import logging
import re
import time
import traceback
import uuid
from contextvars import ContextVar
from pathlib import Path
from typing import Any

__all__ = ["LOGGING", "facts", "milliseconds", "note", "place_of", "request_id_of"]

OURS = ("cxrflow", "uvicorn")
"""Loggers whose messages are words of their own; uvicorn's at WARNING and above quote no request."""

_ID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z0-9/_{}()<+:.-]{1,150}")

facts: ContextVar[dict[str, Any] | None] = ContextVar("facts", default=None)
"""Of the request that is being answered."""


def note(**values: str | int | float | None) -> None:
    """Add to the line of the request that is being answered: numbers, or words that were never a request's."""
    if (found := facts.get()) is not None:
        found.update(values)


def milliseconds(start: float) -> float:
    """Since a reading of time.perf_counter, for the log."""
    return round(1000 * (time.perf_counter() - start), 1)


def request_id_of(sent: bytes | None) -> str:
    """A client's own request id if it is a UUID or as many hex digits, which hold no name or number of a patient."""
    text = (sent or b"").decode("latin-1")
    return text.lower() if _ID.fullmatch(text) else str(uuid.uuid4())


def place_of(error: BaseException) -> str:
    """File and line of the innermost frames."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return "<".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))


class JsonLines(logging.Formatter):
    """`{"time": …, "level": …, "logger": …, "message": …}` and the record's `facts`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        told: dict[str, Any] = {"time": f"{now}.{int(record.msecs):03}Z", "level": record.levelname.lower()}
        told["logger"] = record.name
        ours = record.name.split(".")[0] in OURS
        told["message"] = record.getMessage() if ours else f"at {Path(record.pathname).name}:{record.lineno}"
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            told |= {"error": type(error).__name__, "place": place_of(error)}
        more = getattr(record, "facts", {})
        told |= {name: value if _is_safe(value) else "(withheld)" for name, value in more.items()}
        return json.dumps(told)


def _is_safe(value: object) -> bool:
    return value is None or isinstance(value, int | float) or bool(isinstance(value, str) and _WORD.fullmatch(value))


LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": JsonLines}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"level": "WARNING", "handlers": ["stderr"]},
    "loggers": {
        "uvicorn": {"level": "WARNING", "handlers": ["stderr"], "propagate": False},
        "cxrflow": {"level": "INFO", "handlers": ["stderr"], "propagate": False},
    },
}
"""Our own request lines replace uvicorn's access log, which would print whole URLs."""
