"""Files and folders that may not be read: one error each, which names no patient."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from components.cxr.errors import UserError
from components.cxr.ids import IdKey
from components.cxr.storage.storage import open_storage
from components.preprocess.adapters import read_source
from components.preprocess.config import parse_data
from components.preprocess.read_study import read_sections

NOBODY = 65534


class Mimic(Protocol):
    dir: Path

    def film(self, study: str, index: int = 0) -> Path: ...
    def values(self, **preprocess: Any) -> dict[str, dict[str, Any]]: ...


@pytest.fixture
def source(mimic: Mimic) -> Iterator[Path]:
    """A copy of the tiny MIMIC-CXR which other accounts can reach."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        source = Path(shutil.copytree(mimic.dir, Path(folder, "mimic")))
        read_all(source)  # Python imports what it needs, which other accounts may not be allowed to
        yield source


def read_all(folder: Path) -> None:
    """The tables and every report."""
    source = read_source(parse_data({"adapter": "mimic-cxr", "dir": str(folder)}), key=IdKey(None))
    films = source.films.open()
    for study in source.studies:
        read_sections(study, films, reader="strict")


@contextlib.contextmanager
def without_root() -> Iterator[None]:
    """Root may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def refusal(folder: Path) -> str:
    """The line with which reading ends."""
    with without_root(), pytest.raises(UserError) as caught:
        read_all(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert not [part for part in ("5000", "1000", "p10") if part in message]
    return message


def test_a_report_that_may_not_be_read_is_one_error(source: Path) -> None:
    report = next(path for path in sorted(source.rglob("s*.txt")))
    report.chmod(0)
    message = f"cannot read reports: {source}; found Permission denied. `find {source} ! -readable` lists"
    assert message in refusal(source)


def test_a_folder_that_may_not_be_read_is_one_error(source: Path) -> None:
    folder = next(path for path in sorted(source.rglob("s*")) if path.is_dir())
    folder.chmod(0)
    assert f"cannot read folder: {source}; found Permission denied" in refusal(source)
    folder.chmod(0o755)


def test_a_table_that_may_not_be_read_is_one_error(source: Path) -> None:
    table = source / "mimic-cxr-2.0.0-split.csv.gz"
    table.chmod(0)
    assert f"cannot read table: {table}; found Permission denied" in refusal(source)


def test_the_lost_and_found_of_a_disk_is_left_out(source: Path) -> None:
    names = list(open_storage(source).sizes())
    (source / "lost+found").mkdir(mode=0o700)
    (source / "lost+found" / "#12").touch()
    (source / "files" / "lost+found").mkdir()
    (source / "files" / "lost+found" / "film.dcm").touch()
    with without_root():
        assert list(open_storage(source).sizes()) == sorted([*names, "files/lost+found/film.dcm"])
