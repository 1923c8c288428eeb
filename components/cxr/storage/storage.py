"""Opens a local folder, a gs:// prefix or an archive there; says where under `root` each step keeps what it made."""

from __future__ import annotations

import hashlib
from pathlib import Path

from components.cxr.errors import UserError
from components.cxr.storage.archive import ArchiveStorage, archive_in
from components.cxr.storage.interface import (
    ABSENT,
    DamagedFileError,
    StaleWriteError,
    Storage,
    Versioned,
    cannot_read,
)
from components.cxr.storage.local import LocalStorage

__all__ = [
    "ABSENT", "DamagedFileError", "Root", "StaleWriteError", "Storage", "Versioned", "cannot_read", "file_at",
    "open_storage", "sha256_of",
]  # fmt: skip


def open_storage(uri: str | Path, *, user_project: str | None = None) -> Storage:
    """The storage at a local folder (need not exist yet) or a `gs://bucket/prefix`, or in an archive there.

    A zip or tar file stands for the folder that it holds: `films.zip`, `gs://bucket/films.tar/train`. It is read only.

    Args:
        user_project: the project billed for a requester-pays bucket.

    Raises:
        UserError: another scheme than gs://, or an archive that cannot be read.
    """
    text = str(uri)
    if place := archive_in(text):
        return ArchiveStorage(open_storage(place.folder, user_project=user_project), place.name, place.inner)
    if text.startswith("gs://"):
        from components.cxr.storage.gcs import GcsStorage

        return GcsStorage(text, user_project=user_project)
    if "://" in text:
        raise UserError(
            "unsupported-storage", "unsupported storage", where=text, expected="a local folder or gs://bucket/prefix"
        )
    return LocalStorage(Path(text))


def file_at(path: str, *, user_project: str | None = None) -> tuple[Storage, str]:
    """The storage of a file's folder, and its name there; see open_storage.

    >>> file_at("data/labels.csv")[1], file_at("/labels.csv")[0].uri
    ('labels.csv', '/')
    """
    folder, slash, name = path.rpartition("/")
    return open_storage(folder or slash or ".", user_project=user_project), name


class Root:
    """The one place that says where under `root` a step keeps what it made."""

    def __init__(self, uri: str | Path, *, user_project: str | None = None) -> None:
        self.storage = open_storage(uri, user_project=user_project)
        self.uri = self.storage.uri

    def relative(self, uri: str) -> str:
        """A place's name under the root, by which `at` finds it wherever the root moves; its URI if it lies elsewhere.

        >>> Root("/runs/demo").relative("/runs/demo/data/1f"), Root("/runs/demo").relative("/other/2e")
        ('data/1f', '/other/2e')
        """
        return uri.removeprefix(f"{self.uri.rstrip('/')}/")

    def at(self, place: str) -> Storage:
        """The storage of a place that `relative` named."""
        elsewhere = "://" in place or Path(place).is_absolute()
        return open_storage(place) if elsewhere else self.storage.child(place)

    def data(self, key: str) -> Storage:
        """Shards and manifest of one data set; `key` covers configuration and source."""
        return self.storage.child(f"data/{key}")

    def checkpoints(self, key: str) -> Storage:
        """Checkpoints of one training; `key` covers configuration and manifest."""
        return self.storage.child(f"checkpoints/{key}")

    def bundle(self, key: str) -> Storage:
        """The model of one training, under the same key as its checkpoints."""
        return self.storage.child(f"bundles/{key}")

    def predictions(self, key: str) -> Storage:
        """A model's raw scores; `key` covers bundle and manifest."""
        return self.storage.child(f"predictions/{key}")

    def evaluation(self, key: str) -> Storage:
        """Report and operating points; `key` covers scores and configuration."""
        return self.storage.child(f"evaluations/{key}")

    def decisions(self, manifest_hash: str) -> Storage:
        """A file for every judgment that was made on the test studies of one data set."""
        return self.storage.child(f"decisions/{manifest_hash}")

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
