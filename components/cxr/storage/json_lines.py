"""JSON lines as a table: a line is a row, its object's keys are the columns."""

from __future__ import annotations

import json

__all__ = ["BrokenLineError", "parse_json_lines"]


class BrokenLineError(Exception):
    """A line that is no JSON object of texts, numbers and nulls."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


def parse_json_lines(text: bytes) -> tuple[dict[str, list[str]], list[int]]:
    """Cells by column, as text and empty for null or a missing key, and each row's line, from 1.

    >>> parse_json_lines(b'{"film": "a.jpg", "Edema": -1.0}\\n\\n{"film": "b.jpg", "Edema": null}')
    ({'film': ['a.jpg', 'b.jpg'], 'Edema': ['-1.0', '']}, [1, 3])

    Raises:
        BrokenLineError: naming the line.
        UnicodeDecodeError: the text is not UTF-8.
    """
    columns: dict[str, list[str]] = {}
    lines: list[int] = []
    for number, line in enumerate(text.decode("utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict) or any(isinstance(cell, dict | list) for cell in row.values()):
            raise BrokenLineError(number)
        for name in row:
            if name not in columns:
                columns[name] = [""] * len(lines)
        for name, cells in columns.items():
            cells.append(_text(row.get(name)))
        lines.append(number)
    return columns, lines


def _text(cell: str | float | bool | None) -> str:
    if cell is None:
        return ""
    return cell if isinstance(cell, str) else json.dumps(cell)
