"""Films that end or freeze their decoder, in the real step: rejects by path hash, and no process left behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, Protocol

import pyarrow.parquet as pq
import pytest

from components.cxr.ids import hash_id
from tests.components.cxr.films.bad_decoders import ABORTS, SPINS, bad_film, good_film, plant
from tests.components.cxr.films.pixel_films import DicomWriter
from tests.components.preprocess.running import Running, files_of
from tests.components.processes import children_of, is_busy, lives, wait_for


class Mimic(Protocol):
    dir: Path

    def values(self, **preprocess: Any) -> dict[str, dict[str, Any]]: ...

    def film(self, study: str, index: int = 0) -> Path: ...


def bad_mimic(mimic: Mimic, dicom_bytes: DicomWriter) -> dict[str, Path]:
    """Two bad films and a good compressed one in place of three of its films."""
    films = {
        "decoder-crashed": (mimic.film("50000000"), bad_film(dicom_bytes, ABORTS)),
        "decoder-hung": (mimic.film("50000002"), bad_film(dicom_bytes, SPINS)),
        "good": (mimic.film("50000004"), good_film(dicom_bytes)),
    }
    for path, data in films.values():
        path.write_bytes(data)
    return {code: path for code, (path, _) in films.items() if code != "good"}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_films_are_rejects_and_the_same_rerun_is_the_same(
    mimic: Mimic, tmp_path: Path, dicom_bytes: DicomWriter, num_workers: int
) -> None:
    bad = bad_mimic(mimic, dicom_bytes)
    values = mimic.values(limits={"seconds": 3}, max_reject_fraction=0.2, num_workers=num_workers)
    environment = {"PYTHONPATH": plant(tmp_path / "hook")}
    running = Running(values, tmp_path / "root", tmp_path, env=environment)
    assert running.wait(180) == 0, running.output
    assert "rejected films: decoder-" in running.output
    (rejects,) = (tmp_path / "root").rglob("rejects.parquet")
    found = {row["source_hash"]: row["code"] for row in pq.read_table(rejects).to_pylist()}
    assert found == {hash_id("path", path.relative_to(mimic.dir).as_posix()): code for code, path in bad.items()}
    before = files_of(tmp_path / "root")
    assert Running(values, tmp_path / "root", tmp_path, env=environment).wait(180) == 0
    assert files_of(tmp_path / "root") == before


@pytest.mark.parametrize("num_workers", [0, 2])
def test_after_sigkill_no_process_stays_though_a_film_spins(
    mimic: Mimic, tmp_path: Path, dicom_bytes: DicomWriter, num_workers: int
) -> None:
    bad_mimic(mimic, dicom_bytes)
    values = mimic.values(limits={"seconds": 600}, num_workers=num_workers)
    running = Running(values, tmp_path / "root", tmp_path, env={"PYTHONPATH": plant(tmp_path / "hook")})

    def decoders() -> list[int]:
        return [pid for parent in running.left_behind() for pid in children_of(parent, "decoder_process")]

    try:
        wait_for(lambda: any(is_busy(pid) for pid in decoders()), 120)
        there = decoders()
        os.kill(running.process.pid, signal.SIGKILL)
        wait_for(lambda: not any(lives(pid) for pid in there), 20)
        assert running.wait(30) == -signal.SIGKILL
    finally:
        for pid in running.left_behind():
            os.kill(pid, signal.SIGKILL)
