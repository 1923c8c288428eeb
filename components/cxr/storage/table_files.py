"""The bytes of a table, CSV or JSON lines, as columns of text, with one clear error where they are none."""

from __future__ import annotations

import csv
import itertools
import re
import zlib
from collections.abc import Callable, Sequence

import pyarrow as pa

from components.cxr.errors import UserError
from components.cxr.storage.csv_text import decoded, delimiter_of, numbered_rows, parse_columns, without_blank_rows
from components.cxr.storage.json_lines import BrokenLineError, parse_json_lines

__all__ = ["Columns", "columns_shown", "is_header", "read_columns"]

Columns = tuple[dict[str, pa.ChunkedArray], Callable[[int], int]]
"""Cells by column in the order of the header, and the line of the file on which a row starts."""

_NO_NAME = re.compile(r"[\d.:/ -]{5,}")
"""An id or a date: where the header is missing, the first row passes for names of columns."""
_CELL = re.compile(
    r"[-+\d.:/ ]*\d[-+\d.:/ ]*|.*(?:\^|\d{4}|\d[-./ ][a-z]{3}\b|\.(?:dcm|dicom|png|jpe?g|tiff?|bmp|txt|xml|nii|gz)$).*",
    re.IGNORECASE | re.DOTALL,
)
"""A number, an id, a date, a patient's name or a file's: no name of a column."""
_PLAIN = re.compile(r"[\w ()]{1,40}")


def is_header(names: Sequence[str]) -> bool:
    """Whether none of the names looks like a cell of a row, which could be a patient's."""
    return not any(_CELL.fullmatch(name) for name in names)


def columns_shown(names: Sequence[str]) -> str:
    """Columns as a message may quote them: how many, and the plain names where the header is believable.

    >>> columns_shown(["id", "sex", "x/y"]), columns_shown(["0.png", "Doe^Jane", "F"])
    ('3 columns: id, sex', '3 columns')
    """
    plain = [name for name in names if _PLAIN.fullmatch(name)] if is_header(names) else []
    count = f"{len(names)} column{'s' if len(names) != 1 else ''}"
    return f"{count}: {', '.join(plain)}" if plain else count


def read_columns(data: bytes, name: str, *, where: str) -> Columns:
    """Parse the bytes of a CSV file, or of JSON lines where its name says so.

    Raises:
        UserError: not readable, without header or rows, or with rows of another length than the header.
    """
    is_json = name.removesuffix(".gz").endswith((".json", ".jsonl"))
    remedy = None
    try:
        read = (_json_columns if is_json else _csv_columns)(data, name, where=where)
    except UnicodeError:
        read, remedy = None, "Save it in UTF-8, which Excel offers as CSV UTF-8."
    except (OSError, EOFError, zlib.error, csv.Error):
        read = None
    if read is None:
        expected = f"{'JSON lines' if is_json else 'CSV'} in UTF-8 or UTF-16, gzipped if its name ends in .gz"
        raise UserError("unreadable-table", "table is not readable", where=where, expected=expected, remedy=remedy)
    if not len(next(iter(read[0].values()))):
        raise UserError("empty-table", "table is empty", where=where, found="0 rows", expected="at least one row")
    return read


def _csv_columns(data: bytes, name: str, *, where: str) -> Columns | None:
    text = decoded(data, name)
    delimiter = delimiter_of(text)
    names = [cell.strip() for cell in next(numbered_rows(text, delimiter), (0, []))[1]]
    header = _checked_header(names, where=where)
    columns = parse_columns(text, num_columns=len(names), delimiter=delimiter)
    if columns is None:
        for line, row in itertools.islice(numbered_rows(text, delimiter), 1, None):
            if len(row) != len(names):
                at, found = f"{where} line {line}", f"{len(row)} cells"
                raise UserError("broken-row", "table has a broken row", where=at, found=found, expected=len(names))
        return None
    by_name = dict(zip(names, without_blank_rows(columns).columns, strict=True))

    def line_of(row: int) -> int:
        lines = (line for line, cells in numbered_rows(decoded(data, name), delimiter) if any(map(str.strip, cells)))
        return next(itertools.islice(lines, row + 1, None))

    return {column: by_name[column] for column in header}, line_of


def _json_columns(data: bytes, name: str, *, where: str) -> Columns:
    try:
        columns, lines = parse_json_lines(decoded(data, name))
    except BrokenLineError as error:
        at, expected = f"{where} line {error.line}", "a JSON object of texts, numbers and nulls"
        raise UserError("broken-row", "table has a broken row", where=at, expected=expected) from None
    header = _checked_header(list(columns), where=where)
    cells = {column: pa.chunked_array([pa.array(columns[column], pa.string())]) for column in header}
    return cells, lines.__getitem__


def _checked_header(names: Sequence[str], *, where: str) -> tuple[str, ...]:
    header = tuple(name for name in names if name)
    if not header:
        expected = "a header and one row per image or study"
        raise UserError("empty-table", "table is empty", where=where, found="no header", expected=expected)
    if any(_NO_NAME.fullmatch(name) for name in header):
        expected = "names of columns, no number or date, in the first line"
        raise UserError("no-table-header", "table has no header", where=where, expected=expected)
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        found = twice if is_header(header) and _PLAIN.fullmatch(twice) else None
        raise UserError("duplicate-column", "table names a column twice", where=where, found=found)
    return header
