"""Modality, VOI and presentation transforms against pydicom's own in full precision."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pydicom
import pytest

from components.cxr.films.pixels import read_film
from tests.components.cxr.films.pixel_films import (
    DISPLAY,
    DicomWriter,
    assert_close,
    film_values,
    lut,
    oracle,
)


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    "tags",
    [
        {"WindowCenter": 2000, "WindowWidth": 1500},
        {"WindowCenter": [2000, 100], "WindowWidth": [1500, 10]},
        {"WindowCenter": 2000, "WindowWidth": 1500, "RescaleSlope": 2, "RescaleIntercept": -1024},
        {"WindowCenter": 2000, "WindowWidth": 1500, "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowCenter": 2000, "WindowWidth": 700, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": 1999.5, "WindowWidth": 1},
        {"WindowCenter": 2000, "WindowWidth": 80},
        {"WindowCenter": 2000, "WindowWidth": 80, "VOILUTFunction": "LINEAR_EXACT"},
    ],
)
def test_window(dicom_bytes: DicomWriter, interpretation: str, tags: dict[str, Any]) -> None:
    data = dicom_bytes(film_values(100, 4000), bits_stored=12, PhotometricInterpretation=interpretation, **tags)
    # pydicom scales a window's output to the range of the modality values of all bits stored.
    slope, intercept = tags.get("RescaleSlope", 1), tags.get("RescaleIntercept", 0)
    expected = oracle(data, low=intercept, high=4095 * slope + intercept)
    assert_close(read_film(data, preset=DISPLAY).pixels, expected)


@pytest.mark.parametrize("tags", [{}, {"WindowCenter": 5, "WindowWidth": 0}, {"WindowCenter": 5, "WindowWidth": -3}])
@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
def test_without_a_usable_window_the_range_is_stretched(
    dicom_bytes: DicomWriter, tags: dict[str, Any], interpretation: str
) -> None:
    values = film_values(300, 3000)
    data = dicom_bytes(values, bits_stored=12, PhotometricInterpretation=interpretation, **tags)
    bright = (values - 300.0) / 2700
    expected = 255 * (1 - bright if interpretation == "MONOCHROME1" else bright)
    pixels = read_film(data, preset=DISPLAY).pixels
    assert_close(pixels, expected)
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_negative_slope_inverts(dicom_bytes: DicomWriter) -> None:
    values = film_values(0, 4095)
    plain = read_film(dicom_bytes(values, bits_stored=12), preset=DISPLAY).pixels
    negative = dicom_bytes(values, bits_stored=12, RescaleSlope=-1, RescaleIntercept=4095)
    assert np.array_equal(read_film(negative, preset=DISPLAY).pixels, 255 - plain)


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
def test_voi_lut_goes_before_the_window_and_scales_by_its_own_entries(
    dicom_bytes: DicomWriter, interpretation: str
) -> None:
    entries = [int(v) for v in 1000 * np.sqrt(np.linspace(0, 1, 3000))]  # 0..1000 where the descriptor says 16 bits
    data = dicom_bytes(
        film_values(0, 4095),
        bits_stored=12,
        PhotometricInterpretation=interpretation,
        VOILUTSequence=lut([3000, 500, 16], entries),
        WindowCenter=10,
        WindowWidth=5,
    )
    assert_close(read_film(data, preset=DISPLAY).pixels, oracle(data, low=0, high=1000))


def test_voi_lut_of_a_rescaled_film_starts_below_zero(dicom_bytes: DicomWriter) -> None:
    entries = [int(v) for v in np.linspace(0, 4000, 2000)]
    values = film_values(0, 4095)
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1024, "VOILUTSequence": lut([2000, 65536 - 1000, 12], entries)}
    found = read_film(dicom_bytes(values, bits_stored=12, **tags), preset=DISPLAY).pixels
    table = np.array(entries)[np.clip(values.astype(int) - 1024 + 1000, 0, 1999)]
    assert_close(found, 255 * table / 4000)


def test_modality_lut_comes_first(dicom_bytes: DicomWriter) -> None:
    entries = [int(v) for v in 60000 * np.linspace(0, 1, 4096) ** 2]
    data = dicom_bytes(
        film_values(0, 4095),
        bits_stored=12,
        ModalityLUTSequence=lut([4096, 0, 16], entries),
        WindowCenter=20000,
        WindowWidth=30000,
    )
    values = pydicom.dcmread(io.BytesIO(data)).pixel_array
    bright = np.clip((np.array(entries)[values] - 19999.5) / 29999 + 0.5, 0, 1)
    assert_close(read_film(data, preset=DISPLAY).pixels, 255 * bright)


def test_presentation_lut_shape_does_not_invert_again(dicom_bytes: DicomWriter) -> None:
    values = film_values(0, 4095)
    once = dicom_bytes(values, bits_stored=12, PhotometricInterpretation="MONOCHROME1")
    said_twice = dicom_bytes(
        values, bits_stored=12, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"
    )
    plain = read_film(dicom_bytes(values, bits_stored=12), preset=DISPLAY).pixels
    assert np.array_equal(read_film(once, preset=DISPLAY).pixels, 255 - plain)
    assert np.array_equal(read_film(said_twice, preset=DISPLAY).pixels, 255 - plain)
