"""JPEG headers, before any decoder sees them: markers, frame header and height by ITU T.81 and T.87."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from components.cxr.films.dicom import FilmError

__all__ = ["JpegHeader", "read_jpeg_header"]

_SOI, _SOS, _DNL, _FILL = 0xD8, 0xDA, 0xDC, 0xFF
_FAMILY = {0xC0: "JPEG baseline", 0xC1: "JPEG extended", 0xC2: "JPEG extended", 0xC3: "JPEG lossless", 0xF7: "JPEG-LS"}
"""Frame headers that decoders here read; 8-bit extended and progressive frames are read by decoders of baseline."""
_PRECISIONS = {
    "JPEG baseline": (8, 12),
    "JPEG extended": (8, 12, 16),  # GDCM writes 16 where it means 12
    "JPEG lossless": range(2, 17),
    "JPEG-LS": range(2, 17),
}
_TABLES = {0xC4, 0xCC, 0xDB, 0xDD, 0xF8, 0xFE, *range(0xE0, 0xF0)}
"""Segments that may precede a scan: DHT, DAC, DQT, DRI, LSE, COM and APPn (T.81 table B.1, T.87 table C.1)."""
_OTHER_FRAMES = {0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
"""Frame headers of hierarchical and arithmetic coding."""
_MARKER_IN_SCAN = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
"""Any marker but RST; a byte FF of the coded data is followed by a stuffed 0, or in JPEG-LS by a stuffed bit 0."""


@dataclass(frozen=True)
class JpegHeader:
    """What the frame header says (T.81 B.2.2), and the stream as decoders can read it."""

    family: str
    rows: int
    columns: int
    components: int
    precision: int
    """Bits per sample."""
    stream: bytes
    """With the height in the frame header, where the file had it in a DNL segment (T.81 B.2.5)."""


def read_jpeg_header(stream: bytes) -> JpegHeader:
    """Check everything from SOI up to the first scan.

    GDCM ends the process at segments that cannot be, and pylibjpeg never returns from a height of 0.

    Raises:
        FilmError: `undecodable`, or `truncated` without a scan.
    """
    if stream[:2] != bytes((_FILL, _SOI)):
        raise FilmError("undecodable", "the JPEG has no start")
    position, frame_at = 2, None
    while True:
        if position + 5 > len(stream):
            raise FilmError("truncated", "the JPEG ends before its pixels")
        if stream[position] != _FILL:
            raise FilmError("undecodable", "the JPEG's header has bytes between its segments")
        marker = stream[position + 1]
        if marker == _FILL:  # fill bytes may precede a marker (B.1.1.2)
            position += 1
            continue
        length = int.from_bytes(stream[position + 2 : position + 4], "big")
        end = position + 2 + length
        if marker in _OTHER_FRAMES:
            raise FilmError("codec", "a JPEG with hierarchical or arithmetic coding")
        if marker not in _FAMILY and marker != _SOS and marker not in _TABLES:
            raise FilmError("undecodable", "the JPEG's header has a marker that may not stand there")
        if length < 2:
            raise FilmError("undecodable", "the JPEG's header has a segment of an impossible length")
        if end > len(stream):
            raise FilmError("truncated", "the JPEG ends in its header")
        if marker == _SOS:
            break
        if marker in _FAMILY:
            if length < 11:
                raise FilmError("undecodable", "the JPEG's frame header is too short")
            if frame_at is not None:
                raise FilmError("undecodable", "the JPEG has two frame headers")
            frame_at = position
        position = end
    if frame_at is None:
        raise FilmError("undecodable", "the JPEG has no frame header before its pixels")
    if length != 6 + 2 * stream[position + 4] or not 1 <= stream[position + 4] <= stream[frame_at + 9]:
        raise FilmError("undecodable", "the JPEG's scan header contradicts its frame header")
    return _frame(stream, frame_at, scan=end)


def _frame(stream: bytes, at: int, *, scan: int) -> JpegHeader:
    length, precision, rows, columns, components = struct.unpack_from(">HBHHB", stream, at + 2)
    family = _FAMILY[stream[at + 1]]
    if length != 8 + 3 * components or components not in (1, 3, 4) or precision not in _PRECISIONS[family]:
        raise FilmError("undecodable", "the JPEG's frame header contradicts itself")
    if rows == 0:
        rows, stream = _with_height(stream, at, scan=scan)
    if columns == 0:
        raise FilmError("undecodable", "the JPEG has a width of 0")
    if family in ("JPEG baseline", "JPEG extended"):
        family = "JPEG baseline" if precision == 8 else "JPEG extended"
    return JpegHeader(family, rows, columns, components, precision, stream)


def _with_height(stream: bytes, at: int, *, scan: int) -> tuple[int, bytes]:
    """The height from the DNL segment, which ends the first scan, and the stream with it in the frame header."""
    found = _MARKER_IN_SCAN.search(stream, scan)
    start = found.start() if found else len(stream)
    segment = stream[start : start + 6]
    if len(segment) < 6 or segment[1] != _DNL or segment[2:4] != b"\0\x04" or segment[4:6] == b"\0\0":
        raise FilmError("undecodable", "the JPEG has a height of 0 and no segment that says another")
    patched = stream[: at + 5] + segment[4:6] + stream[at + 7 : start] + stream[start + 6 :]
    return int.from_bytes(segment[4:6], "big"), patched
