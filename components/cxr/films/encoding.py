"""Whether a data set states its value representations, whatever its file meta says."""

from __future__ import annotations

from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

from components.cxr.films.shared_memory import FilmBytes

__all__ = ["LONG", "SHORT", "is_explicit", "is_little"]

LONG = frozenset(vr.value.encode() for vr in EXPLICIT_VR_LENGTH_32 if len(vr.value) == 2)
"""Value representations with a length of 32 bits, behind two reserved bytes (PS3.5 table 7.1-1)."""

SHORT = frozenset(vr.value.encode() for vr in EXPLICIT_VR_LENGTH_16)
"""Value representations with a length of 16 bits (PS3.5 table 7.1-2)."""

_PIXELS = 0x7FE00010
_LOOKED_AT = 4
"""Elements that must follow one another before a data set is believed to be of a kind."""


def is_little(data: FilmBytes, position: int) -> bool:
    """Whether the data set that begins here is little endian: its first group has a small number."""
    return not (data[position : position + 1] == b"\0" and data[position + 1 : position + 2] != b"\0")


def is_explicit(data: FilmBytes, position: int, *, little: bool) -> bool:
    """Whether the elements of the data set that begins here state their VR (PS3.5 7.1.2, A.2) or not (7.1.3, A.1).

    Where an explicit element has its VR an implicit one has its length, whose bytes may be two letters as well. The
    elements that follow decide then.

    >>> is_explicit(bytes.fromhex("08 00 60 00 43 53 02 00 44 58"), 0, little=True)
    True
    >>> is_explicit(bytes.fromhex("08 00 60 00 02 00 00 00 44 58"), 0, little=True)
    False
    """
    letters = bytes(data[position + 4 : position + 6])
    if not (letters.isalpha() and letters.isupper()):
        return False
    if not little:
        return True  # letters in front would be a length of a gigabyte
    return _follows(data, position, explicit=True) or not _follows(data, position, explicit=False)


def _follows(data: FilmBytes, position: int, *, explicit: bool) -> bool:
    """Whether the first elements of a little-endian data set, read so, have rising tags and end inside the file."""
    last = -1
    for _ in range(_LOOKED_AT):
        head = bytes(data[position : position + 12])
        tag = int.from_bytes(head[:2], "little") << 16 | int.from_bytes(head[2:4], "little")
        vr = head[4:6]
        if tag <= last or (explicit and vr not in LONG and vr not in SHORT):
            return False
        if explicit:
            long = vr in LONG
            value, length = position + (12 if long else 8), int.from_bytes(head[8:12] if long else head[6:8], "little")
        else:
            value, length = position + 8, int.from_bytes(head[4:8], "little")
        if length == 0xFFFFFFFF or tag == _PIXELS or value + length == len(data):
            return True
        if value + length > len(data):
            return False
        last, position = tag, value + length
    return True
