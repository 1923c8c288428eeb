"""Whatever ends a run, it ends with at most one line, leaves no process behind, and loses no finished shard."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from components.cxr.shards import MANIFEST
from tests.components.preprocess.running import Running

pytestmark = pytest.mark.slow


class Mimic(Protocol):
    dir: Path

    def film(self, study: str, index: int = 0) -> Path: ...
    def values(self, **preprocess: Any) -> dict[str, dict[str, Any]]: ...


@pytest.fixture
def held(mimic: Mimic, tmp_path: Path) -> Iterator[tuple[Running, Path]]:
    """A run with two workers in the middle of its work, one of which waits for a film's bytes until it is ended."""
    film = mimic.film("50000005")
    film.unlink()
    os.mkfifo(film)
    root = tmp_path / "root"
    running = Running(mimic.values(images_per_shard=1, num_workers=2), root, tmp_path)
    running.wait_for(lambda: len(running.workers()) >= 2 and list(root.rglob("parts/*.json")))
    assert running.process.poll() is None, running.output
    yield running, root
    if running.process.poll() is None:
        running.process.kill()
    running.wait()


def finished(root: Path) -> int:
    return len(list(root.rglob("parts/*.json")))


@pytest.mark.parametrize(
    ("number", "group", "code", "said"),
    [
        (signal.SIGINT, True, 130, "error: interrupted; run the same command again to continue"),
        (signal.SIGTERM, False, 143, "error: terminated; run the same command again to continue"),
    ],
    ids=["ctrl-c", "sigterm"],
)
def test_stopped_by_a_signal(
    held: tuple[Running, Path], number: signal.Signals, group: bool, code: int, said: str
) -> None:
    running, root = held
    (os.killpg if group else os.kill)(running.process.pid, number)
    assert running.wait() == code, running.output
    assert running.output.splitlines()[-1] == said
    assert "Traceback" not in running.output
    assert finished(root) >= 1
    assert not list(root.rglob(".partial-*"))


def test_workers_end_with_a_killed_parent(held: tuple[Running, Path]) -> None:
    running, _ = held
    assert len(running.workers()) >= 2
    running.process.kill()
    assert running.wait() == -signal.SIGKILL  # which fails if a worker is left


def test_a_killed_worker_is_one_clear_error(held: tuple[Running, Path]) -> None:
    running, root = held
    os.kill(running.workers()[-1], signal.SIGKILL)
    assert running.wait() == 2
    last = running.output.splitlines()[-1]
    assert last.startswith("error: a worker process was killed: preprocess; found 2 processes. Most often memory ran")
    assert "lower preprocess.num_workers" in last
    assert "Traceback" not in running.output
    assert finished(root) >= 1


def test_full_disk_is_one_clear_error_and_loses_nothing(mimic: Mimic, tmp_path: Path) -> None:
    values, root = mimic.values(images_per_shard=1, num_workers=2), tmp_path / "root"

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))

    assert Running(values, tmp_path / "whole", tmp_path).wait() == 0
    sizes = [path.stat().st_size for path in (tmp_path / "whole").rglob("*.parquet")]
    running = Running(
        values | {"preprocess": values["preprocess"] | {"pixels": {"size": 128}}}, root, tmp_path, before=full
    )
    assert running.wait() == 2, sizes
    last = running.output.splitlines()[-1]
    assert last.startswith(f"error: cannot write: {root}/data/"), last
    assert "found File too large. Free or grant space there and run the same command again" in last
    assert "Traceback" not in running.output
    assert not list(root.rglob(".partial-*"))
    assert not list(root.rglob(MANIFEST))
