"""JPEG headers are checked before a decoder sees them: markers, frame header, height (ITU T.81 B.1.1, B.2.2, B.2.5)."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, get_frame

from benchmarks.film_files import make_film, transcode
from components.cxr.films.jpeg import read_jpeg_header
from components.cxr.films.pixels import FilmError, read_film
from tests.components.cxr.films.pixel_films import DISPLAY, code_of, film_values, sample

JPEG = "1.2.840.10008.1.2.4."
FRAMES = (b"\xff\xc0", b"\xff\xc1", b"\xff\xc3", b"\xff\xf7")


def changed(data: bytes, change: Callable[[bytes], bytes] = bytes, **tags: Any) -> bytes:
    """The film with another code stream and other tags."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.PixelData = encapsulate([change(stream_of(data))])
    for name, value in tags.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def stream_of(data: bytes) -> bytes:
    return get_frame(pydicom.dcmread(io.BytesIO(data)).PixelData, 0, number_of_frames=1)


def frame_at(stream: bytes) -> int:
    return min(at for marker in FRAMES if (at := stream.find(marker)) > 0)


def without_height(stream: bytes) -> bytes:
    at = frame_at(stream)
    return stream[: at + 5] + b"\0\0" + stream[at + 7 :]


def with_dnl(stream: bytes) -> bytes:
    at, end = frame_at(stream), stream.rfind(b"\xff\xd9")
    return without_height(stream)[:end] + b"\xff\xdc\0\x04" + stream[at + 5 : at + 7] + stream[end:]


def test_a_marker_that_may_not_stand_in_a_header() -> None:
    """GDCM ends the process at some of them."""
    data = sample("JPEG-lossy.dcm")
    stream = stream_of(data)
    at = stream.find(b"\xff\xdb") + 1
    for marker in (*range(0xC0), *range(0xD0, 0xDA), *range(0xF0, 0xF7), *range(0xF9, 0xFE)):
        with pytest.raises(FilmError, match="marker that may not stand"):
            read_jpeg_header(stream[:at] + bytes([marker]) + stream[at + 1 :])
    for marker in (0xC5, 0xC9):
        with pytest.raises(FilmError, match="codec"):
            read_jpeg_header(stream[:at] + bytes([marker]) + stream[at + 1 :])
    assert (
        read_jpeg_header(stream[: at - 1] + b"\xff\xff\xff" + stream[at - 1 :]).family == "JPEG extended"
    )  # fill bytes
    assert code_of(changed(data, lambda stream: stream.replace(b"\xff\xdb", b"\xff\0", 1))) == "undecodable"


@pytest.mark.parametrize(
    "tags",
    [
        {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0},
        {"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31},
        {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7},
    ],
)
@pytest.mark.parametrize("syntax", ["51", "57", "70", "80", "81"])
def test_samples_and_bits_are_those_of_the_frame_header(syntax: str, tags: dict[str, Any]) -> None:
    data = transcode(make_film(40, 36), JPEG + syntax)
    assert read_film(changed(data), preset=DISPLAY).pixels.any()
    assert code_of(changed(data, **tags)) == "undecodable"


@pytest.mark.parametrize("name", ["MR_small_jpeg_ls_lossless.dcm", "JPEG-lossy.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm"])
def test_no_height_anywhere_is_refused(name: str) -> None:
    """pylibjpeg decodes the first of these for ever."""
    assert code_of(changed(sample(name), without_height)) == "undecodable"


@pytest.mark.parametrize(("syntax", "bits"), [("50", 8), ("51", 12), ("57", 12), ("70", 16), ("80", 12), ("81", 8)])
def test_the_height_may_follow_the_first_scan(syntax: str, bits: int) -> None:
    data = transcode(make_film(40, 36, bits=bits), JPEG + syntax)
    expected = read_film(data, preset=DISPLAY).pixels
    assert np.array_equal(read_film(changed(data, with_dnl), preset=DISPLAY).pixels, expected)
    wrong = changed(data, lambda stream: with_dnl(stream).replace(b"\xff\xdc\0\x04\0\x28", b"\xff\xdc\0\x04\0\x29"))
    assert code_of(wrong) == "undecodable"
    none = changed(data, lambda stream: with_dnl(stream).replace(b"\xff\xdc\0\x04\0\x28", b"\xff\xdc\0\x04\0\0"))
    assert code_of(none) == "undecodable"


def test_the_height_of_a_jpeg_file_may_follow_its_first_scan() -> None:
    data = cv2.imencode(".jpg", film_values(0, 255, np.uint8))[1].tobytes()
    assert np.array_equal(read_film(with_dnl(data), preset=DISPLAY).pixels, read_film(data, preset=DISPLAY).pixels)
    assert code_of(without_height(data)) == "undecodable"


def test_a_frame_header_that_contradicts_itself() -> None:
    stream = stream_of(transcode(make_film(40, 36), JPEG + "80"))
    at = frame_at(stream)
    for place, value in ((2, b"\0\x0a"), (4, b"\x01"), (4, b"\x11"), (7, b"\0\0"), (9, b"\0"), (9, b"\x02")):
        with pytest.raises(FilmError, match="undecodable"):
            read_jpeg_header(stream[: at + place] + value + stream[at + place + len(value) :])
    with pytest.raises(FilmError, match="two frame headers"):
        read_jpeg_header(stream[:at] + stream[at : at + 13] + stream[at:])
