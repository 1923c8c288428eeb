"""One clear refusal for each unusable film."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import cv2
import numpy as np
from pydicom.uid import RLELossless

from components.cxr.films.pixels import FilmError, encode_png, read_film
from tests.components.cxr.films.pixel_films import (
    DISPLAY,
    SIZE,
    DicomWriter,
    code_of,
    film_values,
)


def test_refusals(dicom_bytes: DicomWriter) -> None:
    good = film_values(0, 4095)
    data = dicom_bytes(good, bits_stored=12)
    assert code_of(dicom_bytes(np.full((8, 8), 7, np.uint16))) == "flat"
    assert code_of(dicom_bytes(good, bits_stored=12, WindowCenter=50000, WindowWidth=10)) == "flat"
    assert code_of(dicom_bytes(np.full((8, 8), 7, np.uint16), PixelPaddingValue=7)) == "flat"
    assert code_of(dicom_bytes(good, NumberOfFrames=2)) == "multi-frame"
    assert code_of(dicom_bytes(good, BurnedInAnnotation="YES")) == "burned-in"
    assert code_of(dicom_bytes(good, PhotometricInterpretation="PALETTE COLOR")) == "photometric"
    assert code_of(dicom_bytes(good, PixelData=None)) == "no-pixels"
    assert code_of(dicom_bytes(good, Rows=60000, Columns=60000)) == "too-large"
    assert code_of(data[: len(data) // 2]) == "truncated"
    assert code_of(data[:-2]) == "truncated"
    assert code_of(data[:200]) in ("truncated", "no-pixels", "undecodable")
    assert code_of(b"") == "unknown-format"
    assert code_of(b"GIF89a" + bytes(500)) == "unknown-format"
    assert read_film(dicom_bytes(good, NumberOfFrames=1, BurnedInAnnotation="NO"), preset=DISPLAY).pixels.any()


def test_damaged_images() -> None:
    png = encode_png(film_values(0, 255, np.uint8))
    _, encoded = cv2.imencode(".jpg", film_values(0, 255, np.uint8))
    jpeg = encoded.tobytes()
    assert code_of(png[:-20]) == "truncated"
    assert code_of(png[:20]) == "truncated"
    assert code_of(jpeg[: len(jpeg) // 2]) == "truncated"
    assert code_of(jpeg[:12]) == "truncated"
    assert code_of(png[:60] + bytes(40) + png[100:]) == "undecodable"
    header = b"IHDR" + struct.pack(">II", 90000, 90000) + png[24:29]
    assert code_of(png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]) == "too-large"
    huge_chunk = png[:33] + struct.pack(">I", 1 << 30) + png[37:]
    assert code_of(huge_chunk) == "truncated"
    assert code_of(encode_png(np.zeros((9, 9), np.uint8))) == "flat"


def test_random_damage_is_always_a_film_error_or_a_film(dicom_bytes: DicomWriter) -> None:
    """Flipped bytes anywhere give pixels or a FilmError, never another exception."""
    rng = np.random.default_rng(0)
    tags: dict[str, Any] = {"WindowCenter": 2000, "WindowWidth": 900, "PatientAge": "063Y", "PixelPaddingValue": 0}
    originals = [
        dicom_bytes(film_values(0, 4095), bits_stored=12, **tags),
        dicom_bytes(film_values(0, 4095), bits_stored=12, transfer_syntax=RLELossless, **tags),
        encode_png(film_values(0, 255, np.uint8)),
    ]
    refused = 0
    for i in range(240):
        data = bytearray(originals[i % 3])
        header = min(len(data), 900)
        for position in rng.integers(0, header, 6):
            data[position] = int(rng.integers(0, 256))
        try:
            assert read_film(bytes(data), preset=DISPLAY).pixels.shape == (SIZE, SIZE)
        except FilmError:
            refused += 1
    assert 20 < refused < 240
