"""Large bodies through a real socket into a small application: nothing lost, nothing held twice, little copied."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import h11
import pytest
import uvicorn

from components.serve.config import ServeConfig
from components.serve.connections import _Flow, _Turns, connection_class

MIB = 1 << 20
BODY = random.Random(5).randbytes(6 * MIB + 12_345)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body's hash and its largest piece; at /unread without a look at it, at /late after a while."""
    if scope["path"] == "/late":
        await asyncio.sleep(0.5)
    digest, largest, more = hashlib.sha256(), 0, scope["path"] != "/unread"
    while more:
        message = await receive()
        more = message.get("more_body", False)
        digest.update(message["body"])
        largest = max(largest, len(message["body"]))
    told = json.dumps({"sha256": digest.hexdigest(), "largest": largest}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(told))]})
    await send({"type": "http.response.body", "body": told})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    config = uvicorn.Config(
        application, http=connection_class(ServeConfig()), ws="none", lifespan="off", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(server.serve(sockets=[listener]))

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()


@pytest.fixture
def raw(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        yield connection


def _head(path: str = "/", length: int = len(BODY), more: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{more}\r\n".encode()


def _told(raw: socket.socket) -> dict[str, Any]:
    """The next answer, and not a byte of the one behind it."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += raw.recv(1)
        assert head, "closed"
    assert head.startswith(b"HTTP/1.1 200")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    return json.loads(raw.recv(length, socket.MSG_WAITALL))


@pytest.mark.parametrize("sizes", [(MIB,), (1, 70_000, 3), (700_001, 10)])
def test_what_is_sent_arrives_in_pieces_of_any_size(raw: socket.socket, sizes: tuple[int, ...]) -> None:
    for count in (len(BODY), 1, 70_000):
        body = BODY[:count]
        raw.sendall(_head(length=count))
        at = 0
        for size in itertools.cycle(sizes):
            raw.sendall(body[at : at + size])
            at += size
            if at >= count:
                break
        assert _told(raw)["sha256"] == hashlib.sha256(body).hexdigest()


def test_pieces_that_come_before_the_application_asks_are_kept(raw: socket.socket) -> None:
    raw.sendall(_head("/late"))
    for at in range(5):
        raw.sendall(BODY[at : at + 1])
        time.sleep(0.05)
    raw.sendall(BODY[5:])
    assert _told(raw)["sha256"] == hashlib.sha256(BODY).hexdigest()


def test_requests_behind_a_body_are_requests(raw: socket.socket) -> None:
    threading.Thread(target=raw.sendall, args=((_head() + BODY) * 2 + _head(length=3) + b"abc",)).start()
    for body in (BODY, BODY, b"abc"):
        assert _told(raw)["sha256"] == hashlib.sha256(body).hexdigest()


def test_a_body_that_is_not_read_is_passed_over(raw: socket.socket) -> None:
    raw.sendall(_head("/unread"))
    assert _told(raw)["largest"] == 0
    raw.sendall(BODY)
    raw.sendall(_head() + BODY)
    assert _told(raw)["sha256"] == hashlib.sha256(BODY).hexdigest()


def test_a_client_that_asks_first_is_told_to_continue(raw: socket.socket) -> None:
    raw.sendall(_head(more="Expect: 100-continue\r\n"))
    assert raw.recv(1000).startswith(b"HTTP/1.1 100")
    raw.sendall(BODY)
    assert _told(raw)["sha256"] == hashlib.sha256(BODY).hexdigest()


def test_a_body_of_unknown_length_arrives(raw: socket.socket) -> None:
    raw.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    raw.sendall(b"%x\r\n%b\r\n" % (len(BODY), BODY) + b"0\r\n\r\n")
    assert _told(raw)["sha256"] == hashlib.sha256(BODY).hexdigest()


def test_little_of_a_body_goes_through_h11_and_it_comes_in_large_pieces(
    raw: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    through, receive_data = 0, h11.Connection.receive_data

    def counted(self: h11.Connection, data: bytes) -> None:
        nonlocal through
        through += len(data)
        receive_data(self, data)

    monkeypatch.setattr(h11.Connection, "receive_data", counted)
    raw.sendall(_head() + BODY)
    assert _told(raw)["largest"] > MIB // 2
    assert through < len(BODY) // 2


def test_many_bodies_at_a_time_arrive_in_large_pieces(port: int) -> None:
    with contextlib.ExitStack() as clients:
        raws = [
            clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30)) for _ in range(3 * 4 + 1)
        ]
        senders = [threading.Thread(target=raw.sendall, args=((_head() + BODY) * 2,)) for raw in raws]
        for sender in senders:
            sender.start()
        told = [_told(raw) for _ in range(2) for raw in raws]
        for sender in senders:
            sender.join()
    assert {each["sha256"] for each in told} == {hashlib.sha256(BODY).hexdigest()}
    assert sum(each["largest"] > MIB // 2 for each in told) > len(told) // 2


class Paused:
    """A transport that knows how often it was told to go on."""

    def __init__(self) -> None:
        self.went_on = 0

    def pause_reading(self) -> None:
        """As a transport's."""

    def resume_reading(self) -> None:
        """As a transport's."""
        self.went_on += 1


def test_few_bodies_go_on_in_a_turn_of_the_event_loop_and_in_their_order() -> None:
    """Every connection is read once in it, and /healthz has to wait for all of them."""

    async def of_each_turn() -> list[list[int]]:
        turns, transports = _Turns(), [Paused() for _ in range(6)]
        flows = [_Flow(transport, turns) for transport in transports]  # type: ignore[arg-type]
        for flow in flows:
            flow.pause_reading()
        for flow in flows:
            flow.resume_reading()
            flow.resume_reading()  # whoever asks twice has one turn
        flows[3].pause_reading()  # no longer wants to
        found = []
        for _ in range(5):
            found.append([transport.went_on for transport in transports])
            await asyncio.sleep(0)
        flows[3].resume_reading()
        return [*found, [transports[3].went_on]]

    first, second, *_, last, alone = asyncio.run(of_each_turn())
    assert first == [1, 1, 0, 0, 0, 0]
    assert second == [1, 1, 1, 0, 1, 0]
    assert last == [1, 1, 1, 0, 1, 1]
    assert alone == [1]
