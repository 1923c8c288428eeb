"""What a place for files can do, whether it is a local folder or a bucket; local.py and gcs.py implement it."""

from __future__ import annotations

import contextlib
import math
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

from components.cxr.errors import UserError

__all__ = ["ABSENT", "DamagedFileError", "StaleWriteError", "Storage", "Versioned", "cannot_read", "deadline_of"]

ABSENT = 0
"""Generation of a name that does not exist."""


class StaleWriteError(Exception):
    """A conditional write found another generation than the one it was made for."""


class DamagedFileError(UserError):
    """One file's bytes are lost, though the place that holds it works; whoever can do without the file may go on."""


def cannot_read(what: str, where: str, error: OSError, *, remedy: str | None = None) -> UserError:
    """The one error of a disk or mount that does not give what is there, or that this account may not read.

    Args:
        what: a word, such as films.
        where: without the name of a film or report.
        remedy: None for one that names how files are found which may not be read.
    """
    if remedy is None:
        remedy = f"`find {where} ! -readable` lists what this account may not read; else check the disk or the mount."
    return UserError(f"unreadable-{what}", f"cannot read {what}", where=where, found=error.strerror, remedy=remedy)


def deadline_of(variable: str, default_s: float) -> float:
    """Seconds by an environment variable; above 0 and finite.

    Raises:
        UserError: it says something else.
    """
    text = os.environ.get(variable) or str(default_s)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UserError("bad-environment-value", "bad value", where=variable, found=text, expected="seconds, above 0")
    return seconds


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
    def read_range(self, name: str, start: int, num_bytes: int) -> bytes:
        """Bytes from `start` on, which lies in the file; fewer where it ends before.

        Raises:
            FileNotFoundError: no such file.
        """

    @abstractmethod
    def stamp(self, name: str) -> tuple[int, int]:
        """A file's size in bytes and a number that is another one when its content is.

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

    def read_start(self, name: str, num_bytes: int) -> bytes:
        """The first bytes of a file that is not empty; all of a shorter one.

        Raises:
            FileNotFoundError: no such file.
        """
        return self.read_range(name, 0, num_bytes)

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
