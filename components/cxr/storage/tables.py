"""Tables of a source, CSV or JSON lines, with one clear error for each way in which they can be wrong."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from components.cxr.errors import UserError
from components.cxr.storage.storage import Storage, cannot_read, file_at
from components.cxr.storage.table_files import columns_shown, is_header, read_columns

__all__ = ["Table", "is_unknown", "open_table", "parse_state", "read_table", "shown"]

_UNKNOWN = r"(?i)^(?:nan|<na>|n/?a|#n/?a|none|null|nat)$"
"""How pandas, R and spreadsheets write a cell that holds nothing."""

_REMEDY = "Check the section data."
"""Of a table that is missing, where nothing else names it."""

_ROUNDED = r"^[+-]?(?:\d\.\d*[eE][+-]?\d+|\d[eE]\+\d+)$"
"""What a spreadsheet makes of a long number; its last digits may be gone."""

_INVISIBLE = r"[\x{200B}\x{2060}\x{FEFF}\x00]"
"""Characters without width, which come along when ids are pasted from web pages: one patient would be two."""


@dataclass(frozen=True, eq=False)
class Table:
    """A table in memory, by column; cells come out as text without surrounding blanks."""

    name: str
    where: str
    """Full path for messages."""
    header: tuple[str, ...]
    """Without columns that have no name, such as the row numbers that pandas writes; those are not read."""
    sha256: str
    """Of the file's bytes."""
    _columns: dict[str, pa.ChunkedArray] = field(repr=False)
    _line_of: Callable[[int], int] = field(repr=False)

    def __len__(self) -> int:
        """Number of rows after the header."""
        return len(self._columns[self.header[0]])

    def cells(self, name: str, *, field: str | None = None) -> list[str]:
        """A column's cells, one per row; equal cells are one object.

        Args:
            field: the configuration field that names the column, for the message.

        Raises:
            UserError: no such column.
        """
        values, rows = _encoded(self._column(name, field))
        return [values[row] for row in rows]

    def ids(self, name: str, *, field: str | None = None, prefix: str = "") -> list[str]:
        """A column's ids, one per row: `50000001.0` is 50000001, `00012` keeps its zeros, `nan` is empty.

        Args:
            field: the configuration field that names the column, for the message.
            prefix: a letter that may stand before a number and does not count, such as MIMIC-CXR's s and p.

        Raises:
            UserError: no such column, or ids in scientific notation, which a spreadsheet has rounded.
        """
        column = self._column(name, field)
        rounded = pc.match_substring_regex(column, _ROUNDED)
        if pc.any(rounded).as_py():
            raise UserError(
                "rounded-id",
                "an id is in scientific notation",
                where=self.cell(pc.index(rounded, True).as_py(), name),
                expected="all of its digits",
                remedy="A spreadsheet has rounded it: export the column as text.",
            )
        column = pc.utf8_trim_whitespace(pc.replace_substring_regex(column, _INVISIBLE, ""))
        column = pc.replace_substring_regex(column, r"^(\d+)\.0+$", r"\1")
        column = pc.replace_substring_regex(column, _UNKNOWN, "")
        if prefix:
            column = pc.replace_substring_regex(column, rf"(?i)^{prefix}(\d+)$", r"\1")
        values, rows = _encoded(column)
        return [values[row] for row in rows]

    def once(self, name: str, ids: Sequence[str], *, what: str, same: Iterable[Sequence[object]]) -> Sequence[int]:
        """The first row of each `what`; rows that only repeat it are left out.

        Args:
            name: the column that holds the ids, for the message.
            ids: by row, as `ids` returned them.
            same: columns whose cells rows of one id must share.

        Raises:
            UserError: an empty id, or two rows of one id that disagree.
        """
        first_of: dict[str, int] = {}
        columns = list(same)
        repeated = set()
        for row, value in enumerate(ids):
            if not value:
                raise UserError("missing-id", f"{what} has no id", where=self.cell(row, name))
            first = first_of.setdefault(value, row)
            if first != row:
                repeated.add(row)
                if any(column[first] != column[row] for column in columns):
                    where = f"{self.where} lines {self.line(first)} and {self.line(row)} column {name}"
                    raise UserError(
                        f"duplicate-{what}",
                        f"{what} is listed twice",
                        where=where,
                        found="rows that disagree",
                        expected=f"one row per {what}",
                    )
        return [row for row in range(len(ids)) if row not in repeated] if repeated else range(len(ids))

    def states(self, name: str, *, field: str | None = None, remedy: str | None = None) -> list[int | None]:
        """A column's label states, one per row: 1, 0, -1, or None for an empty cell or one that says `nan`.

        Args:
            field: the configuration field that names the column, for the message.
            remedy: for the message about a cell that is no state.

        Raises:
            UserError: no such column, or a cell that is no state.
        """
        values, rows = _encoded(self._column(name, field))
        states: list[int | None] = []
        for i, value in enumerate(values):
            try:
                states.append(parse_state(value))
            except ValueError:
                expected = "1, 0, -1 or nothing"
                where = self.cell(rows.index(i), name)
                raise UserError(
                    "bad-label", "bad label", where=where, found=shown(value), expected=expected, remedy=remedy
                ) from None
        return [states[row] for row in rows]

    def cell(self, row: int, column: str | None) -> str:
        """How messages name a cell: file, line and column, never its patient.

        Args:
            row: from 0, the header not counted.
        """
        return f"{self.where} line {self.line(row)} column {column}"

    def line(self, row: int) -> int:
        """The line of the file on which a row starts, from 1; a quoted cell may hold line breaks."""
        return self._line_of(row)

    def _column(self, name: str, field: str | None) -> pa.ChunkedArray:
        """A column's cells without surrounding blanks and a spreadsheet's `="…"`."""
        if name not in self._columns:
            plain = {_plain(column): column for column in self.header}
            close = difflib.get_close_matches(_plain(name), plain, n=1)
            hint = f"Did you mean {plain[close[0]]}?" if close and is_header(self.header) else None
            remedy = " ".join(part for part in (hint, f"Set {field}." if field else None) if part)
            raise UserError(
                "missing-column",
                "table lacks a column",
                where=self.where,
                found=columns_shown(self.header),
                expected=name,
                remedy=remedy or None,
            )
        column = pc.utf8_trim_whitespace(self._columns[name])
        if pc.any(pc.starts_with(column, '="')).as_py():
            column = pc.replace_substring_regex(column, r'^="(.*)"$', r"\1")
        return column


def open_table(path: str, *, user_project: str | None = None, remedy: str | None = _REMEDY) -> Table:
    """Read a table by its whole path; see read_table."""
    return read_table(*file_at(path, user_project=user_project), remedy=remedy)


def read_table(storage: Storage, name: str, *, remedy: str | None = _REMEDY) -> Table:
    """Read a CSV file with a header, or JSON lines (`.json`, `.jsonl`), plain or gzipped.

    Args:
        remedy: for the message about a missing table: where its path comes from.

    Raises:
        UserError: missing, not readable, without header or rows, or with rows of another length than the header.
    """
    where = f"{storage.uri.rstrip('/')}/{name}"
    try:
        data = storage.read(name).data
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError("missing-table", "table is missing", where=where, remedy=remedy) from None
    except OSError as error:
        raise cannot_read("table", where, error) from None
    columns, line_of = read_columns(data, name, where=where)
    return Table(name, where, tuple(columns), hashlib.sha256(data).hexdigest(), columns, line_of)


def _encoded(column: pa.ChunkedArray) -> tuple[list[str], list[int]]:
    """A column's distinct cells in order of appearance, and each row's index into them."""
    encoded = column.dictionary_encode().combine_chunks()
    return encoded.dictionary.to_pylist(), encoded.indices.to_pylist()


def _plain(name: str) -> str:
    return name.casefold().replace("_", " ").replace("-", " ")


def is_unknown(cell: str) -> bool:
    """Whether a cell says that nothing is known: empty, or `NaN`, `NA`, `<NA>`, `None`, `null`, as pandas and R write.

    >>> [is_unknown(cell) for cell in ("", "NaN", "n/a", "0")]
    [True, True, True, False]
    """
    return not cell or re.match(_UNKNOWN, cell) is not None


def shown(cell: str) -> str:
    """A cell as a message may quote it: a small number or a lower-case word; anything else could be a patient's."""
    if not cell:
        return "nothing"
    if re.fullmatch(r"[+-]?\d{1,2}(\.\d{1,2})?|[a-z]{1,12}", cell):
        return repr(cell)
    return f"a text of {len(cell)} characters"


def parse_state(cell: str) -> int | None:
    """Label state of a cell: 1, 0, -1, or None for an empty or unknown one; also as 1.0, 0.0, -1.0.

    >>> parse_state("1.0"), parse_state("NaN")
    (1, None)

    Raises:
        ValueError: anything else.
    """
    if is_unknown(cell):
        return None
    value = float(cell)
    if value not in (1.0, 0.0, -1.0):
        raise ValueError(cell)
    return int(value)
