"""Around every request: a count, a log line without anything a patient could be known by, and a plain 500 for a bug."""

from __future__ import annotations

import logging
import time
import traceback
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from components.serve.replies import error_reply
from components.serve.telemetry import Telemetry

__all__ = ["Guard"]

_log = logging.getLogger("cxrflow.requests")

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
)


class Guard:
    """ASGI middleware.

    Args:
        paths: those that may be logged; the text of another may hold anything.
        telemetry: that counts requests.
    """

    def __init__(self, app: ASGIApp, paths: frozenset[str], telemetry: Telemetry) -> None:
        self.app, self.paths, self.telemetry = app, paths, telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        self.telemetry.opened()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except (
            Exception
        ) as error:  # the last place to keep a bug's message, which may quote the request, out of the log
            _log.error("bug: %s at %s", type(error).__name__, _place(error))
            if status == 0:
                await error_reply(scope["path"], 500, "internal", "The server failed.")(scope, receive, watched)
        finally:
            path = scope["path"] if scope["path"] in self.paths else "(other)"
            seconds = time.perf_counter() - started
            self.telemetry.closed(path, status=status, seconds=seconds)
            _log.info("%s %s %d %.0f ms", scope["method"], path, status, 1000 * seconds)


def _place(error: Exception) -> str:
    """File and line of the innermost frames."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
