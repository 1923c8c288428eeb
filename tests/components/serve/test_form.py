import asyncio
import tempfile

import pytest
from starlette.requests import Request

from components.serve.config import ServeConfig
from components.serve.errors import RequestError
from components.serve.form import read_form

KIND = b"multipart/form-data; boundary=x"
START = b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\ncough'


def _read(receive, *, kind=KIND, **config):
    request = Request({"type": "http", "method": "POST", "headers": [(b"content-type", kind)]}, receive)
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


def test_a_film_full_of_the_boundary_is_refused_at_once():
    """Each false end costs Python's time: six bodies of 54 MB kept everybody waiting for over a minute."""
    start = b'--x\r\nContent-Disposition: form-data; name="files"; filename="f"\r\n\r\n'
    receive, _ = _chunks(start, *[b"\r\n--x\0" * 100_000] * 2, b"\r\n--x--\r\n")
    with pytest.raises(RequestError) as caught:
        _read(receive)
    assert (caught.value.status, caught.value.code) == (400, "bad-form")


@pytest.mark.parametrize("piece", [b"\r", b"\r\n", b"\r\n--", b"-", b"x"])
def test_parts_of_a_boundary_are_a_films_own_bytes(piece):
    start = b'--x\r\nContent-Disposition: form-data; name="files"; filename="f"\r\n\r\n'
    body = start + piece * 20_000 + b"\r\n--x--\r\n"
    for size in (1460, 1 << 18):
        receive, _ = _chunks(*(body[i : i + size] for i in range(0, len(body), size)))
        assert _read(receive).files == [piece * 20_000]


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


def _film_part(name, data, filename="f"):
    told = f"; filename={filename!r}".replace("'", '"') if filename is not None else ""
    return f'--x\r\nContent-Disposition: form-data; name="{name}"{told}\r\n\r\n'.encode() + data + b"\r\n"


@pytest.mark.parametrize("size", [1, 7, 50, 1 << 20])
def test_films_come_out_as_they_went_in_wherever_chunks_end(size):
    films = [bytes(range(256)) * 3, b"\r\n--y--\r\n-", b"\r\n--"]
    body = b"".join(_film_part("files", film) for film in films) + _film_part("text", b"cough", None) + b"--x--\r\n"
    receive, _ = _chunks(*[body[at : at + size] for at in range(0, len(body), size)])
    form = _read(receive)
    assert (form.files, form.text) == (films, "cough")


def test_no_film_touches_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "there is no such folder"))
    film = bytes(3 << 20)
    receive, _ = _chunks(_film_part("files", film), b"--x--\r\n")
    assert _read(receive).files == [film]


@pytest.mark.parametrize(
    "body",
    [
        _film_part("files", b"half a film")[:-2],
        b"--x\r\nContent-Disposition: form-data\r\n\r\nwhat is this\r\n--x--\r\n",
        b"no boundary at all",
        _film_part("text", b"a" * 500, None) + b"--x--\r\n",
        _film_part("files", b"1") * 4 + b"--x--\r\n",
        _film_part("text", b"1", None) * 10 + b"--x--\r\n",
    ],
    ids=["no end", "no name", "no boundary", "a long text", "many films", "many texts"],
)
def test_a_damaged_form_is_refused(body):
    receive, _ = _chunks(body)
    with pytest.raises(RequestError) as caught:
        _read(receive, max_files=2, max_text_chars=100)
    assert (caught.value.status, caught.value.code) == (400, "bad-form")


def test_a_form_without_a_boundary_is_refused():
    receive, _ = _chunks(_film_part("files", b"a film") + b"--x--\r\n")
    with pytest.raises(RequestError) as caught:
        _read(receive, kind=b"multipart/form-data")
    assert (caught.value.status, caught.value.code) == (400, "bad-form")


def test_one_film_too_many_is_told_by_its_limit():
    receive, _ = _chunks(_film_part("files", b"1") * 3 + b"--x--\r\n")
    with pytest.raises(RequestError, match="more than 2 films"):
        _read(receive, max_files=2)


def test_a_text_in_another_encoding_is_read():
    receive, _ = _chunks(_film_part("text", "Röntgen".encode("latin-1"), None) + b"--x--\r\n")
    assert _read(receive).text == "Röntgen"


def test_a_plain_form_is_read():
    receive, _ = _chunks(b"text=cough+and%20fi", b"%C3%A8vre&sex=f")
    form = _read(receive, kind=b"application/x-www-form-urlencoded")
    assert (form.text, form.sex, form.files) == ("cough and fièvre", "F", [])


def test_a_film_in_a_text_field_is_refused():
    receive, _ = _chunks(_film_part("text", b"a film") + b"--x--\r\n")
    with pytest.raises(RequestError) as caught:
        _read(receive)
    assert (caught.value.status, caught.value.code) == (422, "bad-field")


def test_an_empty_file_input_of_a_browser_is_nothing():
    receive, _ = _chunks(_film_part("files", b"", filename="") + _film_part("text", b"cough", None) + b"--x--\r\n")
    assert _read(receive).files == []
