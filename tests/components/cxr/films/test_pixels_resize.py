"""Resizing, PNG and JPEG files, and the presets."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from components.cxr.films.pixels import encode_png, fit, read_film
from tests.components.cxr.films.pixel_films import (
    DISPLAY,
    MIMIC_JPG,
    SIZE,
    DicomWriter,
    assert_close,
    film_values,
)


@pytest.mark.parametrize(
    ("shape", "box"), [((64, 32), (0, 8, 32, 24)), ((32, 64), (8, 0, 24, 32)), ((32, 31), (0, 0, 32, 31))]
)
def test_aspect_is_kept_and_padding_centered(shape: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    square = fit(np.full(shape, 200, np.uint8), size=SIZE)
    top, left, bottom, right = box
    expected = np.zeros((SIZE, SIZE), np.uint8)
    expected[top:bottom, left:right] = 200
    assert np.array_equal(square, expected)


def test_shrinking_averages_areas(dicom_bytes: DicomWriter) -> None:
    values = np.random.default_rng(3).integers(0, 4096, (4 * SIZE, 4 * SIZE)).astype(np.uint16)
    values.flat[0], values.flat[1] = 0, 4095
    means = values.reshape(SIZE, 4, SIZE, 4).mean(axis=(1, 3))
    assert_close(read_film(dicom_bytes(values, bits_stored=12), preset=DISPLAY).pixels, 255 * means / 4095)


def test_own_output_is_the_identity(dicom_bytes: DicomWriter) -> None:
    pixels = film_values(10, 200, np.uint8)
    assert np.array_equal(read_film(encode_png(pixels), preset=DISPLAY).pixels, pixels)
    assert np.array_equal(read_film(dicom_bytes(pixels), preset=DISPLAY).pixels, pixels)
    first = read_film(dicom_bytes(film_values(0, 4095), bits_stored=12), preset=DISPLAY).pixels
    assert np.array_equal(read_film(encode_png(first), preset=DISPLAY).pixels, first)


def test_png_and_dicom_of_the_same_bytes_agree_when_resized(dicom_bytes: DicomWriter) -> None:
    pixels = np.random.default_rng(5).integers(10, 200, (50, 70)).astype(np.uint8)
    from_png = read_film(encode_png(pixels), preset=DISPLAY).pixels.astype(int)
    assert np.abs(read_film(dicom_bytes(pixels), preset=DISPLAY).pixels - from_png).max() <= 1


def test_16_bit_png_is_stretched() -> None:
    values = film_values(1000, 9000)
    _, data = cv2.imencode(".png", values)
    assert_close(read_film(data.tobytes(), preset=DISPLAY).pixels, 255 * (values - 1000.0) / 8000)


def test_jpeg_and_color_png() -> None:
    ramp = np.tile(np.linspace(0, 255, SIZE).astype(np.uint8), (SIZE, 1))
    _, jpeg = cv2.imencode(".jpg", ramp, [cv2.IMWRITE_JPEG_QUALITY, 100])
    assert np.abs(read_film(jpeg.tobytes(), preset=DISPLAY).pixels.astype(int) - ramp).max() <= 3
    _, rgba = cv2.imencode(".png", np.dstack([ramp, ramp, ramp, np.full_like(ramp, 9)]))
    assert np.array_equal(read_film(rgba.tobytes(), preset=DISPLAY).pixels, ramp)


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
def test_mimic_jpg_recipe(dicom_bytes: DicomWriter, interpretation: str) -> None:
    values = film_values(100, 3000)
    data = dicom_bytes(values, bits_stored=12, PhotometricInterpretation=interpretation, WindowCenter=50, WindowWidth=9)
    shifted = values.astype(np.float64) - values.min()
    gray = (shifted / shifted.max() * 255).astype(np.uint8)
    gray = cv2.bitwise_not(gray) if interpretation == "MONOCHROME1" else gray
    assert np.array_equal(read_film(data, preset=MIMIC_JPG).pixels, cv2.equalizeHist(gray))
