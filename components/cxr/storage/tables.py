"""CSV tables of a source, with one clear error for each way in which they can be wrong; used by the adapters, and by
second_truth.py for evaluate."""

from __future__ import annotations

import csv
import difflib
import gzip
import hashlib
import io
import itertools
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from components.cxr.errors import UserError
from components.cxr.storage.storage import Storage, open_storage

__all__ = ["Table", "open_table", "parse_state", "read_table", "shown"]

_LONGEST_ROW = 1 << 25
"""Bytes: a whole report may stand in a cell."""

_NO_NAME = re.compile(r"[\d.:/ -]{5,}")
"""An id or a date: where the header is missing, messages would quote the first row as names of columns."""


@dataclass(frozen=True, eq=False)
class Table:
    """A table in memory, by column; cells come out as text without surrounding blanks."""

    name: str
    where: str
    """Full path for messages."""
    header: tuple[str, ...]
    sha256: str
    """Of the file's bytes."""
    _columns: pa.Table = field(repr=False)
    _data: bytes = field(repr=False)

    def __len__(self) -> int:
        """Number of rows after the header."""
        return int(self._columns.num_rows)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.header)}

    def cells(self, name: str, *, field: str | None = None) -> list[str]:
        """A column's cells, one per row; equal cells are one object.

        Args:
            field: the configuration field that names the column, for the message.

        Raises:
            UserError: no such column.
        """
        values, rows = self._encoded(name, field)
        return [values[row] for row in rows]

    def unique(self, name: str, *, what: str) -> list[str]:
        """The cells of a column that names each row's `what` and no other's.

        Raises:
            UserError: no such column, an empty cell, or one that stands there twice.
        """
        values, rows = self._encoded(name, None)
        if "" in values:
            raise UserError("missing-id", f"{what} has no id", where=self.cell(rows.index(values.index("")), name))
        if len(values) < len(rows):
            second = next(i for i, row in enumerate(rows) if row != i)  # rows before it are 0, 1, 2, …
            first = rows[second]
            where = f"{self.where} lines {self.line(first)} and {self.line(second)} column {name}"
            raise UserError("duplicate-id", f"{what} is listed twice", where=where, expected=f"one row a {what}")
        return values

    def states(self, name: str, *, field: str | None = None, remedy: str | None = None) -> list[int | None]:
        """A column's label states, one per row: 1, 0, -1, or None for an empty cell.

        Args:
            field: the configuration field that names the column, for the message.
            remedy: for the message about a cell that is no state.

        Raises:
            UserError: no such column, or a cell that is no state.
        """
        values, rows = self._encoded(name, field)
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
        text = gzip.decompress(self._data) if self.name.endswith(".gz") else self._data
        return next(itertools.islice(_rows(text), row + 1, None))[0]

    def _encoded(self, name: str, field: str | None) -> tuple[list[str], list[int]]:
        """A column's distinct cells in order of appearance, and each row's index into them."""
        if name not in self._index:
            close = difflib.get_close_matches(name, self.header, n=1)
            hint = f"Did you mean {close[0]}?" if close else None
            remedy = " ".join(part for part in (hint, f"Set {field}." if field else None) if part)
            found = ", ".join(self.header)
            raise UserError(
                "missing-column",
                "table lacks a column",
                where=self.where,
                found=found,
                expected=name,
                remedy=remedy or None,
            )
        column = pc.utf8_trim_whitespace(self._columns.column(self._index[name]))
        encoded = column.dictionary_encode().combine_chunks()
        return encoded.dictionary.to_pylist(), encoded.indices.to_pylist()


def open_table(path: str, *, user_project: str | None = None) -> Table:
    """Read a CSV file by its whole path; see read_table."""
    folder, slash, name = path.rpartition("/")
    return read_table(open_storage(folder or slash or ".", user_project=user_project), name)


def read_table(storage: Storage, name: str) -> Table:
    """Read a CSV file with a header, plain or gzipped.

    Raises:
        UserError: missing, not readable, without header or rows, or with rows of another length than the header.
    """
    where = f"{storage.uri.rstrip('/')}/{name}"
    try:
        data = storage.read(name).data
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError("missing-table", "table is missing", where=where, remedy="Check the section data.") from None
    try:
        text = gzip.decompress(data) if name.endswith(".gz") else data
        header = tuple(cell.strip() for cell in next(_rows(text), (0, []))[1])
        if not header:
            expected = "a header and one row per image or study"
            raise UserError("empty-table", "table is empty", where=where, found="no header", expected=expected)
        if any(_NO_NAME.fullmatch(name) for name in header):
            expected = "names of columns, no number or date, in the first line"
            raise UserError("no-table-header", "table has no header", where=where, expected=expected)
        if len(set(header)) != len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise UserError("duplicate-column", "table names a column twice", where=where, found=twice)
        columns = _parse(text, num_columns=len(header))
        if columns is None:
            for line, row in itertools.islice(_rows(text), 1, None):
                if len(row) != len(header):
                    found = f"{len(row)} cells"
                    raise UserError(
                        "broken-row",
                        "table has a broken row",
                        where=f"{where} line {line}",
                        found=found,
                        expected=len(header),
                    )
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error):
        columns = None
    if columns is None:
        expected = "CSV in UTF-8, gzipped if its name ends in .gz"
        raise UserError("unreadable-table", "table is not readable", where=where, expected=expected)
    if not columns.num_rows:
        raise UserError("empty-table", "table is empty", where=where, found="0 rows", expected="at least one row")
    return Table(name, where, header, hashlib.sha256(data).hexdigest(), columns, data)


def _parse(text: bytes, *, num_columns: int) -> pa.Table | None:
    """Every cell as text; None when something is wrong, which Arrow's messages would quote."""
    names = [str(i) for i in range(num_columns)]
    broken: list[object] = []

    def skip(row: object) -> str:
        broken.append(row)
        return "skip"

    try:
        columns = arrow_csv.read_csv(
            pa.py_buffer(text),
            read_options=arrow_csv.ReadOptions(
                use_threads=False, block_size=_LONGEST_ROW, column_names=names, skip_rows_after_names=1
            ),
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        return None
    return None if broken else columns


def _rows(text: bytes) -> Iterator[tuple[int, list[str]]]:
    """Each row with the line on which it starts, from 1; slower than Arrow, but it knows the lines."""
    csv.field_size_limit(_LONGEST_ROW)
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(text), encoding="utf-8-sig", newline=""))
    line = 1
    for row in reader:
        if row:
            yield line, row
        line = reader.line_num + 1


def shown(cell: str) -> str:
    """A cell as a message may quote it: a small number or a lower-case word; anything else could be a patient's."""
    if not cell:
        return "nothing"
    if re.fullmatch(r"[+-]?\d{1,2}(\.\d{1,2})?|[a-z]{1,12}", cell):
        return repr(cell)
    return f"a text of {len(cell)} characters"


def parse_state(cell: str) -> int | None:
    """Label state of a cell: 1, 0, -1, or None for an empty one; also as 1.0, 0.0, -1.0.

    Raises:
        ValueError: anything else.
    """
    if not cell:
        return None
    value = float(cell)
    if value not in (1.0, 0.0, -1.0):
        raise ValueError(cell)
    return int(value)
