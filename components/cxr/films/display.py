"""From stored values to display brightness by a DICOM header's transforms."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from components.cxr.films.dicom import FilmError
from components.cxr.films.lookup import LookupTable, lookup_tables, palette
from components.cxr.films.numbers import numbers

__all__ = ["Ramp", "brightness_table", "is_inverted", "is_palette", "linear_brightness"]

Float = npt.NDArray[np.float64]


class Ramp(NamedTuple):
    """Brightness that is linear in the stored value, and clipped: 0 up to `dark`, 1 from `bright`, or the reverse."""

    dark: float
    bright: float


def linear_brightness(dataset: Dataset, *, seen: tuple[int, int]) -> Ramp | None:
    """The whole of modality, VOI and presentation transform (PS3.4 N.2) where all are linear; None where not.

    Args:
        seen: least and greatest stored value that show the patient, for films without a usable window.

    Raises:
        FilmError: `flat` when everything seen has one brightness.
    """
    ramp = None if is_palette(dataset) else _ramp(dataset, seen)
    if ramp is None:
        return None
    ends = np.clip([(value - ramp.dark) / (ramp.bright - ramp.dark) for value in seen], 0, 1)
    if ends[0] == ends[1]:
        raise FilmError("flat", "the window leaves one brightness")
    return Ramp(ramp.bright, ramp.dark) if is_inverted(dataset) else ramp


def brightness_table(dataset: Dataset, *, low: int, seen: npt.NDArray[np.bool_]) -> Float:
    """Brightness in [0, 1] of consecutive stored values from `low`, through every transform.

    Args:
        seen: for each of these values, whether it occurs where the film shows the patient.

    Raises:
        FilmError: `flat` when everything seen has one brightness.
    """
    stored = np.arange(low, low + len(seen), dtype=np.float64)
    if is_palette(dataset):
        bright = _palette(dataset, stored)
    else:
        bright = np.clip(_curve(dataset, stored, seen), 0.0, 1.0)
        bright = 1.0 - bright if is_inverted(dataset) else bright
    if np.ptp(bright[seen]) == 0:
        raise FilmError("flat", "the window leaves one brightness")
    return bright


def is_inverted(dataset: Dataset) -> bool:
    """Whether low values are bright. PresentationLUTShape INVERSE only repeats MONOCHROME1 (PS3.3 C.8.11.3.1.2)."""
    return str(dataset.get("PhotometricInterpretation")) == "MONOCHROME1"


def is_palette(dataset: Dataset) -> bool:
    """Whether stored values are indices into a palette of colors."""
    return str(dataset.get("PhotometricInterpretation")) == "PALETTE COLOR"


def _ramp(dataset: Dataset, seen: tuple[int, int]) -> Ramp | None:
    """The whole transform when it is linear; None when it needs a table."""
    if _modality_lut(dataset) is not None or _voi_lut(dataset) is not None:
        return None
    slope, intercept = _rescale(dataset)
    if slope == 0:
        raise FilmError("flat", "RescaleSlope (0028,1053) is 0")
    window = _window(dataset)
    if window is None:
        dark, bright = (0.0, 255.0) if _is_8_bit_output(dataset) else (float(seen[0]), float(seen[1]))
        return Ramp(dark, bright) if slope > 0 or _is_8_bit_output(dataset) else Ramp(bright, dark)
    center, width, function = window
    if function == "SIGMOID" or (function == "LINEAR" and width == 1):
        return None
    middle, half = (center, width / 2) if function == "LINEAR_EXACT" else (center - 0.5, (width - 1) / 2)
    return Ramp((middle - half - intercept) / slope, (middle + half - intercept) / slope)


def _curve(dataset: Dataset, stored: Float, seen: npt.NDArray[np.bool_]) -> Float:
    """Brightness of stored values, before clipping and inversion."""
    modality = _modality(dataset, stored)
    voi = _voi_lut(dataset)
    if voi is not None:
        scaled: Float = (voi.at(modality) - voi.entries.min()) / np.ptp(voi.entries)
        return scaled
    window = _window(dataset)
    if window is None:
        least, most = float(modality[seen].min()), float(modality[seen].max())
        if least == most:
            raise FilmError("flat", "all pixels have one value")
        return (modality - least) / (most - least)
    center, width, function = window
    if function == "SIGMOID":
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (modality - center) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return (modality - center) / width + 0.5
    if width == 1:
        return (modality > center - 0.5).astype(np.float64)
    return (modality - (center - 0.5)) / (width - 1) + 0.5


def _modality(dataset: Dataset, stored: Float) -> Float:
    """Modality LUT (0028,3000), else rescale slope and intercept (0028,1053), (0028,1052); PS3.3 C.11.1."""
    lut = _modality_lut(dataset)
    if lut is not None:
        return lut.at(stored)
    slope, intercept = _rescale(dataset)
    return stored * slope + intercept


def _rescale(dataset: Dataset) -> tuple[float, float]:
    slope, intercept = numbers(dataset, "RescaleSlope"), numbers(dataset, "RescaleIntercept")
    return slope[0] if slope else 1.0, intercept[0] if intercept else 0.0


def _stored_reach(dataset: Dataset) -> tuple[int, int]:
    """Least and greatest value that BitsStored bits can hold with their sign, whichever occur in this film."""
    allocated = int(dataset.get("BitsAllocated") or 16)
    bits = int(dataset.get("BitsStored") or allocated)
    bits = bits if 1 <= bits <= allocated else allocated
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if dataset.get("PixelRepresentation") else (0, (1 << bits) - 1)


def _rescaled_reach(dataset: Dataset) -> tuple[float, float]:
    """Least and greatest value that the modality transform can give."""
    lut = _modality_lut(dataset)
    if lut is not None:
        return float(lut.entries.min()), float(lut.entries.max())
    slope, intercept = _rescale(dataset)
    ends = sorted(value * slope + intercept for value in _stored_reach(dataset))
    return ends[0], ends[1]


def _modality_lut(dataset: Dataset) -> LookupTable | None:
    return next(iter(lookup_tables(dataset, "ModalityLUTSequence", reach=_stored_reach(dataset))), None)


def _voi_lut(dataset: Dataset) -> LookupTable | None:
    """First VOI LUT (0028,3010) that is not flat; scaled by its own entries, for its stated bits are often wrong."""
    if not dataset.get("VOILUTSequence"):
        return None
    luts = lookup_tables(dataset, "VOILUTSequence", reach=_rescaled_reach(dataset))
    return next((lut for lut in luts if np.ptp(lut.entries) > 0), None)


def _window(dataset: Dataset) -> tuple[float, float, str] | None:
    """Center, width and function (0028,1050), (0028,1051), (0028,1056) of the first usable window; PS3.3 C.11.2."""
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    function = function if function in ("SIGMOID", "LINEAR_EXACT") else "LINEAR"
    for center, width in zip(numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth"), strict=False):
        if width >= 1 or (width > 0 and function != "LINEAR"):
            return center, width, function
    return None


def _palette(dataset: Dataset, indices: Float) -> Float:
    """Luminance of the colors of indices; PS3.3 C.7.9."""
    colors = palette(dataset, reach=_stored_reach(dataset))
    if colors is None:
        raise FilmError("photometric", "PALETTE COLOR (0028,0004) without a readable palette")
    return colors.at(indices)


def _is_8_bit_output(dataset: Dataset) -> bool:
    """Whether the film is already display output: 8 unsigned bits and no transform but, perhaps, an inversion."""
    unsigned = not dataset.get("PixelRepresentation", 0)
    untouched = not numbers(dataset, "WindowWidth")
    return _rescale(dataset) == (1.0, 0.0) and unsigned and untouched and int(dataset.get("BitsStored") or 0) == 8
