"""Every codec gives the film, lossless ones the identical film, and a missing one is a clear reject."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless, RLELossless

from components.cxr.pixels import FilmError, read_film
from tests.components.cxr.pixel_films import (
    DISPLAY,
    DicomWriter,
    code_of,
    film_values,
    sample,
)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_lossless_codecs_change_nothing(dicom_bytes: DicomWriter, syntax: str, dtype: Any) -> None:
    values = film_values(-900 if dtype is np.int16 else 0, 1500, dtype)
    plain = read_film(dicom_bytes(values, bits_stored=12), preset=DISPLAY).pixels
    packed = dicom_bytes(values, bits_stored=12, transfer_syntax=syntax)
    assert np.array_equal(read_film(packed, preset=DISPLAY).pixels, plain)


@pytest.mark.parametrize("how", ["RLE", "bigendian", "implicit", "jp2klossless", "jpeg_ls_lossless"])
def test_one_film_stored_in_many_ways(how: str) -> None:
    plain = read_film(sample("MR_small.dcm"), preset=DISPLAY).pixels
    assert np.array_equal(read_film(sample(f"MR_small_{how}.dcm"), preset=DISPLAY).pixels, plain)


@pytest.mark.parametrize("name", ["JPGExtended.dcm", "SC_rgb_jpeg_gdcm.dcm", "JPEGLSNearLossless_16.dcm"])
def test_lossy_codecs(name: str) -> None:
    assert np.ptp(read_film(sample(name), preset=DISPLAY).pixels) > 100


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_truncated_compressed_pixels(dicom_bytes: DicomWriter, syntax: str) -> None:
    data = dicom_bytes(film_values(0, 4095), bits_stored=12, transfer_syntax=syntax)
    for part in (0.6, 0.9):
        assert code_of(data[: int(len(data) * part)]) in ("truncated", "undecodable", "no-pixels")


def test_truncated_jpeg_in_a_dicom() -> None:
    data = sample("JPGExtended.dcm")
    assert code_of(data[: int(len(data) * 0.7)]) in ("truncated", "undecodable", "no-pixels")


def test_missing_codec_names_the_transfer_syntax(dicom_bytes: DicomWriter) -> None:
    data = dicom_bytes(film_values(0, 255), bits_stored=12, transfer_syntax=RLELossless)
    known = read_film(data, preset=DISPLAY).pixels
    data = data.replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.99", 1)
    unknown = data.replace(b"\x02\0\0\0\x40\0\0\0", b"\x63\0\0\0\x40\0\0\0", 1)  # no longer an RLE header
    assert np.array_equal(read_film(data, preset=DISPLAY).pixels, known)
    with pytest.raises(FilmError, match=r"codec: .*1\.2\.840\.10008\.1\.2\.99") as caught:
        read_film(unknown, preset=DISPLAY)
    assert caught.value.code == "codec"
