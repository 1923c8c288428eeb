"""A real server against clients that are slow, silent or many, at 127.0.0.1 and 127.0.0.2 as two addresses."""

from __future__ import annotations

import contextlib
import http.client
import resource
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from components.serve.config import ServeConfig
from components.serve.golden import RunningServer, running_server

HEADER_S, PATIENCE_S, IDLE_S = 0.6, 0.8, 1
MARGIN_S = 5.0
"""Of a busy machine; far below what uvicorn would wait, which is for ever."""
LIMITS = {
    "header_timeout_s": HEADER_S,
    "upload_patience_s": PATIENCE_S,
    "least_upload_rate": 1000,
    "idle_timeout_s": IDLE_S,
    "max_uploads": 8,
    "max_connections": 24,
    "proxies": ("127.0.0.3/32",),
    "startup_timeout_s": 300,
}
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
PREDICT = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n" + FORM
OTHER, PROXY = ("127.0.0.2", 0), ("127.0.0.3", 0)


@pytest.fixture(scope="module")
def strict(evaluated) -> Iterator[RunningServer]:
    with running_server(ServeConfig(**LIMITS), evaluated.bundle, evaluated.evaluation) as server:
        yield server
    assert server.process.returncode == 0, server.log


@pytest.fixture
def connect(strict, request):
    with contextlib.ExitStack() as stack:

        def opened(source=None, address=strict.address):
            host, port = address.removeprefix("http://").split(":")
            return stack.enter_context(socket.create_connection((host, int(port)), timeout=30, source_address=source))

        yield opened
    time.sleep(0.1)  # for the server to notice


def _closed_after(raw) -> float:
    """Seconds until the server closes the connection."""
    start = time.monotonic()
    with contextlib.suppress(ConnectionResetError):
        while raw.recv(1 << 16):
            pass
    return time.monotonic() - start


def _answer(raw, body=b"text=cough") -> int:
    raw.sendall(PREDICT + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    return _status(raw)


def _status(raw) -> int:
    response = http.client.HTTPResponse(raw)
    response.begin()
    response.read()
    return response.status


def test_a_connection_that_says_nothing_is_closed(connect):
    assert HEADER_S - 0.1 < _closed_after(connect()) < HEADER_S + MARGIN_S


def test_a_header_that_trickles_in_is_cut_off_by_its_first_byte(connect):
    raw = connect()
    start = time.monotonic()
    with contextlib.suppress(ConnectionError):
        for byte in PREDICT + b"X-Slow: " + b"a" * 200:
            raw.sendall(bytes([byte]))
            time.sleep(0.1)
    assert HEADER_S - 0.1 < time.monotonic() - start < HEADER_S + MARGIN_S


def test_a_second_header_that_trickles_in_is_cut_off_too(connect):
    raw = connect()
    assert _answer(raw) == 200
    raw.sendall(b"GET /hea")
    raw.settimeout(HEADER_S + MARGIN_S)
    assert _closed_after(raw) < HEADER_S + MARGIN_S


def test_an_idle_connection_is_closed_and_one_that_asks_is_not(connect):
    raw = connect()
    for _ in range(3):
        assert _answer(raw) == 200
        time.sleep(IDLE_S / 2)
    assert _closed_after(raw) < IDLE_S + MARGIN_S


def test_a_body_that_stalls_is_told_so_and_closed(connect):
    raw = connect()
    start = time.monotonic()
    raw.sendall(PREDICT + b"Content-Length: 1000\r\n\r\ntext=cou")
    response = http.client.HTTPResponse(raw)
    response.begin()
    assert response.status == 408
    assert b"slow-upload" in response.read()
    assert PATIENCE_S - 0.1 < time.monotonic() - start < PATIENCE_S + MARGIN_S
    assert _closed_after(raw) < IDLE_S + MARGIN_S


def test_a_body_that_trickles_in_is_cut_off(connect):
    raw = connect()
    raw.sendall(PREDICT + b"Content-Length: 100000\r\n\r\ntext=")
    start = time.monotonic()
    raw.settimeout(0.1)
    reply = b""
    while not reply and time.monotonic() - start < 30:
        raw.sendall(b"a" * 10)  # a tenth of the least rate
        with contextlib.suppress(TimeoutError):
            reply = raw.recv(1 << 16)
    assert reply.startswith(b"HTTP/1.1 408")


def test_a_body_at_more_than_the_least_rate_is_answered_however_long_it_takes(connect):
    raw = connect()
    text = b"text=cough" + b"+" * 4000
    raw.sendall(PREDICT + b"Content-Length: %d\r\n\r\n" % len(text))
    for first in range(0, len(text), 400):
        raw.sendall(text[first : first + 400])
        time.sleep(0.15)
    assert _status(raw) == 200  # 1.5 s: longer than a stall may be


def test_what_is_left_of_a_body_that_nobody_reads_does_not_keep_the_connection(connect):
    raw = connect()
    raw.sendall(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
    assert _status(raw) == 404
    start = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while time.monotonic() - start < 30:
            raw.sendall(b"a")
            time.sleep(0.1)
    assert time.monotonic() - start < IDLE_S + MARGIN_S


def test_half_sent_bodies_of_one_address_do_not_shut_another_out(connect):
    half_sent = [connect() for _ in range(6)]
    for raw in half_sent:
        raw.sendall(PREDICT + b"Content-Length: 1000\r\n\r\ntext=cou")
    time.sleep(0.2)
    refused = connect()
    assert _answer(refused) == 429  # of the same address: four of eight places are its
    assert _answer(connect(OTHER)) == 200
    for raw in half_sent:
        _closed_after(raw)
    assert _answer(connect()) == 200


def test_connections_of_one_address_do_not_shut_another_out(connect, strict):
    ours = [connect() for _ in range(12)]
    time.sleep(0.1)
    assert _closed_after(connect()) < HEADER_S / 2
    assert _answer(connect(OTHER)) == 200
    for raw in ours:
        _closed_after(raw)
    assert _answer(connect()) == 200
    assert "connections closed at once" in strict.log.read_text()


def test_a_client_does_not_choose_its_address(connect):
    for i in range(6):
        raw = connect()
        raw.sendall(PREDICT + b"X-Forwarded-For: 192.0.2.%d\r\nContent-Length: 1000\r\n\r\ntext=" % i)
    time.sleep(0.2)
    assert _answer(connect()) == 429


def test_behind_a_proxy_its_clients_are_told_apart(connect):
    def forwarded(client: bytes, body: bytes, length: int) -> socket.socket:
        raw = connect(PROXY)
        raw.sendall(PREDICT + b"X-Forwarded-For: %s\r\nContent-Length: %d\r\n\r\n" % (client, length) + body)
        return raw

    half_sent = [forwarded(b"192.0.2.1", b"text=", 1000) for _ in range(4)]
    time.sleep(0.2)
    assert _status(forwarded(b"192.0.2.1", b"text=cough", 10)) == 429
    assert _status(forwarded(b"192.0.2.2", b"text=cough", 10)) == 200
    assert len(half_sent) == 4


@pytest.fixture(scope="module")
def few_files(evaluated) -> Iterator[RunningServer]:
    """A server that found a file limit of 256 when it started."""
    config = ServeConfig(max_connections=10_000, address_share=1.0, header_timeout_s=3, startup_timeout_s=300)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        with running_server(config, evaluated.bundle, evaluated.evaluation) as server:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            yield server
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_more_connections_than_files_are_refused_before_the_limit(few_files, connect):
    many = [connect(None, few_files.address) for _ in range(300)]
    time.sleep(0.5)
    log = few_files.log.read_text()
    assert "closed at once" in log
    assert "too many open files" not in log
    assert len(log) < 5000
    assert len(many) == 300


def test_at_the_file_limit_the_log_stays_calm_and_the_server_comes_back(few_files, connect):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.prlimit(few_files.process.pid, resource.RLIMIT_NOFILE, (64, most))  # below what it counts with
    before = len(few_files.log.read_text())
    many = [connect(None, few_files.address) for _ in range(100)]
    time.sleep(2.5)
    log = few_files.log.read_text()[before:]
    assert "no connection can be accepted" in log
    assert len(log) < 5000
    for raw in many:
        raw.close()
    with httpx.Client(base_url=few_files.address, timeout=30, trust_env=False) as web:
        assert web.post("/v1/predict", data={"text": "cough"}).status_code == 200
