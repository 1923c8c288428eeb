"""Compressed pixels whose fragments are padded, delimited or numbered otherwise than PS3.5 A.4 says."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from benchmarks.film_files import make_film, transcode
from components.cxr.films.fragments import code_stream, is_complete
from components.cxr.films.pixels import read_film
from tests.components.cxr.films.pixel_films import DISPLAY, code_of

HTJ2K = "1.2.840.10008.1.2.4.201"
SYNTAXES = [
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
    HTJ2K,
    RLELossless,
]
ITEM, DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"


def film(syntax: str) -> tuple[bytes, bytes]:
    """A compressed film up to its pixel data's value, and its code stream."""
    data = transcode(make_film(60, 50, bits=8 if syntax == JPEGBaseline8Bit else 12), syntax)
    start = data.rindex(b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff") + 12
    return data[:start], code_stream(data, start)


def item(value: bytes) -> bytes:
    return ITEM + len(value).to_bytes(4, "little") + value


PADDINGS = {
    "none": b"",
    "one byte": b"\0",
    "100 zeros": bytes(100),
    "70000 zeros": bytes(70_000),
    "ones": b"\xff" * 90,
    "spaces": b" " * 90,
    "anything": b"left in the buffer" * 20,
}


@pytest.mark.parametrize("syntax", SYNTAXES[:-1])
@pytest.mark.parametrize("padding", list(PADDINGS))
def test_what_follows_the_end_of_a_stream_is_padding(syntax: str, padding: str) -> None:
    head, stream = film(syntax)
    expected = read_film(head + item(b"") + item(stream) + DELIMITER, preset=DISPLAY).pixels
    padded = head + item(b"") + item(stream.rstrip(b"\0") + PADDINGS[padding]) + DELIMITER
    assert np.array_equal(read_film(padded, preset=DISPLAY).pixels, expected)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    "end",
    [
        b"",
        bytes(16),
        DELIMITER[:4],
        b"\xfe\xff\x0d\xe0\0\0\0\0",
        DELIMITER + bytes(7),
        b"\xfc\xff\xfc\xffOB" + bytes(90),
    ],
)
def test_the_delimiter_may_be_missing(syntax: str, end: bytes) -> None:
    head, stream = film(syntax)
    expected = read_film(head + item(b"") + item(stream) + DELIMITER, preset=DISPLAY).pixels
    assert np.array_equal(read_film(head + item(b"") + item(stream) + end, preset=DISPLAY).pixels, expected)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_other_ways_to_write_fragments(syntax: str) -> None:
    head, stream = film(syntax)
    expected = read_film(head + item(b"") + item(stream) + DELIMITER, preset=DISPLAY).pixels
    half = len(stream) // 4 * 2
    two = item(stream[:half]) + item(stream[half:])
    offsets = (0).to_bytes(4, "little") + (half + 8).to_bytes(4, "little")
    ways = {
        "one offset": item(bytes(4)) + item(stream),
        "an offset per fragment": item(offsets) + two,
        "offsets of nowhere": item(b"\xff" * 6) + two,
        "an empty fragment": item(b"") + item(b"") + two + item(b""),
        "no offset table": item(stream),
    }
    for way, value in ways.items():
        assert np.array_equal(read_film(head + value + DELIMITER, preset=DISPLAY).pixels, expected), way


@pytest.mark.parametrize("syntax", SYNTAXES[:-1])
def test_a_fragment_that_says_too_much_is_read_when_the_frame_is_whole(syntax: str) -> None:
    head, stream = film(syntax)
    expected = read_film(head + item(b"") + item(stream) + DELIMITER, preset=DISPLAY).pixels
    for length in (len(stream) + 1000, 0xFFFFFFFF):
        data = head + item(b"") + ITEM + length.to_bytes(4, "little") + stream
        assert np.array_equal(read_film(data, preset=DISPLAY).pixels, expected)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("part", [0.5, 0.9])
def test_a_frame_cut_short_is_truncated_whatever_follows(syntax: str, part: float) -> None:
    head, stream = film(syntax)
    cut = stream[: int(len(stream) * part) // 2 * 2]
    for padding in (b"", bytes(100)):
        assert code_of(head + item(b"") + item(cut + padding) + DELIMITER) in ("truncated", "undecodable")
    assert code_of(head + item(b"") + item(stream)[: len(cut)]) in ("truncated", "undecodable")
    assert code_of(head) == "truncated"


def test_the_end_of_a_thumbnail_is_not_the_end() -> None:
    """EXIF and JFIF segments hold whole small JPEG images."""
    _, small = cv2.imencode(".jpg", np.zeros((8, 8), np.uint8))
    head, stream = film(JPEGBaseline8Bit)
    thumbnail = small.tobytes()
    with_thumbnail = stream[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + stream[2:]
    expected = read_film(head + item(b"") + item(stream) + DELIMITER, preset=DISPLAY).pixels
    assert np.array_equal(
        read_film(head + item(b"") + item(with_thumbnail) + DELIMITER, preset=DISPLAY).pixels, expected
    )
    assert not is_complete(with_thumbnail[: -len(stream) // 2])
    assert code_of(head + item(b"") + item(with_thumbnail[: -len(stream) // 2]) + DELIMITER) == "truncated"


def test_the_end_inside_the_headers_of_jpeg_2000_is_not_the_end() -> None:
    head, stream = film(JPEG2000Lossless)
    comment = b"\xff\x64\x00\x08\x00\x01\xff\xd9\xff\x93"
    tile = stream.index(b"\xff\x90")
    commented = stream[:tile] + comment + stream[tile:]
    assert is_complete(commented)
    assert not is_complete(commented[: len(stream) // 2])
    expected = read_film(head + item(b"") + item(stream) + DELIMITER, preset=DISPLAY).pixels
    assert np.array_equal(read_film(head + item(b"") + item(commented) + DELIMITER, preset=DISPLAY).pixels, expected)
    length = stream[tile + 6 : tile + 10]
    for said in (bytes(4), (int.from_bytes(length, "big") + 9).to_bytes(4, "big")):  # up to the end, and too long
        assert is_complete(stream[: tile + 6] + said + stream[tile + 10 :])


def test_encapsulated_as_pydicom_does() -> None:
    _, stream = film(JPEGLSLossless)
    for fragments in (1, 3):
        assert code_stream(encapsulate([stream], fragments_per_frame=fragments), 0).rstrip(b"\0") == stream.rstrip(
            b"\0"
        )
