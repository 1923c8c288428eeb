"""CSV tables of a source, with one clear error for each way in which they can be wrong; used by the adapters."""

from __future__ import annotations

import csv
import difflib
import gzip
import hashlib
import io
import re
import zlib
from dataclasses import dataclass
from functools import cached_property

from components.cxr.errors import UserError
from components.cxr.storage import Storage

__all__ = ["Table", "parse_state", "read_table", "shown"]


@dataclass(frozen=True)
class Table:
    """A table in memory; rows are lists of stripped cells."""

    name: str
    where: str
    """Full path for messages."""
    header: tuple[str, ...]
    rows: list[list[str]]
    sha256: str
    """Of the file's bytes."""

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.header)}

    def column(self, name: str, *, field: str | None = None) -> int:
        """Position of a column.

        Args:
            field: the configuration field that names it, for the message.

        Raises:
            UserError: no such column.
        """
        if name in self._index:
            return self._index[name]
        close = difflib.get_close_matches(name, self.header, n=1)
        hint = f"Did you mean {close[0]}?" if close else None
        remedy = " ".join(part for part in (hint, f"Set {field}." if field else None) if part)
        found = ", ".join(self.header)
        raise UserError("table lacks a column", where=self.where, found=found, expected=name, remedy=remedy or None)

    def cell(self, row: int, column: str) -> str:
        """How messages name a cell: file, line and column, never its patient."""
        return f"{self.where} line {row + 2} column {column}"


def read_table(storage: Storage, name: str) -> Table:
    """Read a CSV file with a header, plain or gzipped.

    Raises:
        UserError: missing, not readable, without rows, or with rows of another length than the header.
    """
    where = f"{storage.uri}/{name}"
    try:
        data = storage.read(name).data
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError("table is missing", where=where, remedy="Check the section data.") from None
    try:
        text = (gzip.decompress(data) if name.endswith(".gz") else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError):
        expected = "CSV in UTF-8, gzipped if its name ends in .gz"
        raise UserError("table is not readable", where=where, expected=expected) from None
    csv.field_size_limit(1 << 24)  # reports in a column
    try:
        lines = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text, newline="")) if row]
    except csv.Error as error:
        raise UserError("table is not readable", where=where, found=str(error)) from None
    if not lines:
        raise UserError(
            "table is empty", where=where, found="no header", expected="a header and one row an image or study"
        )
    header, rows = tuple(lines[0]), lines[1:]
    if not rows:
        raise UserError("table is empty", where=where, found="0 rows", expected="at least one row")
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise UserError("table names a column twice", where=where, found=twice)
    for i, row in enumerate(rows):
        if len(row) != len(header):
            where = f"{where} row {i + 1} after the header"
            raise UserError("table has a broken row", where=where, found=f"{len(row)} cells", expected=len(header))
    return Table(name, where, header, rows, hashlib.sha256(data).hexdigest())


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
