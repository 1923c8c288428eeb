"""From stored values to display brightness by a DICOM header's transforms."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_color_lut

from components.cxr.films.dicom import FilmError

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
    if is_palette(dataset):
        bright = _palette(dataset, low, low + len(seen) - 1)
    else:
        stored = np.arange(low, low + len(seen), dtype=np.float64)
        bright = np.clip(_curve(dataset, stored, seen), 0.0, 1.0)
        bright = 1.0 - bright if is_inverted(dataset) else bright
    if np.ptp(bright[seen]) == 0:
        raise FilmError("flat", "the window leaves one brightness")
    return bright


def is_inverted(dataset: Dataset) -> bool:
    """Whether low values are bright. PresentationLUTShape INVERSE only repeats MONOCHROME1 (PS3.3 C.8.11.3.1.2)."""
    return str(dataset.get("PhotometricInterpretation", "")).strip() == "MONOCHROME1"


def is_palette(dataset: Dataset) -> bool:
    """Whether stored values are indices into a palette of colors."""
    return str(dataset.get("PhotometricInterpretation", "")).strip() == "PALETTE COLOR"


def _ramp(dataset: Dataset, seen: tuple[int, int]) -> Ramp | None:
    """The whole transform when it is linear; None when it needs a table."""
    if _lut(dataset, "ModalityLUTSequence", signed=False) or _voi_lut(dataset, signed=False) is not None:
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
    voi = _voi_lut(dataset, signed=bool(modality.min() < 0))
    if voi is not None:
        first, table = voi
        scaled = (table - table.min()) / np.ptp(table)
        looked_up: Float = scaled[np.clip(np.rint(modality) - first, 0, len(table) - 1).astype(np.int64)]
        return looked_up
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
    lut = _lut(dataset, "ModalityLUTSequence", signed=bool(stored[0] < 0))
    if lut is not None:
        first, table = lut
        return table[np.clip(stored - first, 0, len(table) - 1).astype(np.int64)]
    slope, intercept = _rescale(dataset)
    return stored * slope + intercept


def _rescale(dataset: Dataset) -> tuple[float, float]:
    slope, intercept = _numbers(dataset, "RescaleSlope"), _numbers(dataset, "RescaleIntercept")
    return slope[0] if slope else 1.0, intercept[0] if intercept else 0.0


def _voi_lut(dataset: Dataset, *, signed: bool) -> tuple[int, Float] | None:
    """First VOI LUT (0028,3010) that is not flat; scaled by its own entries, for its stated bits are often wrong."""
    lut = _lut(dataset, "VOILUTSequence", signed=signed)
    return lut if lut is not None and np.ptp(lut[1]) > 0 else None


def _window(dataset: Dataset) -> tuple[float, float, str] | None:
    """Center, width and function (0028,1050), (0028,1051), (0028,1056) of the first usable window; PS3.3 C.11.2."""
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    function = function if function in ("SIGMOID", "LINEAR_EXACT") else "LINEAR"
    for center, width in zip(_numbers(dataset, "WindowCenter"), _numbers(dataset, "WindowWidth"), strict=False):
        if width >= 1 or (width > 0 and function != "LINEAR"):
            return center, width, function
    return None


def _lut(dataset: Dataset, keyword: str, *, signed: bool) -> tuple[int, Float] | None:
    """First mapped value and entries of the first LUT of a sequence (PS3.3 C.11.1.1); None without one."""
    sequence = dataset.get(keyword)
    if not sequence or "LUTDescriptor" not in sequence[0] or "LUTData" not in sequence[0]:
        return None
    descriptor, data = sequence[0].LUTDescriptor, sequence[0].LUTData
    order = "<" if sequence[0].original_encoding[1] is not False else ">"
    if isinstance(descriptor, bytes):
        descriptor = np.frombuffer(descriptor, f"{order}u2")
    entries, first, bits = (int(value) for value in descriptor)
    entries = (entries & 0xFFFF) or 1 << 16
    if signed and first >= 1 << 15:
        first -= 1 << 16
    if isinstance(data, bytes):
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * entries else f"{order}u2")
    table = np.atleast_1d(np.asarray(data, dtype=np.float64))
    if bits == 8 and len(table) == -(-entries // 2) and entries > 1:  # two 8-bit entries per word
        table = table.astype(np.uint16).view(np.uint8).astype(np.float64)
    table = table[:entries]
    return (first, table) if len(table) else None


def _palette(dataset: Dataset, low: int, high: int) -> Float:
    """Luminance of the colors (0028,1101..1203) of indices low..high; PS3.3 C.7.9."""
    indices = np.arange(low, high + 1)[None]
    try:
        colors = apply_color_lut(indices.astype(np.uint16), dataset)
    except Exception:  # pydicom raises whatever it met in a damaged palette
        raise FilmError("photometric", "PALETTE COLOR (0028,0004) without a readable palette") from None
    scale = (1 << colors.dtype.itemsize * 8) - 1
    bright: Float = np.asarray(colors[0, :, :3] @ np.array([0.299, 0.587, 0.114]) / scale, dtype=np.float64)
    return bright


def _is_8_bit_output(dataset: Dataset) -> bool:
    """Whether the film is already display output: 8 unsigned bits and no transform."""
    unsigned = not dataset.get("PixelRepresentation", 0)
    untouched = not dataset.get("ModalityLUTSequence") and not _numbers(dataset, "WindowWidth")
    return _rescale(dataset) == (1.0, 0.0) and unsigned and untouched and int(dataset.get("BitsStored") or 0) == 8


def _numbers(dataset: Dataset, keyword: str) -> list[float]:
    """The values of a numeric tag; none when it is absent, empty, no number or not finite."""
    value = dataset.get(keyword)
    numbers = []
    for one in value if isinstance(value, (list, MultiValue)) else [value]:
        try:
            number = float(one) if one is not None else float("nan")
        except (TypeError, ValueError):
            number = float("nan")
        numbers.append(number)
    return numbers if np.isfinite(numbers).all() else []
