"""Shutters, collimation and palettes, films with burned-in text, films for processing, and memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.film_files import make_film, transcode
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.films.pixels import read_film
from tests.components.cxr.films.pixel_films import (
    DISPLAY,
    MIMIC_JPG,
    SIZE,
    DicomWriter,
    assert_close,
    code_of,
    film_values,
)

RECTANGLE = {"UpperHorizontalEdge": 5, "LowerHorizontalEdge": 28, "LeftVerticalEdge": 3, "RightVerticalEdge": 30}


def framed(inside: npt.NDArray[Any], outside: int) -> npt.NDArray[Any]:
    """The film with rows 5..28 and columns 3..30, counted from 1, left as they are."""
    values = np.full_like(inside, outside)
    values[4:28, 2:30] = inside[4:28, 2:30]
    return values


def region(kind: str, **edges: Any) -> dict[str, Any]:
    return {kind + name: value for name, value in edges.items()}


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
def test_a_shutter_hides_and_stays_out_of_the_range(dicom_bytes: DicomWriter, interpretation: str) -> None:
    inside = film_values(1000, 2000)
    inside[10, 10], inside[10, 11] = 1000, 2000
    tags = region("Shutter", Shape="RECTANGULAR", **RECTANGLE) | {"PhotometricInterpretation": interpretation}
    pixels = read_film(dicom_bytes(framed(inside, 4095), bits_stored=12, **tags), preset=DISPLAY).pixels
    bright = (inside - 1000.0) / 1000
    expected = 255 * (1 - bright if interpretation == "MONOCHROME1" else bright)
    assert_close(pixels[4:28, 2:30], expected[4:28, 2:30])
    pixels[4:28, 2:30] = 0
    assert not pixels.any()


def test_beyond_collimation_the_film_is_shown_but_not_measured(dicom_bytes: DicomWriter) -> None:
    inside = film_values(1000, 2000)
    inside[10, 10], inside[10, 11] = 1000, 2000
    tags = region("Collimator", Shape="RECTANGULAR", **RECTANGLE)
    pixels = read_film(dicom_bytes(framed(inside, 4095), bits_stored=12, **tags), preset=DISPLAY).pixels
    assert_close(pixels[4:28, 2:30], (255 * (inside - 1000.0) / 1000)[4:28, 2:30])
    assert (pixels[:4] == 255).all()


def test_round_and_polygonal_regions(dicom_bytes: DicomWriter) -> None:
    values = film_values(1000, 2000)
    row, column = np.indices(values.shape) + 1
    distance = np.hypot(row - 14, column - 19)
    circle = region("Shutter", Shape="CIRCULAR") | {"CenterOfCircularShutter": [14, 19], "RadiusOfCircularShutter": 12}
    pixels = read_film(dicom_bytes(values, bits_stored=12, **circle), preset=DISPLAY).pixels
    assert not pixels[distance > 13].any()
    assert (pixels[distance < 11] > 0).mean() > 0.95
    corners = [4, 4, 4, 29, 20, 4]  # row, column: a triangle that is broader than high
    reach = (row - 4) / 16 + (column - 4) / 25
    triangle = region("Shutter", Shape=["RECTANGULAR", "POLYGONAL"], **RECTANGLE)
    triangle |= {"VerticesOfThePolygonalShutter": corners}
    pixels = read_film(dicom_bytes(values, bits_stored=12, **triangle), preset=DISPLAY).pixels
    assert not pixels[reach > 1.1].any()
    assert not pixels[row < 5].any()
    assert (pixels[(reach < 0.9) & (row > 4) & (column > 3)] > 0).mean() > 0.95


@pytest.mark.parametrize(
    "edges",
    [
        {"UpperHorizontalEdge": 0, "LowerHorizontalEdge": 0, "LeftVerticalEdge": 0, "RightVerticalEdge": 0},
        {"UpperHorizontalEdge": 900, "LowerHorizontalEdge": 950, "LeftVerticalEdge": 1, "RightVerticalEdge": 32},
        {"UpperHorizontalEdge": 1, "LowerHorizontalEdge": 32, "LeftVerticalEdge": 1, "RightVerticalEdge": 32},
        {},
    ],
)
def test_a_region_that_cannot_be_meant_is_ignored(dicom_bytes: DicomWriter, edges: dict[str, int]) -> None:
    values = film_values(0, 4095)
    data = dicom_bytes(values, bits_stored=12, **region("Shutter", Shape="RECTANGULAR", **edges))
    plain = dicom_bytes(values, bits_stored=12)
    assert np.array_equal(read_film(data, preset=DISPLAY).pixels, read_film(plain, preset=DISPLAY).pixels)


def test_the_mimic_recipe_knows_no_regions(dicom_bytes: DicomWriter) -> None:
    values = framed(film_values(1000, 2000), 4095)
    shuttered = dicom_bytes(values, bits_stored=12, **region("Shutter", Shape="RECTANGULAR", **RECTANGLE))
    plain = read_film(dicom_bytes(values, bits_stored=12), preset=MIMIC_JPG).pixels
    assert np.array_equal(read_film(shuttered, preset=MIMIC_JPG).pixels, plain)


def test_palette_color_becomes_luminance(dicom_bytes: DicomWriter) -> None:
    rng = np.random.default_rng(2)
    colors = rng.integers(0, 65536, (3, 256)).astype("<u2")
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, entries in zip(("Red", "Green", "Blue"), colors, strict=True):
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tags[f"{name}PaletteColorLookupTableData"] = entries.tobytes()
    indices = film_values(0, 255, np.uint8)
    expected = np.array([0.299, 0.587, 0.114]) @ colors[:, indices.ravel()].astype(np.float64) / 257
    assert_close(read_film(dicom_bytes(indices, **tags), preset=DISPLAY).pixels, expected.reshape(SIZE, SIZE))
    assert code_of(dicom_bytes(indices, PhotometricInterpretation="PALETTE COLOR")) == "photometric"


def test_what_is_rejected_can_be_allowed(dicom_bytes: DicomWriter) -> None:
    values = film_values(0, 4095)
    plain = read_film(dicom_bytes(values, bits_stored=12), preset=DISPLAY).pixels
    for tag, value, code, field in (
        ("BurnedInAnnotation", "YES", "burned-in", "allow_burned_in"),
        ("PresentationIntentType", "FOR PROCESSING", "for-processing", "allow_for_processing"),
    ):
        data = dicom_bytes(values, bits_stored=12, **{tag: value})
        assert code_of(data) == code
        preset = PixelPreset(size=SIZE, **{field: True})
        assert np.array_equal(read_film(data, preset=preset).pixels, plain)
        assert preset.hash != DISPLAY.hash
    shown = dicom_bytes(values, bits_stored=12, PresentationIntentType="FOR PRESENTATION")
    assert np.array_equal(read_film(shown, preset=DISPLAY).pixels, plain)


PEAK = """
import re, sys
from pathlib import Path
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.films.pixels import read_film
for film in sys.argv[1:]:
    data = Path(film).read_bytes()
    for name in ("display", "mimic-jpg"):
        read_film(data, preset=PixelPreset(name=name))
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def test_full_size_films_need_little_memory(tmp_path: Path) -> None:
    """Of the 700 MB that a worker may have."""
    films, plain = [], make_film(3056, 2544)
    for syntax in ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80"):
        films.append(tmp_path / syntax)
        films[-1].write_bytes(transcode(plain, syntax))
    command = [sys.executable, "-c", PEAK, *map(str, films)]
    megabytes = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(megabytes, "MB")
    assert megabytes < 350
