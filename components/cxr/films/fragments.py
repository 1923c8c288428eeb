"""The code stream of encapsulated pixels (PS3.5 A.4), and whether it is complete."""

from __future__ import annotations

import io

from components.cxr.films.dicom import ITEM, FilmError
from components.cxr.films.shared_memory import FilmBytes

__all__ = ["code_stream", "encapsulated", "is_complete"]

_DELIMITER = b"\xfe\xff\xdd\xe0"
_STREAMS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")
"""What JPEG, JPEG 2000 and JP2 begin with."""
_DATA = (0xDA, 0x90)
"""Markers after which coded data come: start of scan (ITU T.81 B.2.3), start of tile-part (ITU T.800 A.4.2)."""
_END = b"\xff\xd9"
"""End of image (ITU T.81 B.1.1.3) and of code stream (ITU T.800 A.4.4)."""


def code_stream(body: FilmBytes, start: int) -> bytes:
    """The joined fragments of a film's one frame.

    They end with a sequence delimiter or (archives do so) with whatever is no further item. A fragment that the file's
    end cuts off is taken as far as it goes; `is_complete` tells whether the frame ended before.

    Args:
        body: the file.
        start: where the value of the pixel data, its offset table, begins.

    Raises:
        FilmError: `truncated` without any fragment.
    """
    position = start
    items: list[FilmBytes] = []
    while body[position : position + 4] == ITEM:
        value = position + 8
        position = value + int.from_bytes(body[position + 4 : value], "little")
        items.append(body[value:position])
    has_table = len(items) > 1 and not bytes(items[0][:8]).startswith(_STREAMS)
    stream = b"".join(items[1:] if has_table else items)
    if not stream:
        raise FilmError("truncated", "the fragments of the compressed pixels are damaged or end early")
    return stream


def is_complete(stream: bytes) -> bool:
    """Whether a JPEG or JPEG 2000 stream has its end; some decoders fill what is missing with gray.

    What follows the end is padding, of any length. Nothing inside entropy-coded data looks like the end, for bits are
    stuffed after a byte of ones (ITU T.81 B.1.1.5, T.87 A.1, T.800 D.4.1), but a thumbnail or a comment may.

    >>> is_complete(bytes.fromhex("ff d8 ff da 00 02 12 34 ff d9 00 00"))
    True
    >>> is_complete(bytes.fromhex("ff d8 ff e0 00 04 ff d9 ff da 00 02 12 34"))
    False
    """
    first = 0 if stream[:2] == b"\xff\xd8" else max(0, stream.find(b"\xff\x4f\xff\x51"))
    position = first + 2
    while stream[position : position + 1] == b"\xff" and stream[position + 1] not in _DATA:
        length = 2 + int.from_bytes(stream[position + 2 : position + 4], "big")
        position += 1 if stream[position + 1] == 0xFF else length
        if position + 1 >= len(stream):
            return False
    while stream[position : position + 2] == b"\xff\x90" and position < len(stream):  # tile-parts, T.800 A.4.2
        length = int.from_bytes(stream[position + 6 : position + 10], "big")
        if length == 0:
            break
        position += length
    return stream.rfind(_END, position) >= 0 or (position > len(stream) and _END in stream[-64:])


def encapsulated(stream: bytes) -> io.BytesIO:
    """The stream as one well-formed frame of one fragment, for decoders that read encapsulated pixels."""
    padded = stream + b"\0" * (len(stream) % 2)
    return io.BytesIO(b"".join((ITEM, bytes(4), ITEM, len(padded).to_bytes(4, "little"), padded, _DELIMITER, bytes(4))))
