"""Stored values: signs, unused bits, padding, shutters, collimation, colors and palettes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pydicom
import pytest

from components.cxr.films.pixels import read_film
from tests.components.cxr.films.pixel_films import (
    DISPLAY,
    SIZE,
    DicomWriter,
    assert_close,
    film_values,
)


def test_signed_pixels(dicom_bytes: DicomWriter) -> None:
    values = film_values(-1000, 1500, np.int16)
    found = read_film(dicom_bytes(values, bits_stored=12), preset=DISPLAY).pixels
    assert_close(found, 255 * (values + 1000.0) / 2500)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_garbage_above_bits_stored_is_dropped(dicom_bytes: DicomWriter, dtype: Any) -> None:
    values = film_values(0, 2047, dtype)
    above = np.random.default_rng(1).integers(0, 16, values.shape).astype(np.uint16) << 12
    garbage = (values.view(np.uint16) | above).view(dtype)
    clean = read_film(dicom_bytes(values, bits_stored=12), preset=DISPLAY).pixels
    assert np.array_equal(read_film(dicom_bytes(garbage, bits_stored=12), preset=DISPLAY).pixels, clean)


def test_bits_below_the_stored_ones_are_dropped(dicom_bytes: DicomWriter) -> None:
    values = film_values(0, 1023)
    shifted = values << 2 | 3
    clean = read_film(dicom_bytes(values, bits_stored=10), preset=DISPLAY).pixels
    assert np.array_equal(read_film(dicom_bytes(shifted, bits_stored=10, HighBit=11), preset=DISPLAY).pixels, clean)


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_background_and_out_of_the_range(dicom_bytes: DicomWriter, interpretation: str) -> None:
    values = film_values(1000, 2000)[:, ::-1].copy()
    values[:, :6] = 4095
    data = dicom_bytes(values, bits_stored=12, PhotometricInterpretation=interpretation, PixelPaddingValue=4095)
    pixels = read_film(data, preset=DISPLAY).pixels
    assert not pixels[:, :6].any()
    bright = (values[:, 6:] - 1000.0) / 1000
    assert_close(pixels[:, 6:], 255 * (1 - bright if interpretation == "MONOCHROME1" else bright))


def test_padding_range_of_signed_pixels_written_unsigned(dicom_bytes: DicomWriter) -> None:
    values = film_values(0, 1000, np.int16)[::-1].copy()
    values[:3], values[3:5] = -2000, -1990
    data = dicom_bytes(values)
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.add_new("PixelPaddingValue", "US", 65536 - 2000)
    dataset.add_new("PixelPaddingRangeLimit", "US", 65536 - 1990)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    pixels = read_film(buffer.getvalue(), preset=DISPLAY).pixels
    assert not pixels[:5].any()
    assert_close(pixels[5:], values[5:] * 0.255)


def test_color_becomes_luminance(dicom_bytes: DicomWriter) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    expected = rgb @ np.array([0.299, 0.587, 0.114])
    assert_close(read_film(dicom_bytes(rgb), preset=DISPLAY).pixels, expected)
