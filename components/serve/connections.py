"""Connections that end: uvicorn's, with limits on their number, slow headers, idling and answers not taken."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections import deque
from typing import Any

import h11
from h11._readers import ContentLengthReader
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol

from components.serve.addresses import Shares, address_of, is_proxy, most_connections
from components.serve.config import ServeConfig

__all__ = ["BACKLOG", "Loop", "calm", "connection_class"]

BACKLOG = 64
"""Connections that wait to be accepted, and that asyncio accepts before it does anything else: uvicorn's 2,048 would
pass any limit on their number."""
_SMALL_PIECE, _LARGE_PIECE = 1 << 18, 1 << 20
"""Bytes that asyncio reads at a time: its own choice, and of a body that is being taken."""
_BODIES_A_TURN = 2
"""That may go on in one turn of the event loop, for which /healthz has to wait."""
_QUIET_S = 10.0
"""Between two lines of the log about the same thing."""
_OUT_OF_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_log = logging.getLogger("cxrflow.connections")


class _Told:
    """Counts what happens too often for a line each."""

    def __init__(self, what: str) -> None:
        self._what, self._count, self._next = what, 0, 0.0

    def again(self) -> None:
        self._count += 1
        if (now := time.monotonic()) >= self._next:
            _log.warning(self._what, self._count)
            self._count, self._next = 0, now + _QUIET_S


class _Turns:
    """Lets few bodies go on in each turn of the event loop, in the order in which they can."""

    def __init__(self) -> None:
        self._left, self._waiting = _BODIES_A_TURN, deque[_Flow]()

    def ask(self, flow: _Flow) -> None:
        if self._left == _BODIES_A_TURN:
            asyncio.get_running_loop().call_soon(self._next)
        if self._left:
            self._left -= 1
            flow.go_on()
        else:
            self._waiting.append(flow)

    def _next(self) -> None:
        self._left = _BODIES_A_TURN
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next)
        while self._left and self._waiting:
            self._left -= self._waiting.popleft().go_on()


class _Flow(FlowControl):
    """uvicorn's, but a connection that was paused reads on when it is its turn."""

    def __init__(self, transport: asyncio.Transport, turns: _Turns) -> None:
        super().__init__(transport)
        self._turns, self._asked = turns, False

    def pause_reading(self) -> None:
        self._asked = False
        super().pause_reading()

    def resume_reading(self) -> None:
        if self.read_paused and not self._asked:
            self._asked = True
            self._turns.ask(self)

    def go_on(self) -> bool:
        """Whether it still wanted to."""
        if asked := self._asked:
            self._asked = False
            super().resume_reading()
        return asked


def connection_class(config: ServeConfig) -> type[asyncio.Protocol]:
    """The class of connections that `uvicorn.Config(http=…)` takes.

    A connection is closed when there are too many, in all or of its address; when the header of a request has not
    arrived `header_timeout_s` after the connection was opened, or after the header's first byte; when nothing comes for
    `idle_timeout_s` after an answer; when what is left of a refused body has not arrived by then; and when an answer is
    not taken within `timeout_s`. Bodies are uploads.py's.
    """
    shares = Shares(most_connections(config), share=config.address_share)
    turns = _Turns()
    refused = _Told("%d connections closed at once: there are too many")

    class Connection(H11Protocol):
        deadline: asyncio.TimerHandle | None = None
        write_deadline: asyncio.TimerHandle | None = None
        counted_as: str | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            peer = transport.get_extra_info("peername")
            host = peer[0] if peer else None
            address = address_of(host)
            if not shares.take(address, limited=not is_proxy(host, config)):
                refused.again()
                transport.abort()
                return
            self.counted_as = address
            super().connection_made(transport)
            self.flow = _Flow(transport, turns)
            self._close_after(config.header_timeout_s)

        def connection_lost(self, exc: Exception | None) -> None:
            if self.counted_as is None:
                return
            shares.give(self.counted_as)
            self.counted_as = None
            self._forget_deadline()
            self.resume_writing()
            super().connection_lost(exc)
            self._unset_keepalive_if_required()

        def data_received(self, data: bytes) -> None:
            if self.counted_as is None:
                return
            if self.deadline is None and (self.cycle is None or self.cycle.response_complete):
                self._close_after(config.header_timeout_s)  # the first byte of a header
            awaited = self.cycle is not None and not self.cycle.body  # the application has taken what came before
            if not self._pass_on(data):
                super().data_received(data)
            # Every piece costs some .2 ms on its way to the application. One that does not read holds a small piece.
            self.transport.max_size = _LARGE_PIECE if awaited else _SMALL_PIECE  # type: ignore[attr-defined]

        def _pass_on(self, data: bytes) -> bool:
            """Hand a piece from within a body of known length to the application; false for all else, which h11 must
            see. Its buffer and uvicorn's copy every byte five times, which took longer than a small model."""
            reader = self.conn._reader
            if self.conn.their_state is not h11.SEND_BODY or not isinstance(reader, ContentLengthReader):
                return False
            if self.conn._receive_buffer or reader._remaining <= len(data):
                return False
            reader._remaining -= len(data)
            if self.conn.our_state is not h11.DONE:  # there is no answer yet
                # Bytes, so that uvicorn passes them on without a copy.
                self.cycle.body = self.cycle.body + data if self.cycle.body else data  # type: ignore[assignment]
                if len(self.cycle.body) > HIGH_WATER_LIMIT:
                    self.flow.pause_reading()  # until it is taken
                self.cycle.message_event.set()
            return True

        def handle_events(self) -> None:
            before = self.cycle
            super().handle_events()
            if self.cycle is not before:
                self._forget_deadline()  # a header is complete

        def on_response_complete(self) -> None:
            before = self.cycle
            super().on_response_complete()
            if self.cycle is before and self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
                self._close_after(config.idle_timeout_s)  # a body that nobody reads any more

        def pause_writing(self) -> None:
            super().pause_writing()
            self.write_deadline = self.loop.call_later(config.timeout_s, self.transport.abort)

        def resume_writing(self) -> None:
            if self.write_deadline is not None:
                self.write_deadline.cancel()
                self.write_deadline = None
            super().resume_writing()

        def _close_after(self, seconds: float) -> None:
            self._forget_deadline()
            self.deadline = self.loop.call_later(seconds, self.transport.close)

        def _forget_deadline(self) -> None:
            if self.deadline is not None:
                self.deadline.cancel()
                self.deadline = None

    return Connection


class Loop(asyncio.SelectorEventLoop):
    """asyncio's, whose TLS connections end in time: uvicorn leaves a client 60 s for the handshake, and 30 s to end."""

    def __init__(self, tls_timeout_s: float) -> None:
        super().__init__()
        self._tls_timeout_s = tls_timeout_s

    async def create_server(self, *args: Any, **options: Any) -> asyncio.Server:
        """As asyncio's."""
        if options.get("ssl") is not None:
            options |= dict.fromkeys(("ssl_handshake_timeout", "ssl_shutdown_timeout"), self._tls_timeout_s)
        return await super().create_server(*args, **options)


def calm(loop: asyncio.AbstractEventLoop) -> None:
    """Have one line in ten seconds say that no connection can be accepted; asyncio writes a traceback for each of 64
    tries a second, and goes on accepting once there is room."""
    full = _Told("no connection can be accepted, %d tries: too many open files (ulimit -n, serve.max_connections)")

    def handle(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _OUT_OF_ROOM:
            full.again()
        elif isinstance(error, OSError):
            _log.warning("a connection failed: %s", error.strerror)
        else:  # its message may quote what was sent
            _log.error("bug: %s in the event loop", type(error).__name__)

    loop.set_exception_handler(handle)
