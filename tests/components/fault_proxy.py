"""An HTTP proxy on loopback between a storage client and its server that breaks a seeded share of the requests."""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

FAULTS = (
    "429", "503",  # answered without asking the server
    "503-after", "reset-after",  # the server has done it, but the answer is lost
    "reset", "stall",
    "cut-up", "cut-down",  # the connection breaks in the middle of a body
    "short-up", "short-down", "flip-up", "flip-down",  # whole to HTTP, but other bytes than were sent
)  # fmt: skip

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


class FaultProxy(ThreadingHTTPServer):
    """Forwards to `upstream`; of the requests, `rate` are broken by one of `faults`, each as often as the others.

    Attributes:
        rate: may be changed while it runs, as may faults and
        budget: how many more requests are broken; None for no end.
        injected: how often each fault was injected.
        requests: how many requests came in.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, upstream: str, *, seed: int, rate: float, faults: Sequence[str] = FAULTS, stall_s: float = 4.0
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.rate, self.faults, self.stall_s = upstream, rate, tuple(faults), stall_s
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.injected: Counter[str] = Counter()
        self.requests = 0
        self.budget: int | None = None
        self.stopping = threading.Event()
        self._rng, self._lock = random.Random(seed), threading.Lock()
        self._deck: list[str] = []
        self.finished: dict[str, tuple[int, dict[str, str], bytes]] = {}
        """Answers to finished uploads by path: Google repeats them when asked again, this server says 404."""

    def next_fault(self, *, carries: str) -> str | None:
        """What to do to a request that carries an object "up", "down", or nothing; faults wait for what they fit."""
        with self._lock:
            self.requests += 1
            if self.budget == 0 or self._rng.random() >= self.rate:
                return None
            fits = [fault for fault in self._deck if _fits(fault, carries)]
            if not fits:
                self._deck = [fault for fault in self._deck if fault in self.faults]
                self._deck += self._rng.sample(self.faults, len(self.faults))
                fits = [fault for fault in self._deck if _fits(fault, carries)]
            if not fits:
                return None
            self._deck.remove(fits[0])
            if self.budget is not None:
                self.budget -= 1
            self.injected[fits[0]] += 1
            return fits[0]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


@contextmanager
def fault_proxy(upstream: str, **settings: Any) -> Iterator[FaultProxy]:
    """A running proxy; see FaultProxy."""
    proxy = FaultProxy(upstream, **settings)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.stopping.set()
        proxy.shutdown()
        thread.join()
        proxy.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultProxy

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.next_fault(carries=self._carries(body))
        match fault:
            case "429" | "503":
                self._answer(int(fault), {}, b"")
                return
            case "reset":
                self._reset()
                return
            case "stall":
                self.server.stopping.wait(self.server.stall_s)
                self._reset()
                return
            case "short-up":
                body = body[: len(body) // 2]
            case "flip-up":
                body = _flipped(body)
        with suppress(OSError, http.client.HTTPException):
            found = self.server.finished.get(self.path)
            status, headers, answer = found or self._forward(body, cut=fault == "cut-up")
            if self.command == "PUT" and status == 200:
                self.server.finished[self.path] = status, headers, answer
            self._finish(fault, status, headers, answer)
            return
        self._reset()

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _handle

    def _carries(self, body: bytes) -> str:
        """Which way an object travels: in the JSON around it a flipped bit would be another request."""
        if self.command == "PUT" or "uploadType=multipart" in self.path:
            return "up" if body else ""
        return "down" if "alt=media" in self.path else ""

    def _forward(self, body: bytes, *, cut: bool) -> tuple[int, dict[str, str], bytes]:
        address = urlsplit(self.server.upstream)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body[: len(body) // 2] if cut else body)
            if cut:
                raise ConnectionResetError
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def _finish(self, fault: str | None, status: int, headers: dict[str, str], answer: bytes) -> None:
        match fault:
            case "503-after":
                self._answer(503, {}, b"")
            case "reset-after":
                self._reset()
            case "short-down":
                self._answer(status, headers, answer[: len(answer) // 2])
            case "flip-down":
                self._answer(status, headers, _flipped(answer))
            case "cut-down" if len(answer) > 1:
                self._answer(status, headers, answer, sent=len(answer) // 2)
                self._reset()
            case _:
                self._answer(status, headers, answer)

    def _answer(self, status: int, headers: dict[str, str], body: bytes, *, sent: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value.replace(self.server.upstream, self.server.url))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:sent])
            self.wfile.flush()

    def _reset(self) -> None:
        """Close with RST, as a router does that forgot the connection."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def _fits(fault: str, carries: str) -> bool:
    return not fault.endswith(("-up", "-down")) or (bool(carries) and fault.endswith(carries))


def _flipped(data: bytes) -> bytes:
    """The data with one bit of its middle byte flipped."""
    if not data:
        return data
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
