"""The members of a zip by range reads: its table of contents once, then each member with one request."""

from __future__ import annotations

import io
import lzma
import stat
import struct
import zipfile
import zlib

from components.cxr.errors import UserError
from components.cxr.storage.archive_file import by_clean_name, seekable, unreadable_archive
from components.cxr.storage.interface import DamagedFileError, Storage

__all__ = ["ZipMembers"]

_HEADER = struct.Struct("<4s22xHH")
"""Local header (APPNOTE 4.3.7): signature, lengths of the name and of the extra field that follow."""
_SLACK = 1 << 12
"""Bytes beside the header's own that the first request takes for name and extra field."""
_ENCRYPTED = 1


class ZipMembers:
    """Sizes and bytes of a zip's files."""

    sizes: dict[str, int]

    def __init__(self, storage: Storage, name: str, stamp: tuple[int, int]) -> None:
        """Read the table of contents.

        Raises:
            UserError: cut off or no zip, encrypted, or names that lead out of it.
        """
        self._storage, self._name = storage, name
        self._where = f"{storage.uri.rstrip('/')}/{name}"
        try:
            with zipfile.ZipFile(seekable(storage, name, stamp[0])) as archive:
                infos = [info for info in archive.infolist() if not info.is_dir() and not _is_link(info)]
        except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, struct.error):
            found = f"no table of contents at the end of {stamp[0]} bytes: it is cut off or no zip"
            raise unreadable_archive(self._where, found) from None
        encrypted = sum(info.flag_bits & _ENCRYPTED for info in infos)
        if encrypted:
            raise UserError(
                "encrypted-archive",
                "archive is encrypted",
                where=self._where,
                found=f"{encrypted} of {len(infos)} files",
                remedy="Unpack it with its password, or pack it again without one.",
            )
        self._infos = by_clean_name(((info.filename, info) for info in infos), where=self._where)
        self.sizes = {name: info.file_size for name, info in self._infos.items()}

    def read(self, name: str, start: int, num_bytes: int) -> bytes:
        """Bytes of a member from `start` on; the checksum is compared where they reach its end.

        Raises:
            DamagedFileError: its bytes are not those that were packed, or nobody can inflate them.
        """
        info = self._infos[name]
        wanted = start + num_bytes
        # A start needs its own bytes alone: what does not shrink grows by under 1 % when it is deflated.
        in_order = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others give whole blocks
        most = wanted + wanted // 100 + _SLACK if in_order else info.compress_size
        packed = self._packed(info, min(info.compress_size, most))
        try:
            with zipfile.ZipExtFile(io.BytesIO(packed), "r", info) as file:
                data = file.read(wanted)
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError):
            raise self._damaged("its bytes are cut off or changed") from None
        except NotImplementedError:
            raise self._damaged(f"compressed by method {info.compress_type}, not deflated") from None
        if len(data) < wanted:
            raise self._damaged(f"{len(data)} of {wanted} bytes")
        return data[start:]

    def _packed(self, info: zipfile.ZipInfo, num_bytes: int) -> bytes:
        head = self._storage.read_range(self._name, info.header_offset, _HEADER.size + _SLACK + num_bytes)
        if len(head) < _HEADER.size:
            raise self._damaged("it is cut off")
        signature, name_length, extra_length = _HEADER.unpack_from(head[: _HEADER.size])
        if signature != b"PK\3\4":
            raise self._damaged("no header where the table of contents says")
        begin = _HEADER.size + name_length + extra_length
        if name_length + extra_length > _SLACK:
            return self._storage.read_range(self._name, info.header_offset + begin, num_bytes)
        return head[begin : begin + num_bytes]

    def _damaged(self, found: str) -> DamagedFileError:
        return DamagedFileError(
            "damaged-member", "a file of the archive is damaged", where=self._where, found=found, remedy="Get it again."
        )


def _is_link(info: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(info.external_attr >> 16)
