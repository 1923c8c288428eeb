"""DICOM files: from bytes to a header and where its pixels lie."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import data_element_generator, read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from components.cxr.films.encoding import LONG, SHORT, is_explicit, is_little
from components.cxr.films.shared_memory import FilmBytes, opened

__all__ = ["DicomFile", "FilmError", "inflate", "is_dicom", "open_dicom", "quiet", "view_of"]

_INFLATE_STEP = 1 << 18
_PIXEL_DATA = 0x7FE00010
_FLOAT_PIXELS = (0x7FE00008, 0x7FE00009)
_UNDEFINED = 0xFFFFFFFF
ITEM = b"\xfe\xff\x00\xe0"
"""What encapsulated pixels begin with (PS3.5 A.4)."""

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
class DicomFile:
    """A parsed header, and where in the bytes the still encoded pixels are."""

    dataset: Dataset
    """Everything before the pixels."""
    syntax: UID | None
    """What the file meta says, (0002,0010); the pixels may be of another one."""
    body: FilmBytes
    """The file, inflated where it was deflated."""
    start: int
    """Where the value of (7FE0,0010) begins in `body`."""
    length: int | None
    """Bytes of that value; None when undefined, as encapsulated pixels have it."""
    little: bool
    """Whether the data set is little endian."""
    word_pixels: bool
    """Whether the pixels are OW: 16-bit words, whatever BitsAllocated."""

    @property
    def encapsulated(self) -> bool:
        """Whether the pixels lie in fragments."""
        return self.length is None or self.body[self.start : self.start + 4] == ITEM


def is_dicom(data: FilmBytes) -> bool:
    """Whether the bytes are a DICOM file, with a preamble or (PS3.10 forbids it, archives hold it) without."""
    # Without one the meta or identifying group comes first, little or big endian.
    little, big = data[:2] in (b"\x02\x00", b"\x08\x00") and data[3:4] == b"\0", data[:3] == b"\x00\x08\x00"
    return data[128:132] == b"DICM" or little or big


def open_dicom(data: FilmBytes, *, max_inflated: int) -> DicomFile:
    """Parse a DICOM file up to its pixels, which are neither copied nor decoded.

    Preamble and file meta may be missing. Whether the data set is explicit or implicit, little or big endian is read
    from its first elements, for file metas err.

    Args:
        max_inflated: bytes that a deflated data set may grow to.

    Raises:
        FilmError: not a readable DICOM file, or one without integer pixels.
    """
    try:
        return _open(data, max_inflated)
    except (FilmError, MemoryError):
        raise
    except EOFError:
        raise FilmError("truncated", "the file ends early") from None
    except Exception:  # pydicom raises whatever its parsers met in a damaged file
        raise FilmError("undecodable", "not a readable DICOM file") from None


def view_of(position: str | None, meaning: str | None = None) -> str | None:
    """View position (0018,5101) in capitals, else from the meaning of the view code (0054,0220); None when unknown."""
    if position and position.strip():
        return position.strip().upper()
    return _VIEW_MEANINGS.get((meaning or "").strip().lower())


def _open(data: FilmBytes, max_inflated: int) -> DicomFile:
    file = opened(data)
    file.seek(132 if data[128:132] == b"DICM" else 0)
    meta = FileMetaDataset(read_dataset(file, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2))
    syntax = UID(str(meta.TransferSyntaxUID)) if meta.get("TransferSyntaxUID") else None
    position, body = file.tell(), data
    if syntax == DeflatedExplicitVRLittleEndian:
        body, position = inflate(data[position:], max_inflated), 0
        file = opened(body)
    little = is_little(body, position)
    explicit = is_explicit(body, position, little=little)
    # read_dataset would look at the first element once more, and take a length of letters for a VR.
    elements = data_element_generator(file, not explicit, little, stop_when=_at_pixels)
    dataset = Dataset({element.tag: element for element in elements})
    dataset.set_original_encoding(not explicit, little)
    return _with_pixels(dataset, syntax, body, file.tell(), explicit=explicit, little=little)


def _at_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag == _PIXEL_DATA or tag in _FLOAT_PIXELS


def _with_pixels(
    dataset: Dataset, syntax: UID | None, body: FilmBytes, position: int, *, explicit: bool, little: bool
) -> DicomFile:
    order: Literal["little", "big"] = "little" if little else "big"
    element = bytes(body[position : position + 12])
    tag = int.from_bytes(element[:2], order) << 16 | int.from_bytes(element[2:4], order)
    if tag in _FLOAT_PIXELS:
        raise FilmError(
            "photometric", "pixels are floating-point numbers (7FE0,0008) or (7FE0,0009), expected integers"
        )
    if tag != _PIXEL_DATA or len(element) < 8:
        raise FilmError("no-pixels", "no pixel data (7FE0,0010)")
    kind = element[4:6] if explicit else b""
    if kind in LONG:
        start, length = position + 12, int.from_bytes(element[8:12], order)
    elif kind in SHORT:
        start, length = position + 8, int.from_bytes(element[6:8], order)
    else:
        start, length = position + 8, int.from_bytes(element[4:8], order)
    if length == 0:
        raise FilmError("no-pixels", "pixel data (7FE0,0010) is empty")
    stated = None if length == _UNDEFINED else length
    return DicomFile(dataset, syntax, body, start, stated, little=little, word_pixels=kind != b"OB")


def inflate(data: FilmBytes, most: int) -> FilmBytes:
    """A deflated data set (PS3.5 A.5); one that is not deflated, though its meta says so, as it is.

    A megabyte of it may hold a gigabyte, so it grows in steps, and little more than twice `most` is ever allocated.

    Raises:
        FilmError: `too-large` when it has more than `most` bytes.
    """
    stream, body, view = zlib.decompressobj(-zlib.MAX_WBITS), bytearray(), memoryview(data)
    try:
        for start in range(0, len(data), _INFLATE_STEP):
            pending: bytes | memoryview = view[start : start + _INFLATE_STEP]
            while pending and not stream.eof:
                body += stream.decompress(pending, 8 * _INFLATE_STEP)
                if len(body) > most:
                    raise FilmError("too-large", f"inflates to more than {most} bytes")
                pending = stream.unconsumed_tail
    except zlib.error:
        return data
    return bytes(body)


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
