"""The labels of a table: a column per pathology, or one column that lists what is there; or a table of their own."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from components.cxr.errors import UserError
from components.cxr.storage.joins import check_join, shape_of
from components.cxr.storage.tables import Table, is_unknown
from components.preprocess.config import CsvData, LabelList

__all__ = ["States", "labels_by_key", "read_labels"]

States = tuple[int | None, ...]


def read_labels(table: Table, config: CsvData) -> tuple[tuple[str, ...], list[States], list[bool]]:
    """Pathologies, and each row's states and whether it was labeled at all.

    Raises:
        UserError: no label, a bad one, a pathology that occurs nowhere, or one in two spellings.
    """
    if config.label_list is not None:
        return _listed_labels(table, config, config.label_list)
    used = {*config.columns.used(), config.label_key}
    pathologies = config.pathologies or tuple(name for name in table.header if name not in used)
    if not pathologies:
        raise UserError(
            "no-label-column",
            "table has no label column",
            where=table.where,
            found=", ".join(table.header),
            expected="a column per pathology besides those in data.columns",
            remedy="Set data.label_list if one column names all labels.",
        )
    _check_distinct(pathologies, where=table.where)
    remedy = "Write yes as 1 and no as 0."
    if not config.pathologies:
        remedy += " If the column is no label, name those that are in data.pathologies."
    columns = [
        _text_states(table.cells(name, field="data.text_labels"), config.text_labels[name])
        if name in config.text_labels
        else table.states(name, field="data.pathologies", remedy=remedy)
        for name in pathologies
    ]
    states: list[States] = list(zip(*columns, strict=True))
    return _renamed(pathologies, config), states, [any(state is not None for state in row) for row in states]


def labels_by_key(
    table: Table, labels: Table, key: str, states: Sequence[States]
) -> tuple[list[States], list[bool], str | None]:
    """Each row's states from the row of the label table with its key, whether there is one, and a warning if few have.

    Args:
        states: by row of the label table.

    Raises:
        UserError: no such column, two rows of one key that disagree, or no key of the table among the labels'.
    """
    ours, theirs = (of.ids(key, field="data.label_key") for of in (table, labels))
    rows = {theirs[row]: row for row in labels.once(key, theirs, what="label row", same=[states])}
    warning = check_join(
        set(ours),
        len(rows.keys() & set(ours)),
        theirs,
        what="rows of the label table",
        where=labels.where,
        remedy="Is it the table of these films?",
    )
    blank: States = (None,) * len(states[0])
    found = [rows.get(name) for name in ours]
    return [blank if row is None else states[row] for row in found], [row is not None for row in found], warning


def _text_states(cells: Sequence[str], absent: str) -> list[int | None]:
    """1 for a text, 0 for the one that says that nothing is there, None for an unknown cell."""
    return [None if is_unknown(cell) else int(cell != absent) for cell in cells]


def _renamed(pathologies: Sequence[str], config: CsvData) -> tuple[str, ...]:
    return tuple(config.names.get(name, name) for name in pathologies)


def _check_distinct(names: Sequence[str], *, where: str, shown: Callable[[str], str] = str) -> None:
    """Refuse names that differ in capitals, blanks, hyphens or underscores alone: one pathology would be two."""
    seen: dict[str, str] = {}
    for name in names:
        plain = "".join(letter for letter in name.casefold() if letter not in " _-")
        if seen.setdefault(plain, name) != name:
            raise UserError(
                "duplicate-pathology",
                "two spellings of one pathology",
                where=where,
                found=f"{shown(seen[plain])} and {shown(name)}",
                expected="one name per pathology",
                remedy="Merge them in the table, or name one of the columns in data.pathologies.",
            )


def _listed_labels(
    table: Table, config: CsvData, label_list: LabelList
) -> tuple[tuple[str, ...], list[States], list[bool]]:
    cells = table.cells(label_list.column, field="data.label_list.column")
    kept = {label_list.none, *(config.pathologies or ())}  # a set may call "none" what others call No Finding
    named = [
        [name for part in cell.split(label_list.separator) if (name := part.strip().strip(label_list.strip).strip())]
        if cell in kept or not is_unknown(cell)
        else []
        for cell in cells
    ]
    known = {name for names in named for name in names}
    if not known:
        where = f"{table.where} column {label_list.column}"
        raise UserError(
            "no-labels", "table has no labels", where=where, found="only empty cells", expected="names of pathologies"
        )
    where = f"{table.where} column {label_list.column}"
    _check_distinct(sorted(known), where=where, shown=lambda name: shape_of([name]))  # may be patients' names
    first = [label_list.none] if label_list.none in known else []
    pathologies = config.pathologies or (*first, *sorted(known - set(first)))
    for name in pathologies:
        if name not in known:
            where = f"{table.where} column {label_list.column}"
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            remedy = f"Did you mean {close[0]}? " if close else ""
            raise UserError(
                "unknown-pathology",
                "pathology occurs nowhere",
                where=where,
                found=f"{len(known)} other names",  # unquoted: the wrong column may hold patients' names
                expected=name,
                remedy=f"{remedy}Check data.pathologies and data.label_list.column.",
            )
    absent = 0 if config.not_mentioned == "0" else None
    states: list[States] = [
        tuple(1 if name in names else absent for name in pathologies) if names else (None,) * len(pathologies)
        for names in named
    ]
    return _renamed(pathologies, config), states, [bool(names) for names in named]
