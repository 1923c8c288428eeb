"""Files with missing or wrong preamble, file meta and transfer syntax."""

from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from components.cxr.pixel_preset import PixelPreset
from components.cxr.pixels import read_film
from tests.components.cxr.pixel_films import (
    DISPLAY,
    MIMIC_JPG,
    DicomWriter,
    film_values,
    sample,
)


@pytest.mark.parametrize("preset", [DISPLAY, MIMIC_JPG])
def test_without_preamble(dicom_bytes: DicomWriter, preset: PixelPreset) -> None:
    values = film_values(0, 4095)
    with_preamble = read_film(dicom_bytes(values, bits_stored=12), preset=preset).pixels
    assert np.array_equal(
        read_film(dicom_bytes(values, bits_stored=12, preamble=False), preset=preset).pixels, with_preamble
    )


def test_implicit_little_endian_without_file_meta(dicom_bytes: DicomWriter) -> None:
    data = dicom_bytes(film_values(0, 4095), bits_stored=12)
    dataset = pydicom.dcmread(io.BytesIO(data))
    buffer = io.BytesIO()
    bare = Dataset(dataset)
    pydicom.dcmwrite(buffer, bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
    expected = read_film(data, preset=DISPLAY).pixels
    assert buffer.getvalue()[:2] == b"\x08\x00"
    assert np.array_equal(read_film(buffer.getvalue(), preset=DISPLAY).pixels, expected)


def test_real_radiograph_is_not_inverted() -> None:
    film = read_film(sample("RG1_UNCR.dcm"), preset=PixelPreset(size=128))
    assert (film.view_position, film.sex) == ("PA", "F")
    lungs, spine = film.pixels[30:70, 30:45].mean(), film.pixels[60:80, 60:68].mean()
    assert lungs < spine - 30
