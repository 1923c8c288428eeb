"""Files under a local folder or a gs:// prefix behind the same few functions, and every path derived from `root`."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from components.cxr.errors import UserError

__all__ = ["ABSENT", "Root", "StaleWriteError", "Storage", "Versioned", "open_storage", "renamed_to", "sha256_of"]

ABSENT = 0
"""Generation of a name that does not exist."""

_TEMPORARY = ".partial-"
_LOCK = f"{_TEMPORARY}lock"
_NO_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)


class StaleWriteError(Exception):
    """A conditional write found another generation than the one it was made for."""


class Versioned(NamedTuple):
    """The bytes of a file and the generation they belong to."""

    data: bytes
    generation: int


class Storage(ABC):
    """Files by relative name (`a/b.json`) under one URI. Every write appears whole or not at all."""

    uri: str
    folder: Path | None = None
    """The folder on this machine; None for a bucket."""

    @abstractmethod
    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Names under `prefix` (a folder) with their sizes in bytes, sorted by name."""

    @abstractmethod
    def read(self, name: str) -> Versioned:
        """Content and generation of one file.

        Raises:
            FileNotFoundError: no such file.
        """

    @abstractmethod
    def read_start(self, name: str, num_bytes: int) -> bytes:
        """The first bytes of a file that is not empty; all of a shorter one.

        Raises:
            FileNotFoundError: no such file.
        """

    @abstractmethod
    def write(self, name: str, data: bytes, *, if_generation: int | None = None) -> None:
        """Write one file whole.

        Args:
            if_generation: write only over this generation; ABSENT (0) for a file that must not exist yet.

        Raises:
            StaleWriteError: the file has another generation.
        """

    @abstractmethod
    def upload(self, source: Path, name: str) -> None:
        """Copy a local file to `name`."""

    @abstractmethod
    def writing(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """A local path to fill with a large file, which appears as `name` when the block ends without an error."""

    @abstractmethod
    def remove_partials(self) -> None:
        """Remove what killed writers left behind, but nothing that is being written; a bucket has no such files."""

    @abstractmethod
    def download(self, name: str, target: Path) -> None:
        """Copy `name` to the local file `target`, which appears whole or not at all.

        Raises:
            FileNotFoundError: no such file.
        """

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether the file is there."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove one file; nothing happens when it is not there."""

    @abstractmethod
    def child(self, name: str) -> Storage:
        """The storage under the folder `name`."""

    def local_path(self, name: str) -> Path | None:
        """The file's own path when it lies on this machine, else None."""
        return None if self.folder is None else self.folder / name

    def download_folder(self, target: Path) -> None:
        """Copy every file to the local folder `target`."""
        for name in self.sizes():
            self.download(name, target / name)

    def upload_folder(self, source: Path) -> None:
        """Copy every file of a local folder here."""
        for path in sorted(source.rglob("*")):
            if path.is_file():
                self.upload(path, path.relative_to(source).as_posix())

    def delete_all(self) -> None:
        """Remove every file under this URI."""
        for name in self.sizes():
            self.delete(name)


def open_storage(uri: str | Path, *, user_project: str | None = None) -> Storage:
    """The storage at a local folder (need not exist yet) or a `gs://bucket/prefix`.

    Args:
        user_project: the project billed for a requester-pays bucket.

    Raises:
        UserError: another scheme than gs://.
    """
    text = str(uri)
    if text.startswith("gs://"):
        from components.cxr.storage.gcs import GcsStorage

        return GcsStorage(text, user_project=user_project)
    if "://" in text:
        raise UserError(
            "unsupported-storage", "unsupported storage", where=text, expected="a local folder or gs://bucket/prefix"
        )
    return LocalStorage(Path(text))


class LocalStorage(Storage):
    """A folder; writes go to a temporary name beside the target and are renamed."""

    folder: Path

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()
        self.uri = str(self.folder)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        found: dict[str, int] = {}
        _walk(str(self.folder / prefix), f"{prefix.strip('/')}/".lstrip("/"), found)
        return dict(sorted(found.items()))

    def read(self, name: str) -> Versioned:
        data = (self.folder / name).read_bytes()
        return Versioned(data, _content_generation(data))

    def read_start(self, name: str, num_bytes: int) -> bytes:
        with (self.folder / name).open("rb") as file:
            return file.read(num_bytes)

    def write(self, name: str, data: bytes, *, if_generation: int | None = None) -> None:
        target = self.folder / name
        with renamed_to(target) as partial, self._locked(if_generation is not None):
            partial.write_bytes(data)
            if if_generation is not None:
                found = self.read(name).generation if target.exists() else ABSENT
                if found != if_generation:
                    raise StaleWriteError(f"{self.uri}/{name}")
            partial.replace(target)

    def upload(self, source: Path, name: str) -> None:
        with renamed_to(self.folder / name) as partial:
            shutil.copyfile(source, partial)
            partial.replace(self.folder / name)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with renamed_to(self.folder / name) as partial:
            yield partial
            partial.replace(self.folder / name)

    def remove_partials(self) -> None:
        for path in self.folder.rglob(f"{_TEMPORARY}*"):
            if path.name == _LOCK:
                continue
            with contextlib.suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held by a writer that lives
                path.unlink()

    def download(self, name: str, target: Path) -> None:
        with renamed_to(target) as partial:
            shutil.copyfile(self.folder / name, partial)
            partial.replace(target)

    def exists(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def delete(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def child(self, name: str) -> Storage:
        return LocalStorage(self.folder / name)

    @contextlib.contextmanager
    def _locked(self, wanted: bool) -> Iterator[None]:
        """Compare-and-swap needs one writer at a time; plain writes do not."""
        if not wanted:
            yield
            return
        with (self.folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class Root:
    """The one place that says where under `root` a step keeps what it made."""

    def __init__(self, uri: str | Path, *, user_project: str | None = None) -> None:
        self.storage = open_storage(uri, user_project=user_project)
        self.uri = self.storage.uri

    def data(self, key: str) -> Storage:
        """Shards and manifest of one data set; `key` covers configuration and source."""
        return self.storage.child(f"data/{key}")

    def checkpoints(self, key: str) -> Storage:
        """Checkpoints of one training; `key` covers configuration and manifest."""
        return self.storage.child(f"checkpoints/{key}")

    def bundle(self, key: str) -> Storage:
        """The model of one training, under the same key as its checkpoints."""
        return self.storage.child(f"bundles/{key}")

    def evaluation(self, key: str) -> Storage:
        """Report and predictions; `key` covers configuration, bundle and manifest."""
        return self.storage.child(f"evaluations/{key}")

    def deployed(self) -> Storage:
        """The deployed bundles and the pointer to the one in service."""
        return self.storage.child("deployed")

    def latest(self) -> Storage:
        """Pointers to each step's newest result, for command lines that are given none."""
        return self.storage.child("latest")


def sha256_of(path: Path) -> str:
    """SHA-256 of a local file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _walk(folder: str, prefix: str, found: dict[str, int]) -> None:
    """Add the files under a folder, each as prefix + name; plain strings, as an archive has a million of them."""
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _walk(entry.path, f"{prefix}{entry.name}/", found)
            elif not entry.name.startswith(_TEMPORARY) and not entry.is_dir():
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile, or a link to nothing
                    found[prefix + entry.name] = entry.stat().st_size


def _content_generation(data: bytes) -> int:
    """A local file's generation: 62 bits of its content's hash, never ABSENT."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big") >> 2 | 1


@contextlib.contextmanager
def renamed_to(target: Path) -> Iterator[Path]:
    """A temporary path beside `target`, gone afterwards unless it was renamed.

    Raises:
        UserError: the disk is full or may not be written.
    """
    try:
        with _partial_beside(target) as partial:
            yield partial
    except OSError as error:
        if error.errno not in _NO_WRITING:
            raise
        raise UserError(
            "cannot-write",
            "cannot write",
            where=target.parent,
            found=os.strerror(error.errno),
            remedy="Free or grant space there and run the same command again; what is finished is kept.",
        ) from None


@contextlib.contextmanager
def _partial_beside(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=target.parent)
    partial = Path(name)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(handle, 0o644)
        yield partial
    finally:
        partial.unlink(missing_ok=True)
        os.close(handle)
