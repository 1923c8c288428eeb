"""The preset `display` once more, in plain float64 and one pixel formula after the other; the tests' yardstick.

Written from DICOM PS3.3 C.7.6.3 (stored values), C.7.5.1.1.2 (padding), C.7.6.11 (shutter), C.11.1 (modality),
C.11.2 (VOI), C.7.6.3.1.7 (aspect) and PS3.4 N.2 (their order); nothing here is shared with the fast implementation
but pydicom's parser.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels import apply_color_lut, pixel_array
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

Float = npt.NDArray[np.float64]


class FlatError(Exception):
    """The film has one brightness."""


def reference(data: bytes, *, size: int) -> Float:
    """Brightness of the size x size image in 0..255, not rounded.

    Raises:
        FlatError: nothing is to be seen.
    """
    dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    syntax = dataset.file_meta.TransferSyntaxUID
    whole_words = not syntax.is_encapsulated or syntax == RLELossless  # whose unused bits _stored drops
    photometric = dataset.PhotometricInterpretation = dataset.PhotometricInterpretation.upper()
    pixels = pixel_array(dataset, correct_unused_bits=not whole_words)
    if pixels.ndim == 3 and pixels.shape[0] == 1 and dataset.Rows != 1:
        pixels = pixels[0]
    sides = _sides(dataset)
    if pixels.ndim == 3:
        return resized(_color(pixels, size), size, sides)
    raw = pixels.astype(np.int64)
    stored = _stored(dataset, raw)
    hidden = _padding(dataset, raw, stored) | _outside(dataset, "Shutter", stored.shape)
    unseen = hidden | _outside(dataset, "Collimator", stored.shape)
    seen = stored[~unseen]
    if seen.size == 0 or seen.min() == seen.max():
        raise FlatError
    if photometric == "PALETTE COLOR":
        if syntax == ExplicitVRBigEndian:
            _swap_palette(dataset)
        colors = apply_color_lut(pixels, dataset)
        bright = colors[..., :3].astype(np.float64) @ [0.299, 0.587, 0.114] / np.iinfo(colors.dtype).max
    else:
        bright = np.clip(_voi(dataset, _modality(dataset, stored), stored, unseen), 0.0, 1.0)
        if photometric == "MONOCHROME1":
            bright = 1.0 - bright
    if np.ptp(bright[~unseen]) == 0:
        raise FlatError
    bright[hidden] = 0.0
    return resized(bright * 255, size, sides)


def resized(image: Float, size: int, sides: tuple[float, float] = (1, 1)) -> Float:
    """Mean over the area that an output pixel covers, or linear between centers; centered on 0.

    Args:
        sides: height and width of a pixel.
    """
    rows, columns = image.shape
    unit = max(sides)
    tall, wide = rows * (sides[0] / unit), columns * (sides[1] / unit)
    scale = size / max(tall, wide)
    height, width = max(1, round(tall * scale)), max(1, round(wide * scale))
    small = _axis(rows, height) @ image @ _axis(columns, width).T
    square = np.zeros((size, size))
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = small
    return square


def _axis(num_inputs: int, num_outputs: int) -> Float:
    """Weights [outputs, inputs] of one axis."""
    weights = np.zeros((num_outputs, num_inputs))
    step = num_inputs / num_outputs
    for o in range(num_outputs):
        if step > 1:
            for i in range(int(o * step), min(num_inputs, int(np.ceil((o + 1) * step)))):
                weights[o, i] = max(0.0, min(i + 1, (o + 1) * step) - max(i, o * step)) / step
        else:
            place = min(max((o + 0.5) * step - 0.5, 0.0), num_inputs - 1.0)
            below = int(place)
            weights[o, below] += 1 - (place - below)
            weights[o, min(below + 1, num_inputs - 1)] += place - below
    return weights


def _color(pixels: npt.NDArray[Any], size: int) -> Float:
    """8-bit colors are brightness as they are; deeper ones are stretched."""
    bright = pixels.astype(np.float64) @ [0.299, 0.587, 0.114]
    if np.ptp(np.rint(bright)) == 0:
        raise FlatError
    if pixels.dtype == np.uint8:
        return bright
    return (bright - bright.min()) / np.ptp(bright) * 255


def _stored(dataset: Dataset, raw: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The BitsStored bits that end at HighBit, with their sign (C.7.6.3.1.2)."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated and syntax != RLELossless:
        return raw
    stored = int(dataset.BitsStored)
    words = (raw >> (int(dataset.HighBit) + 1 - stored)) & ((1 << stored) - 1)
    negative = bool(dataset.PixelRepresentation) & (words >> (stored - 1) & 1 == 1)
    return words - np.where(negative, 1 << stored, 0)


def _padding(dataset: Dataset, raw: npt.NDArray[np.int64], stored: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    if not isinstance(dataset.get("PixelPaddingValue"), int):
        return np.zeros(raw.shape, dtype=bool)
    first = dataset.PixelPaddingValue
    last = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((first, first if last is None else last))
    return ((raw >= low) & (raw <= high)) | ((stored >= low) & (stored <= high))


def _outside(dataset: Dataset, kind: str, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Outside a rectangle whose edges count from 1."""
    if dataset.get(f"{kind}Shape") != "RECTANGULAR":
        return np.zeros(shape, dtype=bool)
    row, column = np.arange(1, shape[0] + 1)[:, None], np.arange(1, shape[1] + 1)[None]
    inside = (row >= dataset[f"{kind}UpperHorizontalEdge"].value) & (row <= dataset[f"{kind}LowerHorizontalEdge"].value)
    inside = inside & (column >= dataset[f"{kind}LeftVerticalEdge"].value)
    inside = inside & (column <= dataset[f"{kind}RightVerticalEdge"].value)
    return np.zeros(shape, dtype=bool) if inside.mean() < 0.05 else ~inside


def _sides(dataset: Dataset) -> tuple[float, float]:
    """Height and width of a pixel by the first pair that can be meant."""
    for keyword in ("PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        pair = _numbers(dataset, keyword)
        if len(pair) == 2 and all(one > 0 for one in pair) and 1 / 8 <= pair[0] / pair[1] <= 8:
            return pair[0], pair[1]
    return 1.0, 1.0


def _swap_palette(dataset: Dataset) -> None:
    """pydicom takes a palette's words for little endian, unless it is segmented."""
    for color in ("Red", "Green", "Blue"):
        keyword = f"{color}PaletteColorLookupTableData"
        if keyword in dataset:
            setattr(dataset, keyword, np.frombuffer(dataset[keyword].value, ">u2").astype("<u2").tobytes())


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The look-up tables that have data."""
    return [item for item in dataset.get(keyword) or [] if item.get("LUTDescriptor") and item.get("LUTData")]


def _reach(dataset: Dataset) -> npt.NDArray[np.int64]:
    """Least and greatest value that can be stored."""
    bits = int(dataset.BitsStored)
    return np.array(
        [-(1 << (bits - 1)), (1 << (bits - 1)) - 1] if dataset.PixelRepresentation else [0, (1 << bits) - 1]
    )


def _modality(dataset: Dataset, stored: npt.NDArray[np.int64]) -> Float:
    for item in _items(dataset, "ModalityLUTSequence"):
        return _looked_up(item, stored.astype(np.float64), reach=_reach(dataset))
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    return stored * (1.0 if slope is None else float(slope)) + (0.0 if intercept is None else float(intercept))


def _voi(dataset: Dataset, x: Float, stored: npt.NDArray[np.int64], unseen: npt.NDArray[np.bool_]) -> Float:
    for item in _items(dataset, "VOILUTSequence"):
        entries = _entries(item)
        if np.ptp(entries):
            tables = _items(dataset, "ModalityLUTSequence")
            reach = _entries(tables[0]) if tables else _modality(dataset, _reach(dataset))
            values = _looked_up(item, np.rint(x), reach=reach)
            return (values - entries.min()) / np.ptp(entries)
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    for c, w in zip(_numbers(dataset, "WindowCenter"), _numbers(dataset, "WindowWidth"), strict=False):
        if w <= 0 or (function == "LINEAR" and w < 1):
            continue
        if function == "SIGMOID":
            return 1 / (1 + np.exp(np.clip(-4 * (x - c) / w, -700, 700)))
        if function == "LINEAR_EXACT":
            return np.where(x <= c - w / 2, 0.0, np.where(x > c + w / 2, 1.0, (x - c) / w + 0.5))
        bright = (x - (c - 0.5)) / (w - 1) + 0.5 if w > 1 else np.zeros(x.shape)
        return np.where(x <= c - 0.5 - (w - 1) / 2, 0.0, np.where(x > c - 0.5 + (w - 1) / 2, 1.0, bright))
    plain = not _items(dataset, "ModalityLUTSequence") and (dataset.get("RescaleSlope") in (None, 1))
    plain = plain and dataset.get("RescaleIntercept") in (None, 0) and not _numbers(dataset, "WindowWidth")
    if plain and dataset.BitsStored == 8 and not dataset.PixelRepresentation:
        return stored / 255.0
    low, high = x[~unseen].min(), x[~unseen].max()
    if low == high:
        raise FlatError
    return (x - low) / (high - low)


def _entries(item: Dataset) -> Float:
    data = np.frombuffer(item.LUTData, "<u2") if isinstance(item.LUTData, bytes) else item.LUTData
    return np.asarray(data, dtype=np.float64)[: int(item.LUTDescriptor[0]) or 65536]


def _looked_up(item: Dataset, x: Float, *, reach: npt.NDArray[Any]) -> Float:
    first = int(item.LUTDescriptor[1])
    if first >= 32768 and (reach.min() < 0 or first > reach.max()):
        first -= 65536
    entries = _entries(item)
    return entries[np.clip(x - first, 0, len(entries) - 1).astype(np.int64)]


def _numbers(dataset: Dataset, keyword: str) -> list[float]:
    value = dataset.get(keyword)
    return [float(one) for one in (value if isinstance(value, MultiValue) else [value]) if one is not None]
