"""PNG and JPEG files to gray pixels, with their damage found before a decoder fills it in."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from components.cxr.films.dicom import MAX_PIXELS, FilmError

__all__ = ["encode_png", "is_raster", "luminance", "read_raster"]

Unsigned = npt.NDArray[np.unsignedinteger[Any]]

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def is_raster(data: bytes) -> bool:
    """Whether the bytes are a PNG or JPEG file."""
    return data.startswith((_PNG, _JPEG))


def read_raster(data: bytes) -> Unsigned:
    """Decode a PNG or JPEG file to gray pixels [H, W], uint8 or uint16; alpha is dropped.

    Raises:
        FilmError: the image is damaged, cut off or too large.
    """
    rows, columns = _png_shape(data) if data.startswith(_PNG) else _jpeg_shape(data)
    if rows * columns > MAX_PIXELS:
        raise FilmError("too-large", f"{columns} x {rows} pixels, at most {MAX_PIXELS}")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None:
        raise FilmError("undecodable", "the image is damaged")
    return luminance(image[..., :3], cv2.COLOR_BGR2GRAY) if image.ndim == 3 else np.asarray(image)


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """PNG file of a gray image, uint8 [H, W]."""
    written, data = cv2.imencode(".png", pixels)
    assert written
    return bytes(data.tobytes())


def luminance(image: Unsigned, conversion: int) -> Unsigned:
    """0.299 R + 0.587 G + 0.114 B of a color image [H, W, 3]."""
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
