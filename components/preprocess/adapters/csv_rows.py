"""What published tables say of a film otherwise than by a cell of its own: its name, its ids, its split, its labels."""

from __future__ import annotations

import hashlib
import posixpath
import re
import string
from collections.abc import Mapping, Sequence
from typing import Literal

from components.cxr.errors import UserError
from components.cxr.storage.storage import cannot_read, file_at
from components.cxr.storage.tables import Table
from components.preprocess.adapters.csv_labels import States
from components.preprocess.adapters.film_paths import film_path
from components.preprocess.config import CsvData

__all__ = ["film_paths", "ids_in_paths", "listed_splits", "merged"]


def film_paths(table: Table, config: CsvData, sizes: Mapping[str, int], *, folder: str) -> list[str]:
    """Each row's film relative to its folder: from its cell or a template of cells, or found by its name or stem.

    Raises:
        UserError: no such column, or a name or stem that two files have.
    """
    name = config.columns.image
    if "{" not in name:
        cells = table.cells(name, field="data.columns.image")
    else:
        parts = [(text, column) for text, column, _, _ in string.Formatter().parse(name)]
        columns = {c: table.cells(c, field="data.columns.image") for _, c in parts if c}
        cells = [
            "".join(text + (columns[c][i] if c else "") for text, c in parts)
            if all(column[i] for column in columns.values())
            else ""
            for i in range(len(table))
        ]
    paths = [film_path(cell, folder=folder) for cell in cells]
    if config.find_films == "path":
        return paths
    bare = posixpath.basename if config.find_films == "name" else _stem
    wanted = {bare(path) for path in paths}
    found: dict[str, str] = {}
    for path in sizes:
        if (name := bare(path)) in wanted and found.setdefault(name, path) != path:
            raise UserError(
                "duplicate-film",
                "two files have the name of a film",
                where=folder,
                expected="one file of a name, in any folder" if config.find_films == "name" else "one suffix of a film",
                remedy="Set data.find_films to path, or move one away.",
            )
    return [found.get(bare(path), path) for path in paths]


def _stem(path: str) -> str:
    return posixpath.splitext(path)[0]


def ids_in_paths(
    pattern: str | None, paths: Sequence[str], *, table: Table, column: str
) -> tuple[list[str] | None, list[str] | None]:
    """Patient and study of each row from its film's path; None for what the pattern has no group for.

    Empty where an optional group does not match.

    Raises:
        UserError: a path that the pattern does not fit.
    """
    if pattern is None:
        return None, None
    groups = re.compile(pattern).groupindex
    patients, studies = [], []
    for i, path in enumerate(paths):
        match = re.search(pattern, path)
        if match is None:
            raise UserError(
                "path-without-ids",
                "a film's path does not fit data.path_ids",
                where=table.cell(i, column),
                expected=pattern,
            )
        found = {name: match[name] or "" for name in ("patient", "study") if name in groups}
        patients.append(found.get("patient", ""))
        studies.append("/".join(found.values()) if found.get("study") else "")
    return patients if "patient" in groups else None, studies if "study" in groups else None


def listed_splits(
    config: CsvData, paths: Sequence[str], *, table: Table
) -> tuple[list[str] | None, list[tuple[str, str]]]:
    """Each row's split by the lists of films, and the lists' names and hashes; None without lists.

    Raises:
        UserError: a list is missing, or a film is in none or in two.
    """
    if not config.split_lists:
        return None, []
    split_of: dict[str, str] = {}
    hashes = []
    for split, place in config.split_lists.items():
        try:
            storage, name = file_at(place, user_project=config.user_project)
            data = storage.read(name).data
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise UserError(
                "missing-split-list", "list of a split is missing", where=place, remedy="Check data.split_lists."
            ) from None
        except OSError as error:
            raise cannot_read("list", place, error) from None
        hashes.append((name, hashlib.sha256(data).hexdigest()))
        for line in data.decode("utf-8-sig", "replace").split("\n"):
            film = line.strip()
            if film and split_of.setdefault(film, split) != split:
                raise UserError(
                    "film-in-two-splits", "a film is in two lists", where=place, expected="each film in one list"
                )
    splits = [split_of.get(path) or split_of.get(posixpath.basename(path)) for path in paths]
    if None in splits:
        raise UserError(
            "film-without-split",
            "films are in no list",
            where=table.cell(splits.index(None), config.columns.image),
            found=f"{splits.count(None)} of {len(splits)} rows",
            expected=f"each film in one of {', '.join(config.split_lists)}",
            remedy="Check data.split_lists.",
        )
    return [str(split) for split in splits], hashes


def merged(
    ids: Sequence[str], states: Sequence[States], labeled: Sequence[bool], how: Literal["any", "majority"]
) -> tuple[list[States], list[bool]]:
    """The labels of each row's study over all of its rows: a row per film, per box, per mask or per reader.

    Args:
        ids: the study of each row, or the film where it has none.

    >>> merged(["a", "a", "b"], [(1, 0), (0, 0), (None, -1)], [True] * 3, "any")
    ([(1, 0), (1, 0), (None, -1)], [True, True, True])

    By majority, readers who do not agree are uncertain where one of them is, else negative.

    >>> merged(["a"] * 2, [(1, 1), (-1, 0)], [True] * 2, "majority")[0]
    [(-1, 0), (-1, 0)]
    """
    rows_of: dict[str, list[int]] = {}
    for i, name in enumerate(ids):
        rows_of.setdefault(name, []).append(i)
    of_study = {
        name: (
            tuple(_state([states[i][p] for i in rows], how) for p in range(len(states[rows[0]]))),
            any(labeled[i] for i in rows),
        )
        for name, rows in rows_of.items()
    }
    return [of_study[name][0] for name in ids], [of_study[name][1] for name in ids]


def _state(states: Sequence[int | None], how: Literal["any", "majority"]) -> int | None:
    known = [state for state in states if state is not None]
    if not known:
        return None
    if how == "majority":
        agreed = (state for state in (1, 0, -1) if 2 * known.count(state) > len(known))
        return next(agreed, -1 if -1 in known else 0)
    return next(state for state in (1, -1, 0) if state in known)
