"""DICOM files: parsing, refusals and stored values; used by pixels.py and display.py alone."""

from __future__ import annotations

import contextlib
import io
import logging
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

__all__ = ["MAX_PIXELS", "FilmError", "StoredFilm", "is_dicom", "quiet", "read_stored", "view_of"]

MAX_PIXELS = 120_000_000
"""Films with more pixels are refused before they are decoded."""

_VIEW_MEANINGS = {
    "postero-anterior": "PA",
    "antero-posterior": "AP",
    "lateral": "LATERAL",
    "left lateral": "LL",
    "right lateral": "RL",
}
"""Code meanings of DICOM CID 4010 as (0018,5101) spells them."""

for _name in ("pydicom", "pylibjpeg"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)  # their records quote values, which may be ids


class FilmError(Exception):
    """A film that cannot be used: a short code for statistics and a sentence without ids."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}"


@dataclass(frozen=True)
class StoredFilm:
    """What a DICOM file holds before any transform."""

    dataset: Dataset
    values: npt.NDArray[np.integer[Any]]
    """H x W stored values of a gray film (signed or not), or H x W x 3 RGB."""
    padding: npt.NDArray[np.bool_] | None
    """H x W, True outside the film; None when there is none."""


def is_dicom(data: bytes) -> bool:
    """Whether the bytes are a DICOM file, with a preamble or (PS3.10 forbids it, archives hold it) without."""
    groups = (b"\x02\x00", b"\x08\x00", b"\x00\x08")  # meta or identifying group first, little or big endian
    return data[128:132] == b"DICM" or (data[:2] in groups and data[3:4] in (b"\x00", b"\x05"))


def read_stored(data: bytes) -> StoredFilm:
    """Parse and decode a single-frame DICOM film.

    Raises:
        FilmError: the film is damaged, has no decoder, or is not one readable gray or color frame.
    """
    dataset = _parse(data)
    _check(dataset)
    values = _decode(dataset)
    if values.ndim == 3 and values.shape[2] != 3:
        raise FilmError("photometric", f"{values.shape[2]} samples a pixel")
    return StoredFilm(dataset, *_stored_values(dataset, values))


def view_of(position: str | None, meaning: str | None = None) -> str | None:
    """View position (0018,5101) in capitals, else from the meaning of the view code (0054,0220); None when unknown."""
    if position and position.strip():
        return position.strip().upper()
    return _VIEW_MEANINGS.get((meaning or "").strip().lower())


def _parse(data: bytes) -> Dataset:
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit, little = dataset.original_encoding
            plain = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else plain
    except EOFError:
        raise FilmError("truncated", "the file ends early") from None
    except Exception:  # pydicom raises whatever its parsers met in a damaged file
        raise FilmError("undecodable", "not a readable DICOM file") from None
    return dataset


def _check(dataset: Dataset) -> None:
    """Refuse, before decoding, what is no single readable frame."""
    if "PixelData" not in dataset or not dataset.PixelData:
        raise FilmError("no-pixels", "no pixel data (7FE0,0010)")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise FilmError("multi-frame", f"{frames} frames (0028,0008), expected 1")
    if str(dataset.get("BurnedInAnnotation", "")).strip().upper() == "YES":
        raise FilmError("burned-in", "BurnedInAnnotation (0028,0301) is YES: the film may show a name")
    if "PALETTE" in str(dataset.get("PhotometricInterpretation", "")):
        raise FilmError("photometric", "PALETTE COLOR (0028,0004), expected gray or RGB")
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if rows * columns > MAX_PIXELS:
        raise FilmError("too-large", f"{columns} x {rows} pixels, at most {MAX_PIXELS}")
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    name = syntax.name if syntax.is_valid else "with an invalid UID"
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise FilmError("codec", f"no decoder for transfer syntax {name}" + (f" ({syntax})" if syntax.is_valid else ""))
    if not syntax.is_compressed or syntax.is_deflated:
        bits = rows * columns * int(dataset.get("SamplesPerPixel") or 1) * int(dataset.get("BitsAllocated") or 0)
        if "422" in str(dataset.get("PhotometricInterpretation", "")):
            bits = bits * 2 // 3
        if len(dataset.PixelData) * 8 < bits:
            raise FilmError("truncated", f"{len(dataset.PixelData)} bytes of pixels, expected {bits // 8}")


def _decode(dataset: Dataset) -> npt.NDArray[np.integer[Any]]:
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    encapsulated = syntax.is_encapsulated
    try:
        if encapsulated and syntax != RLELossless:
            frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
            # Every JPEG family ends so; some decoders fill what is missing with gray.
            if b"\xff\xd9" not in frame[-64:]:
                raise FilmError("truncated", "the compressed pixels end early")
        # pydicom corrects the sign of compressed values; _stored_values drops the unused bits of plain ones.
        signed = bool(dataset.get("PixelRepresentation", 0))
        values = pixel_array(dataset, correct_unused_bits=encapsulated and signed)
    except (FilmError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # decoders raise many types, those in Rust none under Exception, and quote the file
        raise FilmError("undecodable", f"pixels cannot be decoded ({syntax.name})") from None
    if not np.issubdtype(values.dtype, np.integer):
        raise FilmError("photometric", f"{values.dtype} pixels, expected integers")
    return values[0] if values.ndim == 3 and values.shape[0] == 1 and int(dataset.Rows) != 1 else values


def _stored_values(
    dataset: Dataset, raw: npt.NDArray[np.integer[Any]]
) -> tuple[npt.NDArray[np.integer[Any]], npt.NDArray[np.bool_] | None]:
    """Values without the bits outside BitsStored (PS3.5 8.1.1), and where they are padding (PS3.3 C.7.5.1.1.2)."""
    if raw.ndim == 3:
        return raw, None
    values = raw
    allocated, stored = raw.dtype.itemsize * 8, int(dataset.get("BitsStored") or raw.dtype.itemsize * 8)
    high = int(dataset.get("HighBit", stored - 1))
    least, most = (-(1 << stored - 1), (1 << stored - 1) - 1) if raw.dtype.kind == "i" else (0, (1 << stored) - 1)
    tidy = high == stored - 1 and raw.min() >= least and raw.max() <= most
    if stored < allocated and not tidy and not UID(dataset.file_meta.TransferSyntaxUID).is_encapsulated:
        above = allocated - 1 - (high if stored - 1 <= high < allocated else stored - 1)
        values = (raw << above) >> (allocated - stored)
    padding: npt.NDArray[np.bool_] | None = None
    if isinstance(first := dataset.get("PixelPaddingValue"), int):
        last = dataset.get("PixelPaddingRangeLimit")
        low, high = sorted(_as_sign_of(value, raw) for value in (first, last if isinstance(last, int) else first))
        padding = ((raw >= low) & (raw <= high)) | ((values >= low) & (values <= high))
        padding = padding if padding.any() else None
    return values, padding


def _as_sign_of(value: int, values: npt.NDArray[np.integer[Any]]) -> int:
    """The tag's value with the sign of the pixels: archives write US for SS."""
    bits = values.dtype.itemsize * 8
    if np.issubdtype(values.dtype, np.signedinteger):
        return value - (1 << bits) if value >= 1 << (bits - 1) else value
    return value + (1 << bits) if value < 0 else value


class _Quiet:
    """How many threads read films now, and the warning filters to restore after the last."""

    lock = threading.Lock()
    depth = 0
    filters: warnings.catch_warnings[None] | None = None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings while any thread reads a film: pydicom's quote the file's values, which may be ids."""
    with _Quiet.lock:
        if _Quiet.depth == 0:
            _Quiet.filters = warnings.catch_warnings()
            _Quiet.filters.__enter__()
            warnings.simplefilter("ignore")
        _Quiet.depth += 1
    try:
        yield
    finally:
        with _Quiet.lock:
            _Quiet.depth -= 1
            if _Quiet.depth == 0 and _Quiet.filters is not None:
                _Quiet.filters.__exit__(None, None, None)
