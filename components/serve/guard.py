"""Around every request: a count, a log line without anything a patient could be known by, and a plain 500 for a bug."""

from __future__ import annotations

import logging
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from components.serve.json_log import facts, place_of, request_id_of
from components.serve.replies import error_reply
from components.serve.telemetry import Telemetry

__all__ = ["Guard"]

_log = logging.getLogger("cxrflow.requests")

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
)
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")


class Guard:
    """ASGI middleware, the outermost.

    Args:
        telemetry: that counts requests.
    """

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self.app, self.telemetry = app, telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, size = time.perf_counter(), 0, {"in": 0, "out": 0}
        request_id = request_id_of(dict(scope["headers"]).get(b"x-request-id"))
        noted: dict[str, Any] = {}
        token = facts.set(noted)
        self.telemetry.opened()

        async def received() -> Message:
            message = await receive()
            size["in"] += len(message.get("body", b""))
            return message

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = (*_HEADERS, (b"x-request-id", request_id.encode()))
                message["headers"] = [*message.get("headers", []), *own]
            size["out"] += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, received, watched)
        except (
            Exception
        ) as error:  # the last place to keep a bug's message, which may quote the request, out of the log
            noted["code"] = "internal"
            bug = {"request_id": request_id, "error": type(error).__name__, "place": place_of(error)}
            _log.error("bug", extra={"facts": bug})
            if status == 0:
                await error_reply(scope["path"], 500, "internal", "The server failed.")(scope, received, watched)
        finally:
            facts.reset(token)
            # The route's own words: those of the request may hold anything.
            path = getattr(scope.get("route"), "path", None) or "(other)"
            seconds = time.perf_counter() - started
            self.telemetry.closed(path, status=status, seconds=seconds)
            told = {
                "request_id": request_id,
                "method": scope["method"] if scope["method"] in _METHODS else "(other)",
                "path": path,
                "status": status,
                "ms": round(1000 * seconds, 1),
                "bytes_in": size["in"],
                "bytes_out": size["out"],
                **noted,
            }
            _log.info("request", extra={"facts": told})
