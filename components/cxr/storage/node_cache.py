"""What all processes of a machine make once and map into memory: checked, bounded in size, made anew when damaged.

A file holds its content and then a trailer, written last: a magic number, the SHA-256 of the content, and its length.
A file that is in use stays locked, and no process evicts it. One process makes a file, and the others wait for it.
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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
import numpy.typing as npt

from components.cxr.errors import UserError

__all__ = ["FOLDER_VARIABLE", "LIMIT_VARIABLE", "cache_folder", "made_once"]

FOLDER_VARIABLE = "CXRFLOW_CACHE"
"""Environment variable: where decoded shards are kept; default ~/.cache/cxrflow."""
LIMIT_VARIABLE = "CXRFLOW_CACHE_GB"
"""Environment variable: gigabytes (10^9 bytes) that decoded shards may take; default: all but 1 GB of what is free."""

_MAGIC = b"CXRNODE1"
_TRAILER = struct.Struct("<8s32sQ")
_SUFFIX, _CHECKED, _PARTIAL, _MAKING = ".cached", ".checked", ".partial-", ".making-"
_CLOCK_NS = 2_000_000_000
"""Steps of a file system's clock: a file that changed so shortly before its check may have changed after it too."""
_ABANDONED_S = 86_400.0
_CHUNK = 1 << 22


def cache_folder() -> Path:
    """Where decoded shards are kept: $CXRFLOW_CACHE, else ~/.cache/cxrflow."""
    return Path(os.environ.get(FOLDER_VARIABLE) or Path.home() / ".cache" / "cxrflow")


@overload
def made_once(name: str, make: Callable[[], Sequence[bytes | memoryview]]) -> npt.NDArray[np.uint8]: ...
@overload
def made_once(
    name: str, make: Callable[[], Sequence[bytes | memoryview]], *, wait: bool
) -> npt.NDArray[np.uint8] | None: ...


def made_once(
    name: str, make: Callable[[], Sequence[bytes | memoryview]], *, wait: bool = True
) -> npt.NDArray[np.uint8] | None:
    """The bytes that `make` returns, one part after the other, as a read-only memory map of a file.

    The first process that asks for `name` calls `make`; every other process of the machine waits for it and maps the
    same file, so that they share its pages. The first open of a file hashes it (0.6 s per GB on one core); later ones
    compare its size and times with those of the check (0.1 ms): a change on disk is noticed, and a hundred processes
    do not each read everything.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as os.environ["CXRFLOW_CACHE"]:
    ...     made_once("features-of-a-shard", lambda: [bytes(2), bytes([7])]).tolist()
    [0, 0, 7]

    Args:
        name: of the file, which must change with whatever changes its content: a hash of what it is made from.
        wait: False returns None at once while another process makes the file.

    Raises:
        UserError: there is no room, or what was written is not what is read.
    """
    folder = cache_folder()
    path = folder / f"{name}{_SUFFIX}"
    found = _open(path)
    if found is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _making(folder / f"{_MAKING}{name}", wait=wait) as mine:
            if not mine:
                return None
            found = _open(path)  # made meanwhile by the one that was waited for
            if found is None:
                with contextlib.suppress(FileNotFoundError):
                    _warn_damaged(path)
                parts = make()
                _make_room(folder, sum(map(len, parts)) + _TRAILER.size)
                _write(path, parts)
                found = _open(path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
            raise
        raise _no_room(folder, os.strerror(error.errno)) from None
    if found is None:
        raise UserError(
            "pixel-cache-damaged",
            "bytes on disk are not those that were written there",
            where=folder,
            remedy=f"Check the disk, or set {FOLDER_VARIABLE} to another one.",
        )
    return found


@contextlib.contextmanager
def _making(path: Path, *, wait: bool) -> Iterator[bool]:
    """Whether this process may make the file; a killed one lets go of it. Without locks everyone may, and writes it."""
    while True:
        with path.open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            except OSError:  # a file system without locks
                pass
            if not _is_at(file, path):
                continue  # the one that was waited for has removed it
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)
            return


def _is_at(file: BinaryIO, path: Path) -> bool:
    return any(os.path.samestat(os.fstat(file.fileno()), status) for status in _status(path))


def _open(path: Path) -> npt.NDArray[np.uint8] | None:
    """The content, if the file is there, whole and unchanged; the map keeps it locked against eviction."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_SH)
        status = os.fstat(file.fileno())
        num_bytes = status.st_size - _TRAILER.size
        if num_bytes < 0:
            return None
        identity = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
        mark = path.with_suffix(_CHECKED)
        if not _was_checked(mark, identity, changed_ns=status.st_ctime_ns):
            now_ns = time.time_ns()
            if not _is_whole(file, num_bytes):
                return None
            with contextlib.suppress(OSError):  # a cache that others fill and this process only reads
                mark.write_text(f"{identity}\n{now_ns}\n")
        with contextlib.suppress(OSError):
            os.utime(mark)  # last used
        if num_bytes == 0:
            return np.empty(0, np.uint8)
        return np.memmap(file, np.uint8, mode="r", shape=num_bytes)


def _was_checked(mark: Path, identity: str, *, changed_ns: int) -> bool:
    try:
        known, checked_ns = mark.read_text().splitlines()
        return known == identity and int(checked_ns) > changed_ns + _CLOCK_NS
    except (OSError, ValueError):
        return False


def _is_whole(file: BinaryIO, num_bytes: int) -> bool:
    """Whether the trailer is there and says what the content is."""
    digest, left = hashlib.sha256(), num_bytes
    file.seek(0)
    while left > 0:
        chunk = file.read(min(_CHUNK, left))
        if not chunk:
            return False
        digest.update(chunk)
        left -= len(chunk)
    return file.read() == _TRAILER.pack(_MAGIC, digest.digest(), num_bytes)


def _write(path: Path, parts: Sequence[Any]) -> None:
    """Write the parts into `path`, under a name of this host's until the file is whole and on the disk."""
    file, partial = _new_partial(path.parent)
    digest, num_bytes = hashlib.sha256(), 0
    try:
        with file:
            os.fchmod(file.fileno(), 0o644)
            for part in parts:
                digest.update(part)
                file.write(part)
                num_bytes += len(part)
            file.write(_TRAILER.pack(_MAGIC, digest.digest(), num_bytes))
            file.flush()
            os.fsync(file.fileno())
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _new_partial(folder: Path) -> tuple[BinaryIO, Path]:
    """A locked file of this host's; one that another process took for abandoned before the lock is given up."""
    while True:
        handle, name = tempfile.mkstemp(prefix=_partial_prefix(), dir=folder)
        file, partial = os.fdopen(handle, "wb"), Path(name)
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        if _is_at(file, partial):
            return file, partial
        file.close()


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
