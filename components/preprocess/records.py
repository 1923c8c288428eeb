"""What every adapter yields: studies with their films, labels and report, still under the source's own ids."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from components.cxr.storage.storage import Versioned, open_storage

__all__ = ["FilmFiles", "FilmRef", "Folder", "Source", "SourceStudy", "hash_source"]


class FilmFiles(Protocol):
    """Where films are read: any Storage, or a PACS."""

    uri: str

    def local_path(self, name: str) -> Path | None:
        """The file's own path when it lies on this machine, else None."""

    def read(self, name: str) -> Versioned:
        """Content of one file; see Storage."""


@dataclass(frozen=True)
class Folder:
    """A folder that another process can open for itself."""

    uri: str
    user_project: str | None

    def open(self) -> FilmFiles:
        """The storage of this folder."""
        return open_storage(self.uri, user_project=self.user_project)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmRef:
    """One film of a study."""

    image_id: str = field(repr=False)
    path: str = field(repr=False)
    """Relative to the source's `films`."""
    exists: bool
    view_position: str | None
    """From the source's table; None leaves it to the film's header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStudy:
    """One study; ids are the source's and never leave preprocess."""

    study_id: str = field(repr=False)
    patient_id: str = field(repr=False)
    split: str
    films: tuple[FilmRef, ...]
    labels: tuple[int | None, ...]
    """1, 0, -1 or None (blank), in the order of the source's pathologies."""
    labeled: bool
    """Whether the study was labeled at all."""
    text: dict[str, str] = field(repr=False)
    """Report sections by name, where the table holds them."""
    report: str | None = field(repr=False)
    """Path of the report relative to the source's `films`, where it is a file."""
    report_text: str | None = field(default=None, repr=False)
    """The whole report, where the source's tables hold it."""
    age_years: float | None
    sex: str | None
    folder: Folder | None = None
    """Where its films lie, if not under the source's `films`."""
    race: str | None = field(default=None, repr=False)
    insurance: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Source:
    """Everything an adapter found."""

    where: str
    """The table or folder, for messages."""
    films: Folder
    pathologies: tuple[str, ...]
    studies: tuple[SourceStudy, ...] = field(repr=False)
    hash: str
    """Of the tables' bytes and the paths and sizes of films and reports."""
    files_like: str = ""
    """The shape of the names that are there, for the message that none is a film of the table."""
    left_out: dict[str, int] = field(default_factory=dict)
    """What the source lists or holds that makes no row and is no film that failed: how many, by a reason in words."""
    unknown: dict[str, int] = field(default_factory=dict)
    """What the source says but nobody can use, read as unknown: how many, by a reason in words."""
    warnings: tuple[str, ...] = ()
    """What is probably a mistake: lines without ids."""


def hash_source(tables: Iterable[tuple[str, str]], sizes: Iterable[tuple[str, int | None]]) -> str:
    """16 hex digits over (table name, sha256) and (path, bytes or None when missing), whatever their order."""
    digest = hashlib.sha256()
    for name, value in [*sorted(tables), *sorted(sizes, key=lambda item: item[0])]:
        digest.update(f"{name}\0{value}\n".encode("utf-8", "surrogateescape"))  # a name need not be UTF-8
    return digest.hexdigest()[:16]
