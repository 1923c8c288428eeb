"""Decoded shards on this machine's disk, memory-mapped; checked, bounded in size, and made anew when damaged.

A file holds the pixels of one shard and then a trailer, written last: a magic number, the SHA-256 of the pixels, and
rows, height and width. Its name is the shard's hash. A file that is in use stays locked, and no process evicts it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import platform
import shutil
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from components.cxr.errors import UserError
from components.cxr.shards import ShardInfo, read_shard
from components.cxr.storage.storage import Storage

__all__ = ["FOLDER_VARIABLE", "LIMIT_VARIABLE", "cache_folder", "cached_pixels"]

FOLDER_VARIABLE = "CXRFLOW_CACHE"
"""Environment variable: where decoded shards are kept; default ~/.cache/cxrflow."""
LIMIT_VARIABLE = "CXRFLOW_CACHE_GB"
"""Environment variable: gigabytes (10^9 bytes) that decoded shards may take; default: all but 1 GB of what is free."""

_MAGIC = b"CXRPIX1\n"
_TRAILER = struct.Struct("<8s32s3Q")
_SUFFIX, _CHECKED, _PARTIAL = ".pixels", ".checked", ".partial-"
_CLOCK_NS = 2_000_000_000
"""Steps of a file system's clock: a file that changed so shortly before its check may have changed after it too."""
_ABANDONED_S = 86_400.0
_CHUNK = 1 << 22


def cache_folder() -> Path:
    """Where decoded shards are kept: $CXRFLOW_CACHE, else ~/.cache/cxrflow."""
    return Path(os.environ.get(FOLDER_VARIABLE) or Path.home() / ".cache" / "cxrflow")


def cached_pixels(storage: Storage, info: ShardInfo, *, size: int) -> npt.NDArray[np.uint8]:
    """The shard's pixels, uint8 [rows, size, size], as a read-only memory map of a file that is made on first use.

    The first open hashes the file (0.6 s per GB on one core); later ones compare its size and times with those of the
    check (0.1 ms): a change on disk is noticed, and a hundred processes do not each read everything.

    Raises:
        UserError: the shard is missing or damaged, or there is no room for its pixels.
    """
    folder, shape = cache_folder(), (info.rows, size, size)
    path = folder / f"{info.sha256}{_SUFFIX}"
    found = _open(path, shape)
    if found is None:
        try:
            with contextlib.suppress(FileNotFoundError):
                _warn_damaged(path)
            _make_room(folder, info.rows * size * size + _TRAILER.size)
            _make(path, storage, info, shape)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
                raise
            raise _no_room(folder, os.strerror(error.errno)) from None
        found = _open(path, shape)
        if found is None:
            raise UserError(
                "pixel-cache-damaged",
                "pixels on disk are not those that were written there",
                where=folder,
                remedy=f"Check the disk, or set {FOLDER_VARIABLE} to another one.",
            )
    return found


def _open(path: Path, shape: tuple[int, int, int]) -> npt.NDArray[np.uint8] | None:
    """The pixels, if the file is there, whole and unchanged; the map keeps it locked against eviction."""
    num_bytes = shape[0] * shape[1] * shape[2]
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_SH)
        status = os.fstat(file.fileno())
        if status.st_size != num_bytes + _TRAILER.size:
            return None
        identity = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
        mark = path.with_suffix(_CHECKED)
        if not _was_checked(mark, identity, changed_ns=status.st_ctime_ns):
            now_ns = time.time_ns()
            if not _is_whole(file, shape):
                return None
            with contextlib.suppress(OSError):  # a cache that others fill and this process only reads
                mark.write_text(f"{identity}\n{now_ns}\n")
        with contextlib.suppress(OSError):
            os.utime(mark)  # last used
        pixels_NHW: npt.NDArray[np.uint8] = np.memmap(file, np.uint8, mode="r", shape=shape)
    return pixels_NHW


def _was_checked(mark: Path, identity: str, *, changed_ns: int) -> bool:
    try:
        known, checked_ns = mark.read_text().splitlines()
        return known == identity and int(checked_ns) > changed_ns + _CLOCK_NS
    except (OSError, ValueError):
        return False


def _is_whole(file: BinaryIO, shape: tuple[int, int, int]) -> bool:
    """Whether the trailer is there and says what the pixels are."""
    digest, left = hashlib.sha256(), shape[0] * shape[1] * shape[2]
    file.seek(0)
    while left > 0:
        chunk = file.read(min(_CHUNK, left))
        if not chunk:
            return False
        digest.update(chunk)
        left -= len(chunk)
    return file.read() == _TRAILER.pack(_MAGIC, digest.digest(), *shape)


def _make(path: Path, storage: Storage, info: ShardInfo, shape: tuple[int, int, int]) -> None:
    """Decode a shard into `path`, under a name of this host's until it is whole and on the disk."""
    column = read_shard(storage, info, columns=["pixels"]).column("pixels")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=_partial_prefix(), dir=path.parent)
    partial, digest = Path(name), hashlib.sha256()
    try:
        with os.fdopen(handle, "wb") as file:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(file.fileno(), 0o644)
            for film in column:
                pixels = film.as_py()
                digest.update(pixels)
                file.write(pixels)
            file.write(_TRAILER.pack(_MAGIC, digest.digest(), *shape))
            file.flush()
            os.fsync(file.fileno())
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _warn_damaged(path: Path) -> None:
    """Remove a file that is not what it should be; FileNotFoundError when there is none."""
    path.unlink()
    path.with_suffix(_CHECKED).unlink(missing_ok=True)
    print(f"warning: pixels in {path.parent} were damaged and are made anew", file=sys.stderr, flush=True)


def _make_room(folder: Path, num_bytes: int) -> None:
    """Evict what was used least recently until `num_bytes` more stay within the limit.

    Raises:
        UserError: what is in use leaves too little.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    files = [(path, status) for path in folder.iterdir() for status in _status(path)]
    kept = [(path, status) for path, status in files if path.suffix == _SUFFIX or path.name.startswith(_PARTIAL)]
    used = sum(status.st_size for _, status in kept)
    limit = _limit_bytes(folder, used=used)
    for path, _ in sorted(kept, key=lambda item: _last_used(*item)):
        if used + num_bytes <= limit:
            return
        if path.suffix == _SUFFIX:
            used -= _evict(path)
    if used + num_bytes > limit:
        raise _no_room(folder, f"{(limit - used) / 1e9:.3g} of {limit / 1e9:.3g} GB left", needed=num_bytes)


def _evict(path: Path) -> int:
    """Remove a file that no process maps; the bytes that it had, 0 if it stays."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            num_bytes = os.fstat(file.fileno()).st_size
            path.unlink()
    except OSError:  # in use, or removed meanwhile
        return 0
    path.with_suffix(_CHECKED).unlink(missing_ok=True)
    return num_bytes


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed writers left: on this host what none holds, from other hosts what is a day old."""
    for path in folder.glob(f"{_PARTIAL}*"):
        ours = path.name.startswith(_partial_prefix())
        with contextlib.suppress(OSError), path.open("rb") as file:
            if ours or time.time() - path.stat().st_mtime > _ABANDONED_S:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def _limit_bytes(folder: Path, *, used: int) -> float:
    text = os.environ.get(LIMIT_VARIABLE)
    if not text:
        return used + shutil.disk_usage(folder).free - 1e9
    try:
        limit = float(text) * 1e9
    except ValueError:
        limit = -1.0
    if not limit > 0.0:
        raise UserError("bad-value", "bad value", where=LIMIT_VARIABLE, found=text, expected="gigabytes above 0")
    return limit


def _no_room(folder: Path, found: str, *, needed: int | None = None) -> UserError:
    return UserError(
        "pixel-cache-full",
        "no room for decoded shards",
        where=folder,
        found=found,
        expected=None if needed is None else f"{needed / 1e9:.3g} GB for the next shard",
        remedy=f"Free space there, raise {LIMIT_VARIABLE}, or set {FOLDER_VARIABLE} to a folder on a larger disk.",
    )


def _partial_prefix() -> str:
    return f"{_PARTIAL}{platform.node()}-"


def _last_used(path: Path, status: os.stat_result) -> float:
    return max([status.st_mtime, *(mark.st_mtime for mark in _status(path.with_suffix(_CHECKED)))])


def _status(path: Path) -> Iterator[os.stat_result]:
    with contextlib.suppress(OSError):  # removed meanwhile
        yield path.stat()
