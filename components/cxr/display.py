"""From stored values to display brightness by a DICOM header's transforms; used by pixels.py alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import ExplicitVRBigEndian

from components.cxr.dicom import FilmError

__all__ = ["display_curve", "is_inverted"]

Float = npt.NDArray[np.float64]


def display_curve(dataset: Dataset, stored: Float, *, seen: tuple[int, int]) -> Float:
    """Brightness in [0, 1] of each stored value: modality, VOI and presentation transform (PS3.4 N.2).

    Args:
        stored: consecutive integers that include all of the film's values.
        seen: least and greatest stored value outside padding, for films without a usable window.
    """
    modality = _modality(dataset, stored)
    first, last = (int(value - stored[0]) for value in seen)
    bright = _voi_lut(dataset, modality)
    if bright is None:
        bright = _window(dataset, modality)
    if bright is None and _is_8_bit_output(dataset):
        bright = stored / 255.0
    if bright is None:
        inside = modality[first : last + 1]
        low, high = float(inside.min()), float(inside.max())
        if low == high:
            raise FilmError("flat", "all pixels have one value")
        bright = (modality - low) / (high - low)
    bright = np.clip(bright, 0.0, 1.0)
    if np.ptp(bright[first : last + 1]) == 0:
        raise FilmError("flat", "the window leaves one brightness")
    return 1.0 - bright if is_inverted(dataset) else bright


def is_inverted(dataset: Dataset) -> bool:
    """Whether low values are bright. PresentationLUTShape INVERSE only repeats MONOCHROME1 (PS3.3 C.8.11.3.1.2)."""
    return str(dataset.get("PhotometricInterpretation", "")).strip() == "MONOCHROME1"


def _modality(dataset: Dataset, stored: Float) -> Float:
    """Modality LUT (0028,3000), else rescale slope and intercept (0028,1053), (0028,1052); PS3.3 C.11.1."""
    lut = _lut(dataset, "ModalityLUTSequence", signed=bool(stored[0] < 0))
    if lut is not None:
        first, table = lut
        return table[np.clip(stored - first, 0, len(table) - 1).astype(np.int64)]
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    return stored * (1.0 if slope is None else slope) + (intercept or 0.0)


def _voi_lut(dataset: Dataset, modality: Float) -> Float | None:
    """VOI LUT (0028,3010) scaled by its own least and greatest entry: its stated bits are often wrong."""
    lut = _lut(dataset, "VOILUTSequence", signed=bool(modality.min() < 0))
    if lut is None:
        return None
    first, table = lut
    spread = np.ptp(table)
    if spread == 0:
        return None
    scaled = (table - table.min()) / spread
    bright: Float = scaled[np.clip(np.rint(modality - first), 0, len(table) - 1).astype(np.int64)]
    return bright


def _window(dataset: Dataset, modality: Float) -> Float | None:
    """The first window (0028,1050), (0028,1051) by its function (0028,1056), PS3.3 C.11.2; None without one."""
    center, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    if center is None or width is None or width <= 0:
        return None
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    if function == "SIGMOID":
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (modality - center) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return (modality - center) / width + 0.5
    if width < 1:
        return None
    if width == 1:
        return (modality > center - 0.5).astype(np.float64)
    return (modality - (center - 0.5)) / (width - 1) + 0.5


def _lut(dataset: Dataset, keyword: str, *, signed: bool) -> tuple[int, Float] | None:
    """First mapped value and entries of the first LUT of a sequence (PS3.3 C.11.1.1); None without one."""
    sequence = dataset.get(keyword)
    if not sequence or "LUTDescriptor" not in sequence[0] or "LUTData" not in sequence[0]:
        return None
    entries, first, _ = (int(value) for value in sequence[0].LUTDescriptor)
    entries = entries or 1 << 16
    if signed and first >= 1 << 15:
        first -= 1 << 16
    data = sequence[0].LUTData
    if isinstance(data, bytes):
        order = ">" if dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian else "<"
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * entries else f"{order}u2")
    table = np.atleast_1d(np.asarray(data, dtype=np.float64))[:entries]
    return (first, table) if len(table) else None


def _is_8_bit_output(dataset: Dataset) -> bool:
    """Whether the film is already display output: 8 unsigned bits and no transform."""
    plain = (_number(dataset, "RescaleSlope") or 1.0, _number(dataset, "RescaleIntercept") or 0.0) == (1.0, 0.0)
    unsigned = not dataset.get("PixelRepresentation", 0)
    untouched = not dataset.get("ModalityLUTSequence") and _number(dataset, "WindowWidth") is None
    return plain and unsigned and untouched and int(dataset.get("BitsStored") or 0) == 8


def _number(dataset: Dataset, keyword: str) -> float | None:
    """The first value of a numeric tag; None when absent, empty or not finite."""
    value = dataset.get(keyword)
    if isinstance(value, (list, MultiValue)):
        value = value[0] if value else None
    try:
        number = float(value) if value is not None else None
    except (TypeError, ValueError):
        return None
    return number if number is not None and np.isfinite(number) else None
