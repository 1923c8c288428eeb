"""What zip and tar archives share: a file of a storage to seek in, and the names of members."""

from __future__ import annotations

import io
import posixpath
from collections.abc import Iterable, Mapping
from typing import TypeVar

from components.cxr.errors import UserError
from components.cxr.storage.interface import Storage

__all__ = ["by_clean_name", "seekable", "unreadable_archive"]

_READ_AHEAD = 1 << 16
"""Bytes of a request; headers of a tar's small members come together."""

T = TypeVar("T")


class _Ranges(io.RawIOBase):
    """A file of a storage by range reads, of `size` bytes."""

    def __init__(self, storage: Storage, name: str, size: int) -> None:
        super().__init__()
        self._storage, self._name, self._size, self._at = storage, name, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if place < 0:
            raise OSError("before the beginning")
        self._at = place
        return place

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        data = self._storage.read_range(self._name, self._at, wanted)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def seekable(storage: Storage, name: str, size: int) -> io.BufferedReader:
    """The file opened for reading anywhere, wherever it lies."""
    return io.BufferedReader(_Ranges(storage, name, size), _READ_AHEAD)


def by_clean_name(members: Iterable[tuple[str, T]], *, where: str) -> Mapping[str, T]:
    """Members by their names relative to the archive, sorted; of two with one name the last, as if unpacked.

    Raises:
        UserError: names that lead out of the archive.
    """
    found: dict[str, T] = {}
    num_outside = 0
    for name, member in members:
        clean = posixpath.normpath(name.replace("\\", "/"))
        if clean.startswith(("/", "../")) or clean == "..":
            num_outside += 1
        found[clean] = member
    if num_outside:
        raise UserError(
            "names-out-of-archive",
            "archive holds names that lead out of it",
            where=where,
            found=f"{num_outside} of {len(found)} files with .. or from the root",
            remedy="Pack it again from inside its folder.",
        )
    return dict(sorted(found.items()))


def unreadable_archive(where: str, found: str) -> UserError:
    """The one error of an archive that is damaged as a whole."""
    return UserError(
        "unreadable-archive", "archive is not readable", where=where, found=found, remedy="Download or pack it again."
    )
