"""Files under a local folder or a gs:// prefix behind the same few functions, and every path derived from `root`."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from components.cxr.errors import UserError

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Bucket

__all__ = ["Root", "StaleWriteError", "Storage", "Versioned", "open_storage", "sha256_of"]

DEADLINE_S = 120.0
"""Seconds the client may retry one request (429, 5xx, broken connections) before the error reaches the caller."""

ABSENT = 0
"""Generation of a name that does not exist."""

_TEMPORARY = ".partial-"


class StaleWriteError(Exception):
    """A conditional write found another generation than the one it was made for."""


class Versioned(NamedTuple):
    """The bytes of a file and the generation they belong to."""

    data: bytes
    generation: int


class Storage(ABC):
    """Files by relative name (`a/b.json`) under one URI. Every write appears whole or not at all."""

    uri: str

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
        return None

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
        return GcsStorage(text, user_project=user_project)
    if "://" in text:
        raise UserError("unsupported storage", where=text, expected="a local folder or gs://bucket/prefix")
    return LocalStorage(Path(text))


class LocalStorage(Storage):
    """A folder; writes go to a temporary name beside the target and are renamed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()
        self.uri = str(self.folder)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        base = self.folder / prefix
        if not base.is_dir():
            return {}
        found = {}
        for folder, _, files in os.walk(base):
            for file in files:
                if _TEMPORARY not in file:
                    path = Path(folder, file)
                    found[path.relative_to(self.folder).as_posix()] = path.stat().st_size
        return dict(sorted(found.items()))

    def read(self, name: str) -> Versioned:
        data = (self.folder / name).read_bytes()
        return Versioned(data, _content_generation(data))

    def write(self, name: str, data: bytes, *, if_generation: int | None = None) -> None:
        target = self.folder / name
        with _renamed_to(target) as partial, self._locked(if_generation is not None):
            partial.write_bytes(data)
            if if_generation is not None:
                found = self.read(name).generation if target.exists() else ABSENT
                if found != if_generation:
                    raise StaleWriteError(f"{self.uri}/{name}")
            os.replace(partial, target)

    def upload(self, source: Path, name: str) -> None:
        with _renamed_to(self.folder / name) as partial:
            shutil.copyfile(source, partial)
            os.replace(partial, self.folder / name)

    def download(self, name: str, target: Path) -> None:
        with _renamed_to(target) as partial:
            shutil.copyfile(self.folder / name, partial)
            os.replace(partial, target)

    def exists(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def delete(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def child(self, name: str) -> Storage:
        return LocalStorage(self.folder / name)

    def local_path(self, name: str) -> Path | None:
        return self.folder / name

    @contextlib.contextmanager
    def _locked(self, wanted: bool) -> Iterator[None]:
        """Compare-and-swap needs one writer at a time; plain writes do not."""
        if not wanted:
            yield
            return
        with open(self.folder / f"{_TEMPORARY}lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class GcsStorage(Storage):
    """A prefix of a Google Cloud Storage bucket, through google-cloud-storage and its own retries."""

    def __init__(self, uri: str, *, user_project: str | None = None) -> None:
        bucket, _, prefix = uri.removeprefix("gs://").partition("/")
        if not bucket:
            raise UserError("bucket is missing", where=uri, expected="gs://bucket/prefix")
        self.bucket_name, self.prefix, self.user_project = bucket, prefix.strip("/"), user_project
        self.uri = f"gs://{bucket}/{self.prefix}".rstrip("/")

    @cached_property
    def bucket(self) -> Bucket:
        from google.cloud.storage import Client

        return Client().bucket(self.bucket_name, user_project=self.user_project)

    @cached_property
    def _retry(self) -> dict[str, object]:
        from google.cloud.storage.retry import DEFAULT_RETRY

        return {"retry": DEFAULT_RETRY.with_timeout(DEADLINE_S)}

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def _blob(self, name: str) -> Blob:
        return self.bucket.blob(self._key(name))

    def sizes(self, prefix: str = "") -> dict[str, int]:
        folder = self._key(prefix).rstrip("/") + "/" if self._key(prefix) else ""
        blobs = self.bucket.client.list_blobs(self.bucket, prefix=folder, **self._retry)
        start = len(self.prefix) + 1 if self.prefix else 0
        return dict(sorted((blob.name[start:], int(blob.size)) for blob in blobs if not blob.name.endswith("/")))

    def read(self, name: str) -> Versioned:
        from google.api_core.exceptions import NotFound

        blob = self._blob(name)
        try:
            data = blob.download_as_bytes(**self._retry)
        except NotFound:
            raise FileNotFoundError(f"{self.uri}/{name}") from None
        return Versioned(data, int(blob.generation))

    def write(self, name: str, data: bytes, *, if_generation: int | None = None) -> None:
        from google.api_core.exceptions import PreconditionFailed

        try:
            self._blob(name).upload_from_string(
                data, content_type="application/octet-stream", if_generation_match=if_generation, **self._retry
            )
        except PreconditionFailed:
            raise StaleWriteError(f"{self.uri}/{name}") from None

    def upload(self, source: Path, name: str) -> None:
        self._blob(name).upload_from_filename(str(source), content_type="application/octet-stream", **self._retry)

    def download(self, name: str, target: Path) -> None:
        from google.api_core.exceptions import NotFound

        with _renamed_to(target) as partial:
            try:
                self._blob(name).download_to_filename(str(partial), **self._retry)
            except NotFound:
                raise FileNotFoundError(f"{self.uri}/{name}") from None
            os.replace(partial, target)

    def exists(self, name: str) -> bool:
        return bool(self._blob(name).exists(**self._retry))

    def delete(self, name: str) -> None:
        from google.api_core.exceptions import NotFound

        with contextlib.suppress(NotFound):
            self._blob(name).delete(**self._retry)

    def child(self, name: str) -> Storage:
        return GcsStorage(f"{self.uri}/{name}", user_project=self.user_project)


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
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _content_generation(data: bytes) -> int:
    """A local file's generation: 62 bits of its content's hash, never ABSENT."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big") >> 2 | 1


@contextlib.contextmanager
def _renamed_to(target: Path) -> Iterator[Path]:
    """A temporary path beside `target`, gone afterwards unless it was renamed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=target.parent)
    os.close(handle)
    partial = Path(name)
    try:
        partial.chmod(0o644)
        yield partial
    finally:
        partial.unlink(missing_ok=True)
