"""A zip or tar file as the folder that it holds: its members are read where they lie, and nothing is unpacked."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple, NoReturn, Protocol

from components.cxr.errors import UserError
from components.cxr.storage.atomic import renamed_to
from components.cxr.storage.interface import Storage, Versioned
from components.cxr.storage.tar_members import TarMembers
from components.cxr.storage.zip_members import ZipMembers

__all__ = ["ArchiveStorage", "archive_in"]

_COMPRESSED = (".tgz", ".tbz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
_SUFFIXES = (".zip", ".tar", *_COMPRESSED)


class _Place(NamedTuple):
    folder: str
    name: str
    inner: str


class _Members(Protocol):
    sizes: dict[str, int]

    def read(self, name: str, start: int, num_bytes: int) -> bytes: ...


_opened: dict[tuple[str, str, tuple[int, int]], _Members] = {}
"""Archives that this process has read the contents of, by place and stamp."""


def archive_in(uri: str) -> _Place | None:
    """Which part of a path is an archive; a folder whose name ends in .zip stays a folder.

    >>> archive_in("gs://bucket/set.zip/films")
    _Place(folder='gs://bucket', name='set.zip', inner='films')
    """
    if not any(suffix in uri.lower() for suffix in _SUFFIXES):
        return None
    parts = uri.rstrip("/").split("/")
    for i in range(3 if "://" in uri else 0, len(parts)):
        if parts[i].lower().endswith(_SUFFIXES):
            path = "/".join(parts[: i + 1])
            if "://" in uri or Path(path).expanduser().is_file():
                return _Place("/".join(parts[:i]) or ("/" if i else "."), parts[i], "/".join(parts[i + 1 :]))
    return None


class ArchiveStorage(Storage):
    """The members of an archive, under one of its folders, as files.

    Raises DamagedFileError where one member's bytes are lost: of a zip, which holds checksums.
    """

    def __init__(self, outer: Storage, name: str, inner: str) -> None:
        """Read what the archive holds, once per process.

        Raises:
            UserError: missing, compressed as a whole, encrypted, cut off, or with names that lead out of it.
        """
        self._outer, self._name, self._inner = outer, name, inner.strip("/")
        self.uri = "/".join(part for part in (outer.uri.rstrip("/"), name, self._inner) if part)
        self._members, self._generation = _open(outer, name)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        inner = self._key("")
        folder = f"{self._key(prefix.strip('/'))}/" if prefix.strip("/") else inner
        return {name[len(inner) :]: size for name, size in self._members.sizes.items() if name.startswith(folder)}

    def read(self, name: str) -> Versioned:
        return Versioned(self.read_range(name, 0, self.stamp(name)[0]), self._generation)

    def read_range(self, name: str, start: int, num_bytes: int) -> bytes:
        size, _ = self.stamp(name)
        return self._members.read(self._key(name), start, max(0, min(num_bytes, size - start)))

    def stamp(self, name: str) -> tuple[int, int]:
        if not self.exists(name):
            raise FileNotFoundError(f"{self.uri}/{name}")
        return self._members.sizes[self._key(name)], self._generation

    def exists(self, name: str) -> bool:
        return self._key(name) in self._members.sizes

    def download(self, name: str, target: Path) -> None:
        data = self.read(name).data
        with renamed_to(target) as partial:
            partial.write_bytes(data)
            partial.replace(target)

    def child(self, name: str) -> Storage:
        return ArchiveStorage(self._outer, self._name, self._key(name))

    def write(self, name: str, data: bytes, *, if_generation: int | None = None) -> None:
        self._refuse()

    def upload(self, source: Path, name: str) -> None:
        self._refuse()

    def writing(self, name: str) -> contextlib.AbstractContextManager[Path]:
        self._refuse()

    def remove_partials(self) -> None:
        return

    def delete(self, name: str) -> None:
        self._refuse()

    def _key(self, name: str) -> str:
        return f"{self._inner}/{name}" if self._inner else name

    def _refuse(self) -> NoReturn:
        raise UserError(
            "read-only-archive", "archives are read only", where=self.uri, expected="a folder, local or gs://"
        )


def _open(outer: Storage, name: str) -> tuple[_Members, int]:
    """What the archive holds, and its generation."""
    where = f"{outer.uri.rstrip('/')}/{name}"
    if name.lower().endswith(_COMPRESSED):
        raise UserError(
            "compressed-tar",
            "a compressed tar has to be read from its beginning for every film",
            where=where,
            expected="a .zip, or a .tar without compression",
            remedy=f"Decompress it without unpacking it: gunzip, bunzip2 or unxz {name}.",
        )
    try:
        stamp = outer.stamp(name)
    except FileNotFoundError:
        raise UserError(
            "missing-archive", "archive is missing", where=where, remedy="Check the section data."
        ) from None
    key = (outer.uri, name, stamp)
    if key not in _opened:
        kind = ZipMembers if name.lower().endswith(".zip") else TarMembers
        _opened[key] = kind(outer, name, stamp)
    return _opened[key], stamp[1]
