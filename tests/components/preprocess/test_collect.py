"""What the end of the step says that a data set lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.components.preprocess.steps import run


class Table(Protocol):
    header: list[str]
    rows: list[list[str]]

    def values(self, **data: Any) -> dict[str, dict[str, Any]]: ...
    def rewrite(self, *, header: list[str] | None = None, rows: list[list[str]] | None = None) -> None: ...


@pytest.mark.parametrize(
    ("part", "edema", "said"),
    [
        ("train", ["1", "0"], ["no study in test (data.splits, data.fractions)"]),
        (None, ["0", ""], ["no positive training study of Edema"]),
        (None, ["1", "1"], ["no training study without Edema: a model cannot tell what it never lacks"]),
        (None, ["1", "0"], []),
    ],
)
def test_what_a_data_set_lacks_is_told(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str | None, edema: list[str],
    said: list[str],
) -> None:  # fmt: skip
    rows = [
        [file, who, part or where, edema[i % 2], "01"[i % 2]] for i, (file, who, where, *_) in enumerate(table.rows)
    ]
    table.rewrite(rows=rows)
    for _ in range(2):  # as well where all is reused
        run(table.values(validate_fraction=0.4), tmp_path / "root")
        lines = [line.removeprefix("preprocess: ") for line in capsys.readouterr().out.splitlines()]
        assert [line for line in lines if line.startswith("no ")] == said
