"""Small films and comparisons for the tests of pixels."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence

from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.films.pixels import FilmError, read_film

SIZE = 32
DISPLAY = PixelPreset(size=SIZE)
MIMIC_JPG = PixelPreset(name="mimic-jpg", size=SIZE)
DicomWriter = Callable[..., bytes]


def film_values(low: int, high: int, dtype: Any = np.uint16) -> npt.NDArray[Any]:
    """SIZE x SIZE integers that include both ends."""
    values = np.random.default_rng(7).integers(low, high + 1, (SIZE, SIZE))
    values.flat[0], values.flat[1] = low, high
    return values.astype(dtype)


def oracle(data: bytes, *, low: float, high: float) -> npt.NDArray[np.float64]:
    """pydicom's modality and VOI transform in float64, brightness low..high scaled to 0..255, inverted by the tag."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    voi = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset).astype(np.float64)
    bright = np.clip((voi - low) / (high - low), 0, 1)
    return 255 * (1 - bright if dataset.PhotometricInterpretation == "MONOCHROME1" else bright)


def assert_close(found: npt.NDArray[np.uint8], expected: npt.NDArray[np.float64]) -> None:
    assert found.dtype == np.uint8
    assert np.abs(found - expected).max() <= 0.51
    assert np.ptp(found) > 20


def sample(name: str) -> bytes:
    """One of pydicom's own test files."""
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip("the package pydicom-data is not installed")
    return Path(str(path)).read_bytes()


def code_of(data: bytes, preset: PixelPreset = DISPLAY) -> str:
    with pytest.raises(FilmError) as caught:
        read_film(data, preset=preset)
    assert "19999999" not in str(caught.value)
    assert "Doe" not in str(caught.value)
    return caught.value.code


def lut(descriptor: list[int], data: list[int]) -> Sequence:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", descriptor)
    item.add_new("LUTData", "US", data)
    item.LUTExplanation = "test"
    return Sequence([item])
