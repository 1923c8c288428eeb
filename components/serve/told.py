"""A table of what is known of studies beside their films, for `predict`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from components.cxr.errors import UserError
from components.cxr.storage.tables import is_unknown, open_table

__all__ = ["Told", "ToldTable", "read_told"]

_STUDY = "study"
_COLUMNS = ("text", "age_years", "sex")


class Told(NamedTuple):
    """One study's row, as it is written; empty where nothing is known."""

    text: str = ""
    age_years: str = ""
    sex: str = ""


class ToldTable(NamedTuple):
    """All rows."""

    by_study: Mapping[str, Told]
    sha256: str
    """Of the file."""


def read_told(path: str, *, studies: Collection[str]) -> ToldTable:
    """Read a CSV table with a column `study` and any of `text`, `age_years` and `sex`.

    Args:
        path: local or gs://, gzipped if its name ends in .gz.
        studies: names of all studies that there are; not each needs a row.

    Raises:
        UserError: no such table, a column that is none of these, none but `study`, a row without a study or of one that
            there is not, or two rows of one study that disagree.
    """
    table = open_table(path, remedy="Check --table.")
    known = (_STUDY, *_COLUMNS)
    if strange := [name for name in table.header if name not in known]:
        raise UserError(
            "unknown-column",
            "table has a column that is not read",
            where=table.where,
            found=", ".join(strange),
            expected=f"{_STUDY} and any of {', '.join(_COLUMNS)}",
            remedy="Rename it, or leave it out.",
        )
    names = table.ids(_STUDY)
    columns = [table.cells(name) if name in table.header else [""] * len(table) for name in _COLUMNS]
    if len(table.header) == 1:
        expected = f"at least one of {', '.join(_COLUMNS)}"
        raise UserError(
            "missing-column", "table tells nothing of the studies", where=table.where, found=_STUDY, expected=expected
        )
    table.once(_STUDY, names, what="study", same=columns)
    missing = [row for row, name in enumerate(names) if name not in studies]
    if missing:
        raise UserError(
            "unknown-study",
            "table has studies without a film",
            where=table.cell(missing[0], _STUDY),
            found=f"{len(missing)} of {len(names)} rows",
            expected="names as in the answers' column `study`: a StudyInstanceUID, or a picture's folder or path",
        )
    cells = [["" if is_unknown(cell) else cell for cell in column] for column in columns]
    rows = zip(*cells, strict=True)
    return ToldTable({name: Told(*row) for name, row in zip(names, rows, strict=True)}, table.sha256)
