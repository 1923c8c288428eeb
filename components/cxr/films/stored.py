"""From a DICOM file to its stored values, which of them are padding, and refusals."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from components.cxr.films.codecs import Frame, decode
from components.cxr.films.dicom import DicomFile, FilmError, open_dicom
from components.cxr.films.geometry import pixel_sides
from components.cxr.films.limits import DecodeLimits
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.films.regions import outside
from components.cxr.films.shared_memory import FilmBytes
from components.cxr.films.special_decoders import reduction_for

__all__ = ["StoredFilm", "read_plain", "read_stored"]

_ELEMENT = 12
"""Bytes of tag, VR and length before the pixels; 8 in implicit VR (PS3.5 7.1)."""

_ONE_SAMPLE = ("MONOCHROME2", "MONOCHROME1", "PALETTE COLOR")
_THREE_SAMPLES = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")
"""PS3.3 C.7.6.3.1.2. MONOCHROME2 is also met with three equal samples, whose luminance it is."""

Integers = npt.NDArray[np.integer[Any]]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class StoredFilm:
    """What a DICOM file holds before any transform."""

    dataset: Dataset
    values: npt.NDArray[np.unsignedinteger[Any]]
    """uint8 or uint16: [H, W] stored values minus `offset`, or [H, W, 3] RGB."""
    offset: int
    """Negative for signed films."""
    low: int
    """The least of `values`."""
    high: int
    """The greatest of `values`."""
    background: Mask | None
    """[H, W], True where padding or a shutter hides the film; None when nowhere."""
    unseen: Mask | None
    """[H, W], True where values say nothing about the patient: the background, and what lies outside collimation."""
    extent: tuple[float, float]
    """Height and width of the film as a multiple of the longer side of its pixels: [H, W] where they are squares."""

    def seen_range(self) -> tuple[int, int]:
        """Least and greatest of the `values` that show the patient.

        Raises:
            FilmError: `flat` when there is one value or none.
        """
        low, high = self.low, self.high
        if self.unseen is not None:
            if self.unseen.all():
                raise FilmError("flat", "nothing but padding")
            least, greatest, _, _ = cv2.minMaxLoc(self.values, mask=(~self.unseen).view(np.uint8))
            low, high = int(least), int(greatest)
        if low == high:
            raise FilmError("flat", "all pixels have one value")
        return low, high

    def seen_values(self) -> Mask:
        """For each of low..high whether it occurs where the film shows the patient."""
        mask = None if self.unseen is None else (~self.unseen).view(np.uint8)
        size = 1 << self.values.dtype.itemsize * 8
        counts = cv2.calcHist([self.values], [0], mask, [size], [0, size])
        seen: Mask = np.asarray(counts).ravel()[self.low : self.high + 1] > 0
        return seen


def read_stored(data: FilmBytes, preset: PixelPreset, limits: DecodeLimits) -> StoredFilm:
    """Parse and decode a single-frame DICOM film.

    Raises:
        FilmError: the film is damaged, has no decoder, or is not one readable gray or color frame.
    """
    return _stored(open_dicom(data, max_inflated=limits.max_decoded_bytes), preset, limits)


def read_plain(data: bytes, preset: PixelPreset, limits: DecodeLimits, *, pixels_at: int) -> StoredFilm | None:
    """As read_stored for a film whose plain pixel data element begins at `pixels_at`; None if it does not.

    The parser is given nothing behind that element's length, so what it can cost is bounded.
    """
    try:
        head = open_dicom(data[: pixels_at + _ELEMENT], max_inflated=0)
    except FilmError:
        return None
    file = dataclasses.replace(head, body=data)
    if file.encapsulated or file.start - pixels_at not in (_ELEMENT, _ELEMENT - 4):
        return None
    return _stored(file, preset, limits)


def _stored(file: DicomFile, preset: PixelPreset, limits: DecodeLimits) -> StoredFilm:
    _refuse(file.dataset, preset)
    frame = _frame(file.dataset, limits)
    file.dataset.PhotometricInterpretation = frame.photometric
    sides = pixel_sides(file.dataset)
    extent = frame.rows * sides[0], frame.columns * sides[1]
    raw, whole_words = decode(
        file, frame, reduction=reduction_for(extent, preset.size) if preset.reduced_jpeg2000 else 0
    )
    if raw.ndim == 3:
        return _color(file.dataset, raw, extent)
    return _gray(file.dataset, frame, raw, whole_words=whole_words, sides=sides)


def _refuse(dataset: Dataset, preset: PixelPreset) -> None:
    """Refuse, before decoding, what is no single film for reading."""
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise FilmError("multi-frame", f"{frames} frames (0028,0008), expected 1")
    if _text(dataset, "BurnedInAnnotation") == "YES" and not preset.allow_burned_in:
        raise FilmError("burned-in", "BurnedInAnnotation (0028,0301) is YES: the film may show a name")
    if _text(dataset, "PresentationIntentType") == "FOR PROCESSING" and not preset.allow_for_processing:
        raise FilmError("for-processing", "PresentationIntentType (0008,0068) is FOR PROCESSING: raw detector values")


def _frame(dataset: Dataset, limits: DecodeLimits) -> Frame:
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if rows * columns > limits.max_pixels:
        raise FilmError("too-large", f"{columns} x {rows} pixels, at most {limits.max_pixels}")
    allocated = int(dataset.get("BitsAllocated") or 0)
    if rows < 1 or columns < 1 or allocated < 1:
        raise FilmError("undecodable", "Rows (0028,0010), Columns (0028,0011) or BitsAllocated (0028,0100) is missing")
    samples = int(dataset.get("SamplesPerPixel") or 1)
    if samples not in (1, 3):
        raise FilmError("photometric", f"{samples} samples per pixel (0028,0002), expected 1 or 3")
    stored = int(dataset.get("BitsStored") or allocated)
    stored = stored if 1 <= stored <= allocated else allocated
    high_bit = dataset.get("HighBit")
    high_bit = stored - 1 if high_bit is None or not stored - 1 <= int(high_bit) < allocated else int(high_bit)
    frame = Frame(
        rows=rows,
        columns=columns,
        samples=samples,
        photometric=_photometric(dataset, samples),
        allocated=allocated,
        stored=stored,
        high_bit=high_bit,
        signed=bool(dataset.get("PixelRepresentation") or 0),
        planar=int(dataset.get("PlanarConfiguration") or 0),
    )
    if frame.num_bytes > limits.max_decoded_bytes:
        raise FilmError("too-large", f"{frame.num_bytes} bytes of pixels, at most {limits.max_decoded_bytes}")
    return frame


def _photometric(dataset: Dataset, samples: int) -> str:
    """(0028,0004) as PS3.3 C.7.6.3.1.2 spells it: archives write lower case, spaces and underscores."""
    written = _text(dataset, "PhotometricInterpretation")
    if not written:
        # The shape of the presentation LUT says the same of gray films (C.8.11.3.1.2).
        shape = _text(dataset, "PresentationLUTShape") if samples == 1 else "COLOR"
        written = {"IDENTITY": "MONOCHROME2", "INVERSE": "MONOCHROME1", "COLOR": "RGB"}.get(shape, "")
    name = {_letters(known): known for known in (*_ONE_SAMPLE, *_THREE_SAMPLES)}.get(_letters(written))
    if name is None:
        raise FilmError("photometric", "PhotometricInterpretation (0028,0004) is missing or of no known kind")
    if (name in _ONE_SAMPLE[1:] and samples != 1) or (name in _THREE_SAMPLES and samples != 3):
        raise FilmError("photometric", f"{name} (0028,0004) with {samples} samples per pixel (0028,0002)")
    return name


def _letters(name: str) -> str:
    return re.sub(r"[\s_]", "", name)


def _color(dataset: Dataset, raw: Integers, extent: tuple[float, float]) -> StoredFilm:
    if raw.dtype not in (np.uint8, np.uint16):
        raise FilmError("bit-depth", f"{raw.dtype} color samples, expected 8 or 16 unsigned bits")
    return StoredFilm(dataset, np.asarray(raw), 0, int(raw.min()), int(raw.max()), None, None, extent)


def _gray(
    dataset: Dataset, frame: Frame, raw: Integers, *, whole_words: bool, sides: tuple[float, float]
) -> StoredFilm:
    values = raw
    low, high = _ends(raw)
    least, most = (
        (-(1 << frame.stored - 1), (1 << frame.stored - 1) - 1) if frame.signed else (0, (1 << frame.stored) - 1)
    )
    tidy = frame.high_bit == frame.stored - 1 and low >= least and high <= most
    allocated = raw.dtype.itemsize * 8
    if frame.stored < allocated and not tidy and whole_words:
        # Bits outside BitsStored are no part of the value (PS3.5 8.1.1).
        values = (raw << (allocated - 1 - frame.high_bit)) >> (allocated - frame.stored)
        low, high = _ends(values)
    padding = _padding(dataset, raw, values)
    plain, offset = _unsigned(values, low, high)
    shape, step = (frame.rows, frame.columns), -(-frame.rows // plain.shape[0])
    background = _either(padding, outside(dataset, "Shutter", shape, sides=sides, step=step))
    unseen = _either(background, outside(dataset, "Collimator", shape, sides=sides, step=step))
    extent = frame.rows * sides[0], frame.columns * sides[1]
    return StoredFilm(dataset, plain, offset, low - offset, high - offset, background, unseen, extent)


def _ends(values: Integers) -> tuple[int, int]:
    """Least and greatest; for two bytes OpenCV needs a third of numpy's time."""
    if values.dtype.itemsize > 2:
        return int(values.min()), int(values.max())
    low, high, _, _ = cv2.minMaxLoc(values)
    return int(low), int(high)


def _unsigned(values: Integers, low: int, high: int) -> tuple[npt.NDArray[np.unsignedinteger[Any]], int]:
    """The values as uint8 or uint16, and what was taken from them."""
    if values.dtype.itemsize <= 2:
        unsigned = np.dtype(f"u{values.dtype.itemsize}")
        if low >= 0:
            return values.view(unsigned), 0
        half = 1 << values.dtype.itemsize * 8 - 1
        return values.view(unsigned) ^ unsigned.type(half), -half
    if high - low >= 1 << 16:
        raise FilmError("bit-depth", f"values span {high - low}, at most {(1 << 16) - 1}")
    return (values - low).astype(np.uint16), low


def _padding(dataset: Dataset, raw: Integers, values: Integers) -> Mask | None:
    """Where pixels are padding (0028,0120), (0028,0121), PS3.3 C.7.5.1.1.2."""
    first, last = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if not isinstance(first, int):
        return None
    low, high = sorted(_as_sign_of(value, raw) for value in (first, last if isinstance(last, int) else first))
    padding: Mask = (raw >= low) & (raw <= high)
    if values is not raw:
        padding |= (values >= low) & (values <= high)
    return padding if padding.any() else None


def _as_sign_of(value: int, values: Integers) -> int:
    """The tag's value with the sign of the pixels: archives write US for SS."""
    bits = values.dtype.itemsize * 8
    if np.issubdtype(values.dtype, np.signedinteger):
        return value - (1 << bits) if value >= 1 << (bits - 1) else value
    return value + (1 << bits) if value < 0 else value


def _either(first: Mask | None, second: Mask | None) -> Mask | None:
    if first is None or second is None:
        return second if first is None else first
    return first | second


def _text(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip(" \t\r\n\0").upper()
