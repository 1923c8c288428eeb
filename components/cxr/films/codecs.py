"""Transfer syntaxes: which one the pixels really have, and the quickest installed decoder for it."""

from __future__ import annotations

import contextlib
import io
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, RLELossless

from components.cxr.films.dicom import DicomFile, FilmError
from components.cxr.films.fragments import code_stream, encapsulated, is_complete
from components.cxr.films.jpeg import read_jpeg_header
from components.cxr.films.special_decoders import decode_extended, decode_reduced, decode_rle

__all__ = ["DECODERS", "Frame", "decode", "load_decoders"]

Integers = npt.NDArray[np.integer[Any]]

_JPEG = "1.2.840.10008.1.2.4."
_FAMILIES: dict[str, tuple[str, ...]] = {
    "JPEG baseline": (_JPEG + "50",),
    "JPEG extended": (_JPEG + "51",),
    "JPEG lossless": (_JPEG + "57", _JPEG + "70"),
    "JPEG-LS": (_JPEG + "81", _JPEG + "80"),
    "JPEG 2000": (_JPEG + "91", _JPEG + "90"),
    "HTJ2K": (_JPEG + "203", _JPEG + "201", _JPEG + "202"),
    "RLE": (str(RLELossless),),
}
"""Code streams and their transfer syntaxes; the first serves where the file names one of another family."""

DECODERS: dict[str, tuple[str, ...]] = {
    "JPEG baseline": ("pillow", "pylibjpeg", "gdcm"),
    "JPEG extended": ("gdcm-12", "pylibjpeg"),
    "JPEG lossless": ("gdcm", "pylibjpeg"),
    "JPEG-LS": ("gdcm", "pylibjpeg"),
    "JPEG 2000": ("pylibjpeg", "pillow", "gdcm"),
    "HTJ2K": ("pylibjpeg",),
    "RLE": ("pylibjpeg-rle", "pylibjpeg", "gdcm", "pydicom"),
}
"""Plugins of pydicom, and our own in special_decoders.py, in the order they are tried: quickest first.

The measurements and reasons are in docs/pixels.md. A plugin that is missing, or refuses a film, gives way to the next.
GDCM ends the whole process at some damaged streams, so it sees no JPEG whose header is not in order and nothing another
refused: a process that dies and is replaced costs seconds (isolated.py).
"""

_OWN = {"gdcm-12": "gdcm", "pylibjpeg-rle": "pylibjpeg"}
"""Decoders of special_decoders.py, and the plugin that is installed where they are."""


@dataclass(frozen=True)
class Frame:
    """What the Image Pixel module says about the one frame (PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    samples: int
    photometric: str
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    planar: int

    @property
    def num_bytes(self) -> int:
        """Bytes of the frame when it is not compressed."""
        bits = self.rows * self.columns * self.samples * self.allocated
        return (bits * 2 // 3 if "422" in self.photometric else bits) // 8


def decode(file: DicomFile, frame: Frame, *, reduction: int = 0) -> tuple[Integers, bool]:
    """Decode the frame to [H, W], or [H, W, 3] RGB, of stored values, and whether they are the file's whole words.

    Whole words, plain or run-length encoded, may hold something else in the bits outside BitsStored.

    The pixels' form counts, whatever transfer syntax the file meta says. Plain little-endian gray pixels are a view
    of the file's bytes.

    Args:
        reduction: how often an unsigned gray JPEG 2000 film may be halved on the way.

    Raises:
        FilmError: `codec` without an installed decoder, `truncated`, or `undecodable` when all decoders refuse.
    """
    return _decode_stream(file, frame, reduction) if file.encapsulated else (_decode_plain(file, frame), True)


def load_decoders() -> None:
    """Import all decoders now, which takes about a second, instead of at the first film that needs them."""
    for syntaxes in _FAMILIES.values():
        with contextlib.suppress(NotImplementedError):
            get_decoder(UID(syntaxes[0]))


def _decode_plain(file: DicomFile, frame: Frame) -> Integers:
    assert file.length is not None
    available = min(file.length, len(file.body) - file.start)
    if available < frame.num_bytes:
        raise FilmError("truncated", f"{available} bytes of pixels, expected {frame.num_bytes}")
    if frame.samples == 1 and file.little and frame.allocated in (8, 16):
        dtype = np.dtype(f"<{'i' if frame.signed else 'u'}{frame.allocated // 8}")
        values = np.frombuffer(file.body, dtype, frame.rows * frame.columns, file.start)
        return values.reshape(frame.rows, frame.columns)
    decoder = get_decoder(ExplicitVRLittleEndian if file.little else ExplicitVRBigEndian)
    try:
        return _run(decoder, "", bytes(file.body[file.start : file.start + file.length]), file, frame)
    except (AttributeError, NotImplementedError, ValueError):
        raise FilmError("undecodable", "the pixels do not have the form that the header says") from None


def _decode_stream(file: DicomFile, frame: Frame, reduction: int) -> tuple[Integers, bool]:
    syntax, family, stream = _syntax(code_stream(file.body, file.start), file.syntax, frame)
    try:
        decoder = get_decoder(syntax)
        plugins = _plugins(family, decoder.available_plugins)
    except NotImplementedError:
        plugins = []
    if not plugins:
        raise FilmError("codec", f"no decoder for transfer syntax {_named(syntax)}")
    if family not in (None, "RLE") and not is_complete(stream):
        raise FilmError("truncated", "the compressed pixels end early")
    if reduction and family == "JPEG 2000" and frame.samples == 1 and not frame.signed:
        with contextlib.suppress(ImportError, OSError, ValueError):
            return decode_reduced(stream, rows=frame.rows, columns=frame.columns, reduction=reduction), False
    refused = False
    for plugin in plugins:
        if plugin.startswith("gdcm") and refused:
            continue
        try:
            if plugin in _OWN:
                return _run_own(plugin, stream, frame), family == "RLE"
            return _run(decoder, plugin, encapsulated(stream), file, frame), family == "RLE"
        except (FilmError, MemoryError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # decoders raise many types, those in Rust none under Exception, and quote the file
            refused = True
    raise FilmError("undecodable", f"pixels cannot be decoded ({syntax.name})")


def _plugins(family: str | None, installed: tuple[str, ...]) -> list[str]:
    chosen = DECODERS.get(family or "", ())
    return [name for name in chosen if _OWN.get(name, name) in installed] or [*installed]


def _run_own(plugin: str, stream: bytes, frame: Frame) -> Integers:
    if frame.samples != 1 or frame.allocated not in (8, 16) or (plugin == "gdcm-12" and frame.allocated != 16):
        raise ValueError("for gray films of 8 or 16 bits")
    if plugin == "gdcm-12":
        return decode_extended(stream, rows=frame.rows, columns=frame.columns, bits=frame.stored)
    values = decode_rle(stream, rows=frame.rows, columns=frame.columns, allocated=frame.allocated)
    return values.view(f"i{frame.allocated // 8}") if frame.signed else values


def _syntax(stream: bytes, declared: UID | None, frame: Frame) -> tuple[UID, str | None, bytes]:
    """Transfer syntax and family by what the code stream begins with: ITU T.81 B.1.1, T.87, T.800 A; PS3.5 G.5.

    The last of the three is the stream as decoders can read it.
    """
    family: str | None
    shape: tuple[int, int] | None
    if stream[:2] == b"\xff\xd8":
        family, shape, stream = _jpeg(stream, frame)
    elif stream[:4] == b"\xff\x4f\xff\x51":
        family, shape = _jpeg_2000(stream)
    else:
        count, first = (int.from_bytes(stream[at : at + 4], "little") for at in (0, 4))
        family = "JPEG 2000" if stream[4:8] == b"jP  " else "RLE" if 1 <= count <= 15 and first == 64 else None
        shape = None
    if shape is not None and shape != (frame.rows, frame.columns):
        raise FilmError(
            "undecodable", f"the code stream holds {shape[1]} x {shape[0]} pixels, the header says otherwise"
        )
    if family is None:
        if declared is None or not declared.is_transfer_syntax or not declared.is_encapsulated:
            raise FilmError("codec", f"compressed pixels of no known kind; the file says {_named(declared)}")
        return declared, next((name for name, syntaxes in _FAMILIES.items() if declared in syntaxes), None), stream
    known = declared is not None and declared in _FAMILIES[family]
    return (declared if known and declared is not None else UID(_FAMILIES[family][0])), family, stream


def _jpeg(stream: bytes, frame: Frame) -> tuple[str, tuple[int, int], bytes]:
    """Family, shape and readable stream of a JPEG whose header is in order and says what the Image Pixel module says.

    A stream of fewer or wider samples than announced makes GDCM end the process.
    """
    header = read_jpeg_header(stream)
    if header.components != frame.samples:
        found = f"the code stream has {header.components} samples per pixel, SamplesPerPixel (0028,0002) says"
        raise FilmError("undecodable", f"{found} {frame.samples}")
    if frame.allocated not in (8, 16) or header.precision > frame.allocated:
        found = f"the code stream has {header.precision} bits, BitsAllocated (0028,0100) says {frame.allocated}"
        raise FilmError("undecodable", found)
    return header.family, (header.rows, header.columns), header.stream


def _jpeg_2000(stream: bytes) -> tuple[str, tuple[int, int] | None]:
    """By the size segment (ITU T.800 A.5.1), which the capabilities of ITU T.814 follow."""
    after = 4 + int.from_bytes(stream[4:6], "big")
    family = "HTJ2K" if stream[after : after + 2] == b"\xff\x50" else "JPEG 2000"
    if len(stream) < 24:
        return family, None
    right, bottom, left, top = struct.unpack(">IIII", stream[8:24])
    return family, (bottom - top, right - left)


def _named(syntax: UID | None) -> str:
    if syntax is None:
        return "no transfer syntax"
    if not syntax.is_valid:
        return "an invalid transfer syntax"
    return f"{syntax.name} ({syntax})" if syntax.name != str(syntax) else str(syntax)


def _run(decoder: Decoder, plugin: str, source: bytes | io.BytesIO, file: DicomFile, frame: Frame) -> Integers:
    options: dict[str, Any] = {
        "rows": frame.rows,
        "columns": frame.columns,
        "number_of_frames": 1,
        "samples_per_pixel": frame.samples,
        "photometric_interpretation": frame.photometric,
        "bits_allocated": frame.allocated,
        "bits_stored": frame.stored,
        "pixel_representation": int(frame.signed),
        "planar_configuration": frame.planar,
        "pixel_keyword": "PixelData",
        "pixel_vr": "OW" if file.word_pixels else "OB",
        # pydicom corrects the sign of compressed values; stored.py drops the unused bits of whole words.
        "correct_unused_bits": file.encapsulated and frame.signed,
    }
    values, _ = decoder.as_array(source, decoding_plugin=plugin, **options)
    if not np.issubdtype(values.dtype, np.integer):
        raise FilmError("photometric", f"{values.dtype} pixels, expected integers")
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))
