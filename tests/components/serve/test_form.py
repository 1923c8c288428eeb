import asyncio

import pytest
from starlette.requests import Request

from components.serve.config import ServeConfig
from components.serve.errors import RequestError
from components.serve.form import read_form

HEADERS = [(b"content-type", b"multipart/form-data; boundary=x")]
START = b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\ncough'


def _read(receive, **config):
    request = Request({"type": "http", "method": "POST", "headers": HEADERS}, receive)
    return asyncio.run(read_form(request, ServeConfig(**config)))


def _chunks(*chunks):
    left = list(chunks)

    async def receive():
        chunk = left.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(left)}

    return receive, left


def test_a_form_in_pieces_is_put_together():
    receive, _ = _chunks(START, b" and fever\r\n-", b"-x--\r\n")
    assert _read(receive).text == "cough and fever"


def test_an_upload_that_stalls_is_refused():
    async def receive():
        await asyncio.sleep(30)

    with pytest.raises(RequestError) as caught:
        _read(receive, timeout_s=0.05)
    assert (caught.value.status, caught.value.code) == (408, "slow-upload")


def test_an_upload_that_breaks_off_is_refused():
    async def receive():
        return {"type": "http.disconnect"}

    with pytest.raises(RequestError) as caught:
        _read(receive)
    assert (caught.value.status, caught.value.code) == (400, "disconnected")


def test_too_large_a_body_is_read_on_for_a_while_but_not_for_ever():
    receive, left = _chunks(START, *[b"a" * 50] * 10)
    with pytest.raises(RequestError) as caught:
        _read(receive, max_request_bytes=100)
    assert (caught.value.status, caught.value.code) == (413, "request-too-large")
    assert 3 < len(left) < 9


def test_a_large_film_stays_in_memory(monkeypatch):
    def refuse(_):
        raise AssertionError("a film was written to the disk")

    monkeypatch.setattr("tempfile.SpooledTemporaryFile.rollover", refuse)
    film = bytes(3 << 20)
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="f"\r\n\r\n'
    receive, _ = _chunks(head, film, b"\r\n--x--\r\n")
    assert _read(receive).files == [film]
