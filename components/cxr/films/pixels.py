"""The one function from a film file to the model's pixels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from components.cxr.ages import read_age
from components.cxr.films.dicom import FilmError, is_dicom, quiet, view_of
from components.cxr.films.display import Ramp, brightness_table, is_inverted, is_palette, linear_brightness
from components.cxr.films.limits import DecodeLimits
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.films.raster import encode_png, is_raster, luminance, read_raster
from components.cxr.films.resample import EXACT_FLOAT32, in_the_middle, resample, shape_within, weight_of
from components.cxr.films.shared_memory import FilmBytes
from components.cxr.films.stored import StoredFilm, read_plain, read_stored

__all__ = ["Film", "FilmError", "encode_png", "fit", "read_film", "read_plain_film", "view_of"]

Unsigned = npt.NDArray[np.unsignedinteger[Any]]
Pixels = npt.NDArray[np.uint8]
Array = TypeVar("Array", Unsigned, Pixels)

_FINE = 1024
"""A ramp over this many stored values may begin and end at whole ones: an eighth of a gray level off at most."""


@dataclass(frozen=True)
class Film:
    """A film as the model sees it, and what its header says about the patient."""

    pixels: Pixels
    """size x size, background 0."""
    extent: tuple[float, float]
    """Height and width of the film itself, which lies in their middle, in any unit."""
    view_position: str | None
    """DICOM (0018,5101), else from the view code (0054,0220)."""
    age_years: float | None
    """DICOM (0010,1010), from 0 to 130."""
    sex: str | None
    """F or M, DICOM (0010,0040)."""
    refused_age: bool = False
    """Whether the header has an age that is none from 0 to 130 years."""
    burned_in: bool = False
    """Whether BurnedInAnnotation (0028,0301) is YES; only a preset that allows it reads such a film."""


def read_film(data: FilmBytes, *, preset: PixelPreset, limits: DecodeLimits | None = None) -> Film:
    """Turn the bytes of a DICOM, PNG or JPEG file into square uint8 pixels.

    >>> ramp = np.tile(np.arange(256, dtype=np.uint8), (128, 1))
    >>> film = read_film(encode_png(ramp), preset=PixelPreset(size=64))
    >>> film.pixels.shape, int(film.pixels[0].max()), int(film.pixels[32].max())  # padded above and below
    ((64, 64), 0, 254)

    Decode, modality transform, VOI LUT or window, presentation, resize by area with the aspect kept and centered
    padding. 8-bit PNG and lossless films of exactly size x size come back unchanged.

    Decoders run in this process, and a damaged film may end it; `FilmReader` in isolated.py keeps it safe.

    Raises:
        FilmError: the film cannot be used; its code and reason hold no ids.
    """
    limits = limits or DecodeLimits()
    if is_dicom(data):
        with _safely():
            return _dicom_film(read_stored(data, preset, limits), preset)
    if is_raster(data):
        image = read_raster(bytes(data), limits)
        return Film(_present_gray(image, preset), _shape(image), None, None, None)
    raise FilmError("unknown-format", "neither DICOM, PNG nor JPEG")


def read_plain_film(data: bytes, *, preset: PixelPreset, limits: DecodeLimits, pixels_at: int) -> Film | None:
    """As read_film for a DICOM film whose plain pixel data element begins at `pixels_at`; None if it does not."""
    with _safely():
        film = read_plain(data, preset, limits, pixels_at=pixels_at)
        return None if film is None else _dicom_film(film, preset)


def fit(image: Unsigned, *, size: int, extent: tuple[float, float] | None = None) -> Unsigned:
    """Resize a gray image [H, W] into a size x size square: aspect kept, centered, padded with 0, dtype kept.

    Shrinks by exact area averaging, enlarges bilinearly.

    Args:
        extent: height and width of the image, in any unit, where its pixels are no squares.
    """
    target = shape_within(extent or _shape(image), size=size)
    if target != image.shape:
        most = int(np.iinfo(image.dtype).max)
        mean = resample(lambda first, last: image[first:last], _shape(image), target, most=most)
        image = np.rint(mean).astype(image.dtype)
    return _centered(image, size)


@contextlib.contextmanager
def _safely() -> Iterator[None]:
    try:
        with quiet():
            yield
    except (FilmError, MemoryError):
        raise
    except Exception:  # pydicom converts lazily and raises whatever it met in a damaged header
        raise FilmError("undecodable", "a header of the film is not readable") from None


def _dicom_film(film: StoredFilm, preset: PixelPreset) -> Film:
    dataset = film.dataset
    age, refused = _age(dataset)
    burned_in = str(dataset.get("BurnedInAnnotation") or "").strip().upper() == "YES"
    return Film(_dicom_pixels(film, preset), film.extent, _view(dataset), age, _sex(dataset), refused, burned_in)


def _dicom_pixels(film: StoredFilm, preset: PixelPreset) -> Pixels:
    if film.values.ndim == 3:
        return _present_gray(luminance(film.values, cv2.COLOR_RGB2GRAY), preset, film.extent)
    if preset.name == "mimic-jpg" and is_palette(film.dataset):
        return _present_gray(_palette_luminance(film), preset, film.extent)
    if preset.name == "mimic-jpg":
        inverted = is_inverted(film.dataset)
        return _equalized(film.values, film.low, film.high, preset, inverted=inverted, extent=film.extent)
    target = shape_within(film.extent, size=preset.size)
    low, high = film.seen_range()
    ramp = linear_brightness(film.dataset, seen=(low + film.offset, high + film.offset))
    if ramp is None:
        table = brightness_table(film.dataset, low=film.low + film.offset, seen=film.seen_values())
        return _looked_up(film.values, table, target, preset, low=film.low, background=film.background)
    ramp = Ramp(ramp.dark - film.offset, ramp.bright - film.offset)
    return _ramped(film.values, ramp, target, preset, low=film.low, high=film.high, background=film.background)


def _palette_luminance(film: StoredFilm) -> Unsigned:
    """What the indices of a palette stand for, in uint16."""
    curve = brightness_table(film.dataset, low=film.low + film.offset, seen=film.seen_values())
    table = np.zeros(1 << film.values.dtype.itemsize * 8, dtype=np.uint16)
    table[film.low : film.low + len(curve)] = np.rint(curve * 65535)
    return np.asarray(cv2.LUT(film.values, table))


def _ramped(
    values: Unsigned,
    ramp: Ramp,
    target: tuple[int, int],
    preset: PixelPreset,
    *,
    low: int,
    high: int,
    background: npt.NDArray[np.bool_] | None = None,
) -> Pixels:
    """Clip in integers, average, then scale what is left; by a table where whole numbers would be too coarse."""
    ends = Ramp(float(round(ramp.dark)), float(round(ramp.bright)))
    least, most = max(low, int(min(ends))), min(high, int(max(ends)))
    coarse = ends != ramp and abs(ends.bright - ends.dark) < _FINE
    no_dark_value = background is not None and not low <= ends.dark <= high
    if coarse or no_dark_value or most * weight_of(values.shape[0], target[0]) >= EXACT_FLOAT32:
        indices = np.arange(low, high + 1, dtype=np.float64)
        table = np.clip((indices - ramp.dark) / (ramp.bright - ramp.dark), 0.0, 1.0)
        return _looked_up(values, table, target, preset, low=low, background=background)
    bounds = values.dtype.type(least), values.dtype.type(most)
    inside = least <= low and high <= most

    def rows(first: int, last: int) -> Unsigned:
        strip = values[first:last] if inside else np.clip(values[first:last], *bounds)
        if background is not None:
            strip = np.where(background[first:last], values.dtype.type(int(ends.dark)), strip)
        return strip

    mean = resample(rows, _shape(values), target, most=most)
    return _centered(_to_uint8((mean - ends.dark) / (ends.bright - ends.dark)), preset.size)


def _looked_up(
    values: Unsigned,
    curve: npt.NDArray[np.float64],
    target: tuple[int, int],
    preset: PixelPreset,
    *,
    low: int,
    background: npt.NDArray[np.bool_] | None = None,
) -> Pixels:
    """Replace every value by its brightness in as many steps as float32 sums exactly, then average."""
    steps = min(65535, (EXACT_FLOAT32 - 1) // weight_of(values.shape[0], target[0]))
    table = np.zeros(1 << values.dtype.itemsize * 8, dtype=np.uint16)
    table[low : low + len(curve)] = np.rint(curve * steps)

    def rows(first: int, last: int) -> Unsigned:
        strip = np.asarray(cv2.LUT(values[first:last], table))
        if background is not None:
            strip[background[first:last]] = 0
        return strip

    mean = resample(rows, _shape(values), target, most=steps)
    return _centered(_to_uint8(mean / steps), preset.size)


def _present_gray(image: Unsigned, preset: PixelPreset, extent: tuple[float, float] | None = None) -> Pixels:
    """Pixels of an image that is already presentation output: as they are with 8 bits, else stretched.

    One of the preset's own size is its own output, so that a film from a shard comes back unchanged.
    """
    low, high = int(image.min()), int(image.max())
    if low == high:
        raise FilmError("flat", "all pixels have one value")
    extent = extent or _shape(image)
    target = shape_within(extent, size=preset.size)
    if image.dtype == np.uint8 and image.shape == target == (preset.size, preset.size):
        return np.asarray(image, dtype=np.uint8)
    if preset.name == "mimic-jpg":
        return _equalized(image, low, high, preset, inverted=False, extent=extent)
    if image.dtype == np.uint8:
        return fit(image, size=preset.size, extent=extent).astype(np.uint8)
    return _ramped(image, Ramp(low, high), target, preset, low=low, high=high)


def _equalized(
    values: Unsigned, low: int, high: int, preset: PixelPreset, *, inverted: bool, extent: tuple[float, float]
) -> Pixels:
    """Min-max to uint8, inversion, histogram equalization, then resize: the recipe of MIMIC-CXR-JPG."""
    if low == high:
        raise FilmError("flat", "all pixels have one value")
    table = np.zeros(1 << values.dtype.itemsize * 8, dtype=np.uint8)
    gray = (np.arange(high - low + 1) / (high - low) * 255).astype(np.uint8)
    table[low : high + 1] = 255 - gray if inverted else gray
    return fit(np.asarray(cv2.equalizeHist(cv2.LUT(values, table))), size=preset.size, extent=extent).astype(np.uint8)


def _centered(image: Array, size: int) -> Array:
    square = np.zeros((size, size), dtype=image.dtype)
    square[in_the_middle(_shape(image), size=size)] = image
    return square


def _to_uint8(bright: npt.NDArray[np.float64]) -> Pixels:
    return np.rint(np.clip(bright, 0.0, 1.0) * 255).astype(np.uint8)


def _shape(image: Unsigned) -> tuple[int, int]:
    rows, columns = image.shape
    return int(rows), int(columns)


def _view(dataset: Dataset) -> str | None:
    codes = dataset.get("ViewCodeSequence")
    meaning = str(codes[0].get("CodeMeaning", "")) if codes else None
    return view_of(str(dataset.get("ViewPosition") or ""), meaning)


def _age(dataset: Dataset) -> tuple[float | None, bool]:
    """Years of an age string such as 063Y, 006M, 012W, 003D (PS3.5 6.2), and whether there is one that is no age."""
    text = str(dataset.get("PatientAge") or "").strip()
    try:
        age = read_age(text) if text else None
    except ValueError:
        age = None
    return age, bool(text) and age is None


def _sex(dataset: Dataset) -> str | None:
    sex = str(dataset.get("PatientSex") or "").strip().upper()
    return sex if sex in ("F", "M") else None
