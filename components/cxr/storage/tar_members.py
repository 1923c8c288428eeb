"""The members of a tar by range reads: all headers are read once per machine, as a tar has no table of contents."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tarfile
from collections.abc import Iterator

from components.cxr.errors import UserError
from components.cxr.storage.archive_file import by_clean_name, seekable, unreadable_archive
from components.cxr.storage.atomic import renamed_to
from components.cxr.storage.interface import DamagedFileError, Storage
from components.cxr.storage.node_cache import cache_folder

__all__ = ["TarMembers"]

Extent = tuple[int, int]
"""Where a member's bytes begin in the archive, and how many they are."""


class TarMembers:
    """Sizes and bytes of a tar's files."""

    sizes: dict[str, int]

    def __init__(self, storage: Storage, name: str, stamp: tuple[int, int]) -> None:
        """Read all headers, or what another process of this machine noted of them.

        Raises:
            UserError: cut off or no tar, or names that lead out of it.
        """
        self._storage, self._name = storage, name
        self._where = f"{storage.uri.rstrip('/')}/{name}"
        place = hashlib.sha256(f"{self._where}\0{stamp}".encode()).hexdigest()[:32]
        noted = cache_folder() / f"tar-{place}.json"
        try:
            self._extents = {
                name: (int(begin), int(size)) for name, (begin, size) in json.loads(noted.read_text()).items()
            }
        except (OSError, ValueError, TypeError, AttributeError):
            self._extents = dict(by_clean_name(self._scan(stamp[0]), where=self._where))
            with contextlib.suppress(OSError, UserError), renamed_to(noted) as partial:
                partial.write_text(json.dumps(self._extents))
                partial.chmod(0o600)  # names of files may be patients'
                partial.replace(noted)
        self.sizes = {name: size for name, (_, size) in self._extents.items()}

    def read(self, name: str, start: int, num_bytes: int) -> bytes:
        """Bytes of a member from `start` on.

        Raises:
            DamagedFileError: the archive ends before them.
        """
        if not num_bytes:
            return b""
        begin, _ = self._extents[name]
        data = self._storage.read_range(self._name, begin + start, num_bytes)
        if len(data) < num_bytes:
            raise DamagedFileError(
                "damaged-member",
                "a file of the archive is damaged",
                where=self._where,
                found=f"{len(data)} of {num_bytes} bytes",
                remedy="Get it again.",
            )
        return data

    def _scan(self, size: int) -> Iterator[tuple[str, Extent]]:
        """Each regular file, and each hard link as the file that it names; a tar ends with a block of zeros."""
        extents: dict[str, Extent] = {}
        try:
            with seekable(self._storage, self._name, size) as file, tarfile.open(fileobj=file, mode="r:") as archive:
                while (member := archive.next()) is not None:
                    archive.members = []  # type: ignore[attr-defined]  # a million of them is a gigabyte
                    if member.isreg() and not member.issparse():
                        extents[member.name] = member.offset_data, member.size
                    elif member.islnk() and member.linkname in extents:
                        extents[member.name] = extents[member.linkname]
                    else:
                        continue
                    yield member.name, extents[member.name]
                if not archive.offset < size:
                    raise tarfile.ReadError
        except (tarfile.TarError, EOFError, ValueError):
            raise unreadable_archive(self._where, f"{size} bytes that are cut off or no tar") from None
