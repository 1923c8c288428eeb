"""PNG and JPEG files to gray pixels, with their damage found before a decoder fills it in."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from components.cxr.films.dicom import FilmError
from components.cxr.films.jpeg import read_jpeg_header
from components.cxr.films.limits import DecodeLimits
from components.cxr.films.shared_memory import FilmBytes

__all__ = ["encode_png", "is_raster", "luminance", "read_raster"]

Unsigned = npt.NDArray[np.unsignedinteger[Any]]

_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 4, 6: 4}
"""Of a decoded image by color type (PNG 11.2.1); a palette becomes color, gray with alpha all four."""
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def is_raster(data: FilmBytes) -> bool:
    """Whether the bytes are a PNG or JPEG file."""
    return bytes(data[:8]).startswith((_PNG, _JPEG))


def read_raster(data: bytes, limits: DecodeLimits) -> Unsigned:
    """Decode a PNG or JPEG file to gray pixels [H, W], uint8 or uint16; alpha is dropped, an EXIF orientation applied.

    Raises:
        FilmError: the image is damaged, cut off or too large.
    """
    if data.startswith(_PNG):
        rows, columns, pixel_bytes = _png_shape(data)
    else:
        rows, columns, pixel_bytes, data = _jpeg_shape(data)
    if rows * columns > limits.max_pixels:
        raise FilmError("too-large", f"{columns} x {rows} pixels, at most {limits.max_pixels}")
    if (num_bytes := rows * columns * pixel_bytes) > limits.max_decoded_bytes:
        raise FilmError("too-large", f"{num_bytes} bytes of pixels, at most {limits.max_decoded_bytes}")
    try:
        # Unlike IMREAD_UNCHANGED these turn the image as its EXIF orientation says.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    except cv2.error:
        image = None
    if image is None:
        raise FilmError("undecodable", "the image is damaged")
    return luminance(image, cv2.COLOR_BGR2GRAY) if image.ndim == 3 else np.asarray(image)


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """PNG file of a gray image, uint8 [H, W]."""
    written, data = cv2.imencode(".png", pixels)
    assert written
    return bytes(data.tobytes())


def luminance(image: Unsigned, conversion: int) -> Unsigned:
    """0.299 R + 0.587 G + 0.114 B of a color image [H, W, 3]."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), conversion))


def _png_shape(data: bytes) -> tuple[int, int, int]:
    """Rows, columns, bytes per decoded pixel; checks every chunk (PNG 5.3), for decoders believe a damaged length."""
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
    columns, rows, bits, color = struct.unpack(">IIBB", data[16:26])
    return rows, columns, _PNG_CHANNELS.get(color, 4) * (2 if bits == 16 else 1)


def _jpeg_shape(data: bytes) -> tuple[int, int, int, bytes]:
    """Rows, columns, bytes per pixel and readable stream; checks that the scan is followed by its end."""
    header = read_jpeg_header(data)
    if data.find(b"\xff\xd9", 2) < 0:
        raise FilmError("truncated", "the JPEG ends early")
    return header.rows, header.columns, header.components, header.stream
