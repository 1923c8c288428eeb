"""The one function from a film file to the model's pixels; used by preprocess and serve."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from components.cxr.dicom import MAX_PIXELS, FilmError, StoredFilm, is_dicom, quiet, read_stored, view_of
from components.cxr.display import display_curve, is_inverted
from components.cxr.pixel_preset import PixelPreset

__all__ = ["Film", "FilmError", "encode_png", "fit", "read_film", "view_of"]

Integers = npt.NDArray[np.integer[Any]]

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_AGE_UNITS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


@dataclass(frozen=True)
class Film:
    """A film as the model sees it, and what its header says about the patient."""

    pixels: npt.NDArray[np.uint8]
    """size x size, background 0."""
    view_position: str | None
    """DICOM (0018,5101), else from the view code (0054,0220)."""
    age_years: float | None
    """DICOM (0010,1010)."""
    sex: str | None
    """F or M, DICOM (0010,0040)."""


def read_film(data: bytes, *, preset: PixelPreset) -> Film:
    """Turn the bytes of a DICOM, PNG or JPEG file into square uint8 pixels.

    Decode, modality transform, VOI LUT or window, presentation, resize by area with the aspect kept and centered
    padding. 8-bit PNG and lossless films of exactly size x size come back unchanged.

    Raises:
        FilmError: the film cannot be used; its code and reason hold no ids.
    """
    if is_dicom(data):
        try:
            with quiet():
                return _dicom_film(read_stored(data), preset)
        except FilmError:
            raise
        except Exception:  # pydicom converts lazily and raises whatever it met in a damaged header
            raise FilmError("undecodable", "a header of the film is not readable") from None
    if data.startswith((_PNG, _JPEG)):
        return Film(_raster_pixels(data, preset), None, None, None)
    raise FilmError("unknown-format", "neither DICOM, PNG nor JPEG")


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """PNG file of a gray image, uint8 [H, W]."""
    written, data = cv2.imencode(".png", pixels)
    assert written
    return bytes(data.tobytes())


def fit(image: Integers, *, size: int) -> Integers:
    """Resize a gray image [H, W] into a size x size square: aspect kept, centered, padded with 0, dtype kept.

    Shrinks by area averaging, enlarges bilinearly.
    """
    height, width = image.shape
    scale = size / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    if (rows, columns) != (height, width):
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image = cv2.resize(image, (columns, rows), interpolation=method)
    square = np.zeros((size, size), dtype=image.dtype)
    top, left = (size - rows) // 2, (size - columns) // 2
    square[top : top + rows, left : left + columns] = image
    return square


def _dicom_film(film: StoredFilm, preset: PixelPreset) -> Film:
    dataset = film.dataset
    return Film(_dicom_pixels(film, preset), _view(dataset), _age(dataset), _sex(dataset))


def _dicom_pixels(film: StoredFilm, preset: PixelPreset) -> npt.NDArray[np.uint8]:
    if film.values.ndim == 3:
        return _present_gray(_luminance(film.values, cv2.COLOR_RGB2GRAY), preset)
    if preset.name == "mimic-jpg":
        return _equalized(film.values, preset, inverted=is_inverted(film.dataset))
    seen = film.values if film.padding is None else film.values[~film.padding]
    low, high = _range(seen)
    base, top = min(0, int(film.values.min())), int(film.values.max())
    if top - base >= 1 << 16:
        raise FilmError("bit-depth", f"values span {top - base}, at most {(1 << 16) - 1}")
    bright = display_curve(film.dataset, np.arange(base, top + 1, dtype=np.float64), seen=(low, high))
    # A table over the stored integers replaces full-size float arrays; averaging happens after it, on brightness.
    table = np.rint(bright * 65535).astype(np.uint16)
    image = np.take(table, film.values if base == 0 else film.values.astype(np.int32) - base)
    if film.padding is not None:
        image[film.padding] = 0
    return _to_uint8(fit(image, size=preset.size))


def _raster_pixels(data: bytes, preset: PixelPreset) -> npt.NDArray[np.uint8]:
    rows, columns = _png_shape(data) if data.startswith(_PNG) else _jpeg_shape(data)
    if rows * columns > MAX_PIXELS:
        raise FilmError("too-large", f"{columns} x {rows} pixels, at most {MAX_PIXELS}")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None:
        raise FilmError("undecodable", "the image is damaged")
    if image.ndim == 3:
        image = _luminance(image[..., :3], cv2.COLOR_BGR2GRAY)
    return _present_gray(image, preset)


def _present_gray(image: Integers, preset: PixelPreset) -> npt.NDArray[np.uint8]:
    """Pixels of an image that is already presentation output: as they are with 8 bits, else stretched.

    One of the preset's own size is its own output, so that a film from a shard comes back unchanged.
    """
    low, high = _range(image)
    if image.dtype == np.uint8 and image.shape == (preset.size, preset.size):
        return np.asarray(image, dtype=np.uint8)
    if preset.name == "mimic-jpg":
        return _equalized(image, preset, inverted=False)
    if image.dtype == np.uint8:
        return fit(image, size=preset.size).astype(np.uint8)
    table = np.rint(np.clip(np.arange(high + 1) - low, 0, None) * (65535 / (high - low))).astype(np.uint16)
    return _to_uint8(fit(np.take(table, image), size=preset.size))


def _equalized(values: Integers, preset: PixelPreset, *, inverted: bool) -> npt.NDArray[np.uint8]:
    """Min-max to uint8, inversion, histogram equalization, then resize: the recipe of MIMIC-CXR-JPG."""
    low, high = _range(values)
    if high - low >= 1 << 16:
        raise FilmError("bit-depth", f"values span {high - low}, at most {(1 << 16) - 1}")
    table = (np.arange(high - low + 1) / (high - low) * 255).astype(np.uint8)
    image = cv2.equalizeHist(np.take(255 - table if inverted else table, values.astype(np.int32) - low))
    return fit(image, size=preset.size).astype(np.uint8)


def _range(values: Integers) -> tuple[int, int]:
    if values.size == 0:
        raise FilmError("flat", "nothing but padding")
    low, high = int(values.min()), int(values.max())
    if low == high:
        raise FilmError("flat", "all pixels have one value")
    return low, high


def _to_uint8(image: Integers) -> npt.NDArray[np.uint8]:
    """0..65535 to 0..255, rounded: v * 257 comes back as v."""
    return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _luminance(image: Integers, conversion: int) -> Integers:
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), conversion))


def _png_shape(data: bytes) -> tuple[int, int]:
    """Rows and columns; checks every chunk (PNG 5.3) first, for decoders believe a damaged length."""
    position, kind = len(_PNG), b""
    while kind != b"IEND":
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        end = position + 12 + length
        if end > len(data):
            raise FilmError("truncated", "the PNG ends early")
        checksum = int.from_bytes(data[end - 4 : end], "big")
        if zlib.crc32(data[position + 4 : end - 4]) != checksum or (position == len(_PNG) and kind != b"IHDR"):
            raise FilmError("undecodable", "the PNG is damaged")
        position = end
    columns, rows = struct.unpack(">II", data[16:24])
    return rows, columns


def _jpeg_shape(data: bytes) -> tuple[int, int]:
    """Rows and columns from the frame header (ITU T.81 B.2.2); checks that the scan is followed by its end."""
    position, shape = 2, None
    while position + 9 < len(data) and data[position] == 0xFF:
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            shape = struct.unpack(">HH", data[position + 5 : position + 9])
        if marker == 0xDA:
            break
        position += 2 + length if marker != 0xFF else 1
    if shape is None or data.find(b"\xff\xd9", position) < 0:
        raise FilmError("truncated", "the JPEG ends early")
    return shape[0], shape[1]


def _view(dataset: Dataset) -> str | None:
    codes = dataset.get("ViewCodeSequence")
    meaning = str(codes[0].get("CodeMeaning", "")) if codes else None
    return view_of(str(dataset.get("ViewPosition") or ""), meaning)


def _age(dataset: Dataset) -> float | None:
    """Years of an age string such as 063Y, 006M, 012W, 003D (PS3.5 6.2)."""
    match = re.fullmatch(r"\s*(\d{1,3})([DWMY])\s*", str(dataset.get("PatientAge") or ""))
    return int(match[1]) * _AGE_UNITS[match[2]] if match else None


def _sex(dataset: Dataset) -> str | None:
    sex = str(dataset.get("PatientSex") or "").strip().upper()
    return sex if sex in ("F", "M") else None
