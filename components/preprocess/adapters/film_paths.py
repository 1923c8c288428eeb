"""Films that a table names otherwise than the disk does."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from components.cxr.errors import UserError
from components.cxr.storage.joins import shape_of

__all__ = ["check_links", "check_spelling", "film_path"]

_NUM_TRIED = 10_000
"""Missing films that are looked for; a table of a million without its films would take memory for nothing."""


def film_path(cell: str, *, folder: str) -> str:
    """A film's name relative to its folder, in its only spelling.

    >>> film_path("./a//b.dcm", folder="/films"), film_path("/films/a/b.dcm", folder="/films")
    ('a/b.dcm', 'a/b.dcm')
    """
    return posixpath.normpath(cell.removeprefix(f"{folder.rstrip('/')}/")) if cell else ""


def check_spelling(paths: Iterable[str], sizes: Mapping[str, int], *, folder: str, where: str) -> None:
    """Refuse films that are there under another spelling; further missing ones are rejects like any other.

    Args:
        paths: of the films that the table lists.
        sizes: the files that are there.
        folder: that holds them.
        where: the table.

    Raises:
        UserError: backslashes, capitals that differ, or a linked folder, which is not followed.
    """
    paths = list(paths)
    missing = [path for path in paths if path not in sizes][:_NUM_TRIED]
    if not missing:
        return
    slashed = [path for path in missing if "\\" in path and posixpath.normpath(path.replace("\\", "/")) in sizes]
    if slashed:
        raise UserError(
            "film-spelled-otherwise",
            "films are named with backslashes",
            where=where,
            found=f"{len(slashed)} of {len(paths)} films, such as {shape_of(slashed)}",
            expected=f"names like {shape_of(sizes)}",
            remedy="Replace \\ by / in the table.",
        )
    folded = {posixpath.normpath(path.replace("\\", "/")).casefold() for path in missing}
    similar = [path for path in sizes if path.casefold() in folded]
    if similar:
        raise UserError(
            "film-spelled-otherwise",
            "films are there in other capitals",
            where=where,
            found=f"{len(similar)} of {len(paths)} films, such as {shape_of(missing)}",
            expected=f"names as on the disk, like {shape_of(similar)}",
            remedy="Rename the files or correct the table: capitals count.",
        )
    parents = {posixpath.dirname(path) for path in missing}
    behind = {parent for parent in parents if _is_linked(parent, folder)}
    if behind:
        raise UserError(
            "linked-folder",
            "films lie behind a linked folder",
            where=folder,
            found=f"{sum(posixpath.dirname(path) in behind for path in missing)} of {len(paths)} films",
            expected="folders and links to files",
            remedy="Links to folders are not followed: mount the folder there, or link each film.",
        )


def check_links(patient_of: Mapping[str, str], *, folder: str) -> None:
    """Refuse a file that two patients have by way of links: it could be trained on and tested.

    Args:
        patient_of: by the path of each film.
        folder: that holds the films; nothing is checked in a bucket, which has no links.

    Raises:
        UserError: two patients.
    """
    if "://" in folder:
        return
    top = str(Path(folder).resolve())
    seen: dict[str, str] = {}
    for path, patient in patient_of.items():
        if os.path.islink(f"{folder}/{path}"):  # noqa: PTH114  (3 us per film; by a Path 8)
            target = str(Path(folder, path).resolve())
            listed = patient_of.get(target.removeprefix(f"{top}/"), patient)
            if seen.setdefault(target, patient) != patient or listed != patient:
                raise UserError(
                    "film-of-two-patients",
                    "one file is a film of two patients",
                    where=folder,
                    found="links that lead to one file",
                    expected="a file per film",
                    remedy="Remove the link or its row.",
                )


def _is_linked(parent: str, folder: str) -> bool:
    """Whether a film's folder is there, behind a link."""
    if "://" in folder or not parent or not Path(folder, parent).is_dir():
        return False
    return any(Path(folder, part).is_symlink() for part in (PurePosixPath(parent), *PurePosixPath(parent).parents[:-1]))
