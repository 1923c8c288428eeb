"""Films that a table names otherwise than the disk does."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping

from components.cxr.errors import UserError
from components.cxr.storage.joins import shape_of

__all__ = ["check_spelling", "film_path"]

_NUM_TRIED = 10_000
"""Missing films that are looked for; a table of a million without its films would take memory for nothing."""


def film_path(cell: str, *, folder: str) -> str:
    """A film's name relative to its folder, in its only spelling.

    >>> film_path("./a//b.dcm", folder="/films"), film_path("/films/a/b.dcm", folder="/films")
    ('a/b.dcm', 'a/b.dcm')
    """
    return posixpath.normpath(cell.removeprefix(f"{folder.rstrip('/')}/")) if cell else ""


def check_spelling(paths: Iterable[str], sizes: Mapping[str, int], *, where: str) -> None:
    """Refuse films that are there under another spelling; further missing ones are rejects like any other.

    Args:
        paths: of the films that the table lists.
        sizes: the files that are there.
        where: the table.

    Raises:
        UserError: backslashes, or capitals that differ.
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
