"""The whole step in one call, for the tests of the adapters."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import typer
from typer.testing import CliRunner

from components.cxr.cli import clean_errors
from components.cxr.errors import UserError
from components.cxr.shards import MANIFEST, LoadedManifest, read_shard
from components.cxr.storage.storage import Root
from components.preprocess.__main__ import main
from components.preprocess.collect import collect
from components.preprocess.config import PreprocessConfig, parse_data
from components.preprocess.preprocess import run_partition

Values = dict[str, dict[str, Any]]


def run(values: Values, root: str | Path) -> LoadedManifest:
    """Every shard and the manifest."""
    data, step = parse_data(values["data"]), PreprocessConfig.parse(values["preprocess"], where="preprocess")
    run_partition(data, step, root=Root(root), partition=0, num_partitions=1)
    return collect(data, step, root=Root(root))


def rows_of(loaded: LoadedManifest, by: str = "image_id") -> dict[str, dict[str, Any]]:
    """Every row of every shard, by one of its columns; of several rows with one value the last."""
    rows = pa.concat_tables(read_shard(loaded.storage, info) for info in loaded.manifest.shards).to_pylist()
    return {row[by]: row for row in rows}


def refusal(values: Values, root: Path) -> str:
    """The one line with which the step refuses its source."""
    with pytest.raises(UserError) as caught:
        run(values, root)
    assert not list(root.rglob(MANIFEST))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def command(*arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the command line, in this process."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(clean_errors(main))
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def edit(path: Path, old: str, new: str) -> None:
    """Replace a text that stands in a table, plain or gzipped."""
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    assert old in text
    edited = text.replace(old, new, 1).encode()
    path.write_bytes(gzip.compress(edited) if path.suffix == ".gz" else edited)


def edit_rows(path: Path, change: Callable[[dict[str, str]], dict[str, str] | None]) -> None:
    """Change each row of a gzipped table, or leave out those that become None."""
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(path.read_bytes()).decode())))
    kept = [row for row in map(change, rows) if row is not None]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, kept[0])
    writer.writeheader()
    writer.writerows(kept)
    path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
