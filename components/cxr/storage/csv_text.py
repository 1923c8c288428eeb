"""The bytes of a CSV file as rows: which encoding, which delimiter, which line."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

__all__ = ["decoded", "delimiter_of", "numbered_rows", "parse_columns", "without_blank_rows"]

_LONGEST_ROW = 1 << 25
"""Bytes: a whole report may stand in a cell."""

_DELIMITERS = ",;\t|"

_MARK = re.compile(rb'(?:\xef\xbb\xbf)?"?sep=([ -~\t])"?\r?\n', re.IGNORECASE)
"""The line before the header with which Excel is told the delimiter."""


_BEFORE = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*")
"""Arrow counts empty lines before the header as rows to skip."""


def decoded(data: bytes, name: str) -> bytes:
    """The text of a table in UTF-8."""
    text = gzip.decompress(data) if name.endswith(".gz") else data
    return text.decode("utf-16").encode() if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else text


def delimiter_of(text: bytes) -> str:
    """What a first line such as `sep=;` says, else the mark that splits header and first row alike into most cells.

    Where none does, the first of comma, semicolon, tab, bar that splits the header. A name of a semicolon's table may
    hold a comma, which alone would split the header, too: `file;age (years, whole)`.
    """
    if mark := _MARK.match(text):
        return mark[1].decode()
    counts = {mark: [len(row) for _, row in itertools.islice(numbered_rows(text, mark), 2)] for mark in _DELIMITERS}
    splits = {mark: cells for mark, cells in counts.items() if cells and cells[0] > 1}
    alike = [mark for mark, cells in splits.items() if len(cells) > 1 and cells[0] == cells[1]]
    return max(alike, key=lambda mark: counts[mark][0]) if alike else next(iter(splits), ",")


def parse_columns(text: bytes, *, num_columns: int, delimiter: str) -> pa.Table | None:
    """Every cell as text; None when something is wrong, which Arrow's messages would quote."""
    names = [str(i) for i in range(num_columns)]
    broken: list[object] = []

    def skip(row: object) -> str:
        broken.append(row)
        return "skip"

    mark = _MARK.match(text)
    rest = memoryview(text)[mark.end() if mark else 0 :]
    before = _BEFORE.match(rest)
    rest = rest[before.end() if before else 0 :]
    try:
        columns = arrow_csv.read_csv(
            pa.py_buffer(rest),
            read_options=arrow_csv.ReadOptions(
                use_threads=False,
                block_size=_LONGEST_ROW,
                column_names=names,
                skip_rows_after_names=1,
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        return None
    return None if broken else columns


def without_blank_rows(columns: pa.Table) -> pa.Table:
    """The rows in which any cell says something: spreadsheets write `;;;` for rows that were cleared."""
    blank = None
    for column in columns.columns:
        empty = pc.equal(pc.utf8_trim_whitespace(column), "")
        blank = empty if blank is None else pc.and_(blank, empty)
        if not pc.any(blank).as_py():
            return columns
    return columns.filter(pc.invert(blank))


def numbered_rows(text: bytes, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Each row with the line on which it starts, from 1; slower than Arrow, but it knows the lines."""
    csv.field_size_limit(_LONGEST_ROW)
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(text), encoding="utf-8-sig", newline=""), delimiter=delimiter)
    line = 1
    marked = _MARK.match(text) is not None
    for row in reader:
        if row and not (marked and line == 1):
            yield line, row
        line = reader.line_num + 1
