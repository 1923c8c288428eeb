"""Decoders that pydicom lacks or wraps in copies: 12-bit JPEG, reduced JPEG 2000, gray RLE."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["decode_extended", "decode_reduced", "decode_rle", "reduction_for"]


def decode_extended(stream: bytes, *, rows: int, columns: int, bits: int) -> npt.NDArray[np.uint16]:
    """Decode a gray 12-bit JPEG (ITU T.81, extended sequential) to [rows, columns] with GDCM.

    pydicom's own use of GDCM refuses these films, and libjpeg's plugin stops at some that GDCM reads.

    Raises:
        ImportError: GDCM is not installed.
        ValueError: GDCM cannot decode the stream.
    """
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(stream)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, bits, bits - 1, 0))
    image.SetDataElement(element)
    data = image.GetBuffer().encode("utf-8", "surrogateescape")  # char* arrives as str
    if len(data) != rows * columns * 2:
        raise ValueError("GDCM gave another number of pixels")
    return np.frombuffer(data, dtype="<u2").reshape(rows, columns)


def reduction_for(extent: tuple[float, float], size: int) -> int:
    """How many times JPEG 2000 may halve a film with no axis left with fewer pixels than its image.

    Args:
        extent: height and width as a multiple of the longer side of a pixel.
    """
    return max(0, int(max(extent) // size).bit_length() - 1)


def decode_reduced(stream: bytes, *, rows: int, columns: int, reduction: int) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Decode the low resolutions of an unsigned gray JPEG 2000 stream to [rows / 2^r, columns / 2^r], rounded up.

    ITU T.800 B.5: a reader may stop before the finest wavelet levels.

    Raises:
        ImportError: Pillow is not installed.
        ValueError, OSError: Pillow cannot decode the stream so, as when it has fewer levels.
    """
    from PIL import Image

    with Image.open(io.BytesIO(stream), formats=["JPEG2000"]) as image:
        image.reduce = reduction  # type: ignore[method-assign, assignment]
        image.load()
        values = np.asarray(image)
    expected = -(-rows >> reduction), -(-columns >> reduction)
    if values.shape != expected or values.dtype not in (np.uint8, np.uint16):
        raise ValueError("Pillow gave another form of pixels")
    return values


def decode_rle(stream: bytes, *, rows: int, columns: int, allocated: int) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Decode a gray RLE frame (PS3.5 G) of 8 or 16 bits to [rows, columns] with pylibjpeg-rle.

    Through pydicom the same decoder takes a third longer, for every pixel is copied several times.

    Raises:
        ImportError: pylibjpeg-rle is not installed.
        Exception: it refuses the stream.
    """
    from rle.utils import decode_pixel_data

    data = decode_pixel_data(
        stream, version=2, rows=rows, columns=columns, bits_allocated=allocated, samples_per_pixel=1
    )
    return np.frombuffer(data, dtype=f"<u{allocated // 8}").reshape(rows, columns)
