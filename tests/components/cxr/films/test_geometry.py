"""Pixels that are no squares are shown with their true shape, and regions of such films lie where they are meant."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.uid import JPEG2000Lossless

from benchmarks.film_files import transcode
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.films.pixels import read_film
from tests.components.cxr.films.pixel_films import DISPLAY, MIMIC_JPG, SIZE, DicomWriter

PRESETS = [DISPLAY, MIMIC_JPG]


def squares(rows: int = 96, columns: int = 64) -> npt.NDArray[np.uint16]:
    """A film of square pixels whose every 2 x 2 pixels have one value."""
    small = np.random.default_rng(5).integers(0, 4096, (rows // 2, columns // 2))
    small.flat[0], small.flat[1] = 0, 4095
    return np.kron(small, np.ones((2, 2), int)).astype(np.uint16)


def content(pixels: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Rows and columns of the image within its padding."""
    return int(pixels.any(axis=1).sum()), int(pixels.any(axis=0).sum())


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "keyword", ["PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"]
)
@pytest.mark.parametrize("axis", [0, 1])
def test_a_film_of_long_pixels_is_the_film_of_squares(
    dicom_bytes: DicomWriter, preset: PixelPreset, keyword: str, axis: int
) -> None:
    values = squares()
    half = values[::2] if axis == 0 else values[:, ::2]
    sides = [1.0, 1.0]
    sides[axis] = 2.0
    tags: dict[str, Any] = {
        keyword: [int(one) for one in sides] if keyword == "PixelAspectRatio" else [0.1 * s for s in sides]
    }
    expected = read_film(dicom_bytes(values, bits_stored=12), preset=preset).pixels
    found = read_film(dicom_bytes(half, bits_stored=12, **tags), preset=preset).pixels
    assert not np.array_equal(read_film(dicom_bytes(half, bits_stored=12), preset=preset).pixels, expected)
    assert np.abs(found.astype(int) - expected).max() <= (0 if preset is DISPLAY else 1)


def test_colors_and_bytes_are_resampled_too(dicom_bytes: DicomWriter) -> None:
    gray = np.random.default_rng(1).integers(1, 256, (SIZE, SIZE)).astype(np.uint8)
    for values in (gray, np.dstack([gray] * 3)):
        found = read_film(dicom_bytes(values, PixelAspectRatio=[1, 2]), preset=DISPLAY).pixels
        assert content(found) == (SIZE // 2, SIZE)
        assert np.abs(found[8:24].mean(axis=1) - gray.reshape(16, 2, SIZE).mean(axis=(1, 2))).max() <= 1


@pytest.mark.parametrize(
    ("tags", "shape"),
    [
        ({"PixelAspectRatio": [1, 1], "PixelSpacing": [0.2, 0.1]}, (32, 32)),  # stated first
        ({"PixelAspectRatio": [0, 0], "PixelSpacing": [0.2, 0.1]}, (32, 16)),
        ({"PixelAspectRatio": [-2, -1], "PixelSpacing": [0.2, 0.1]}, (32, 16)),
        ({"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.2, 0.1]}, (32, 32)),
        ({"PixelSpacing": [0, 0.1], "ImagerPixelSpacing": [0.1, 0.2]}, (16, 32)),
        ({"PixelSpacing": "0.2", "ImagerPixelSpacing": [0.1, 0.2]}, (16, 32)),
        ({"PixelSpacing": None, "ImagerPixelSpacing": [0.1, 0.2]}, (16, 32)),
        ({"PixelSpacing": [0.2, -0.1]}, (32, 32)),
        ({"PixelSpacing": [0.2, 0.1, 0.1]}, (32, 32)),
        ({"PixelSpacing": [0.2, 0]}, (32, 32)),
        ({"PixelSpacing": [1, 1000]}, (32, 32)),  # of no detector
        ({"PixelSpacing": [0.1, 2.0]}, (32, 32)),
        ({"PixelSpacing": ["0.1999", "0.2"]}, (32, 32)),
        ({"PixelAspectRatio": [4, 3]}, (32, 24)),
        ({"PixelAspectRatio": [8, 1]}, (32, 4)),
        ({"PixelAspectRatio": [9, 1]}, (32, 32)),
    ],
)
@pytest.mark.parametrize("preset", PRESETS)
def test_which_tag_counts(
    dicom_bytes: DicomWriter, preset: PixelPreset, tags: dict[str, Any], shape: tuple[int, int]
) -> None:
    values = np.random.default_rng(2).integers(1000, 4096, (SIZE, SIZE)).astype(np.uint16)
    tags = {keyword: value for keyword, value in tags.items() if value is not None}
    data = dicom_bytes(values, WindowCenter=2048, WindowWidth=4096, **tags)
    assert content(read_film(data, preset=preset).pixels) == shape


@pytest.mark.parametrize(
    "text",
    [
        b"abc\\def ",
        b"1\\2,5   ",
        b"\\       ",
        b"\xff\xfe\\\x001   ",
        b"0.2\\nan ",
        b"nan\\nan ",
        b"0.2\\inf ",
        b"9e999\\1 ",
    ],
)
def test_a_spacing_that_is_no_number_is_ignored(dicom_bytes: DicomWriter, text: bytes) -> None:
    values = np.random.default_rng(2).integers(1000, 4096, (SIZE, SIZE)).astype(np.uint16)
    plain = dicom_bytes(values, PixelSpacing=[0.1, 0.25])
    data = plain.replace(b"0.1\\0.25", text)
    assert data != plain
    expected = read_film(dicom_bytes(values), preset=DISPLAY).pixels
    assert np.array_equal(read_film(data, preset=DISPLAY).pixels, expected)


def test_reduced_jpeg_2000_keeps_what_the_shorter_axis_needs(dicom_bytes: DicomWriter) -> None:
    """Decoded at an eighth, 64 columns of 512 would be 8 for an image of 32."""
    preset = PixelPreset(size=SIZE, reduced_jpeg2000=True)
    row, column = np.arange(512)[:, None] / 512, np.arange(64)[None] / 64
    values = (2000 + 1000 * np.sin(20 * row) + 1000 * np.sin(12 * column)).astype(np.uint16)
    plain = dicom_bytes(values, bits_stored=12, PixelAspectRatio=[1, 8])
    exact = read_film(plain, preset=DISPLAY).pixels.astype(int)
    found = read_film(transcode(plain, JPEG2000Lossless), preset=preset).pixels
    assert 0 < np.abs(found - exact).mean() < 6
    assert content(found) == content(exact.astype(np.uint8)) == (32, 32)


@pytest.mark.parametrize("kind", ["Shutter", "Collimator"])
def test_regions_count_pixels_of_the_film(dicom_bytes: DicomWriter, kind: str) -> None:
    """Edges are rows and columns; a radius counts pixels along a row (PS3.3 C.7.6.11)."""
    values = np.random.default_rng(3).integers(1000, 2000, (64, 32)).astype(np.uint16)
    values[0] = 4000  # outside of what is seen
    tall: dict[str, Any] = (
        {"PixelAspectRatio": [1, 2], "WindowCenter": 1000, "WindowWidth": 2000} if kind == "Shutter" else {}
    )
    tall |= {
        "PixelAspectRatio": [1, 2],
        f"{kind}Shape": "CIRCULAR",
        f"CenterOfCircular{kind}": [32, 16],
        f"RadiusOfCircular{kind}": 10,
    }
    pixels = read_film(dicom_bytes(values, bits_stored=12, **tall), preset=PixelPreset(size=64)).pixels
    if kind == "Collimator":
        assert (pixels[0] == 255).all()  # shown, and out of the range that is stretched
        assert np.ptp(pixels[10:50]) > 200
        return
    row, column = np.indices((64, 64))
    distance = np.hypot(row - 31, column - 31)  # a circle of 10 pixels of twice the width
    assert (pixels[distance < 18] > 0).all()
    assert not pixels[distance > 23].any()


def test_padding_with_long_pixels(dicom_bytes: DicomWriter) -> None:
    values = squares(64, 64)
    values[:32] = 4095
    half = values[:, ::2]
    expected = read_film(dicom_bytes(values, bits_stored=12, PixelPaddingValue=4095), preset=DISPLAY).pixels
    data = dicom_bytes(half, bits_stored=12, PixelPaddingValue=4095, PixelAspectRatio=[1, 2])
    assert np.array_equal(read_film(data, preset=DISPLAY).pixels, expected)
    assert not expected[:16].any()


def test_own_output_comes_back_unless_its_pixels_are_long(dicom_bytes: DicomWriter) -> None:
    values = np.random.default_rng(6).integers(1, 255, (SIZE, SIZE)).astype(np.uint8)
    assert np.array_equal(read_film(dicom_bytes(values, PixelSpacing=[0.2, 0.2]), preset=DISPLAY).pixels, values)
    assert content(read_film(dicom_bytes(values, PixelSpacing=[0.2, 0.4]), preset=DISPLAY).pixels) == (16, 32)
