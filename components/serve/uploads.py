"""Who may send a body, and who may have it answered, so that slow or greedy clients do not shut others out."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from components.serve.addresses import Shares, address_of
from components.serve.config import ServeConfig
from components.serve.errors import RequestError

__all__ = ["Uploads"]


class Uploads:
    """ASGI middleware around what reads a body and answers it.

    A body being sent takes one of `max_uploads` places and, once complete, one of `max_requests` to be answered, so
    that a body that never comes holds up no answer. Of both, and of the bytes that are held in memory, one address has
    its share. A body that stalls, or comes too slowly, is given up. The application meets all this where it reads the
    body, as a RequestError.
    """

    def __init__(self, app: ASGIApp, config: ServeConfig) -> None:
        self.app, self.config = app, config
        share = config.address_share
        self.uploads = Shares(config.max_uploads, share=share)
        self.answers = Shares(config.max_requests, share=share)
        self.held = Shares(config.max_held_bytes or 8 * config.max_request_bytes, share=share)
        self.most_of_request = 2 * config.max_request_bytes
        """Bytes; what comes beyond the limit of a form or of base64 is read and dropped."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        client = scope.get("client")
        upload = _Upload(self, address_of(client[0] if client else None), receive)
        try:
            await self.app(scope, upload.receive, send)
        finally:
            upload.end()


class _Upload:
    """One request's body on its way in, and its places until it has been answered."""

    def __init__(self, room: Uploads, address: str, receive: Receive) -> None:
        self._room, self._address, self._receive = room, address, receive
        self._received, self._held, self._started, self._complete = 0, 0, 0.0, False
        self._place: Shares | None = None

    async def receive(self) -> Message:
        """As ASGI has it.

        Raises:
            RequestError: too slow, or no room.
        """
        if self._complete:
            return await self._receive()
        if self._place is None:
            if self._room.answers.is_full(self._address):
                raise _busy("The server is busy")  # rather than after an upload
            self._started = asyncio.get_running_loop().time()
            self._move_to(self._room.uploads, otherwise="Too many uploads are under way")
        message = await self._next()
        self._received += len(message.get("body", b""))
        size = min(self._received, self._room.most_of_request) - self._held
        if not self._room.held.take(self._address, size):
            raise _busy("Too many bytes of requests are held in memory")
        self._held += size
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._complete = True
            self._move_to(self._room.answers, otherwise="The server is busy")
        return message

    def end(self) -> None:
        """Give everything back."""
        self._room.held.give(self._address, self._held)
        if self._place is not None:
            self._place.give(self._address)

    def _move_to(self, place: Shares, *, otherwise: str) -> None:
        if not place.take(self._address):
            raise _busy(otherwise)
        if self._place is not None:
            self._place.give(self._address)
        self._place = place

    async def _next(self) -> Message:
        config = self._room.config
        # Every stall may take this long, and the whole as much more than it takes at the slowest rate.
        latest = self._started + config.upload_patience_s + self._received / config.least_upload_rate
        left = latest - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(min(config.upload_patience_s, left)):
                return await self._receive()
        except TimeoutError:
            message = (
                f"Nothing of the request came for {config.upload_patience_s:g} s, or it came at less than "
                f"{config.least_upload_rate} bytes a second."
            )
            raise RequestError(408, "slow-upload", message, remedy="Try again over a faster connection.") from None


def _busy(what: str) -> RequestError:
    return RequestError(429, "busy", f"{what}.", remedy="Try again in a moment.")
