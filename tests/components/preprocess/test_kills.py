"""Killed with SIGKILL at random moments, run again: at most the shard in hand is redone and the bytes are the same."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from components.cxr.storage.storage import Storage, open_storage
from tests.components.preprocess.running import Running, files_of

NUM_SHARDS = 12


class Mimic(Protocol):
    dir: Path

    def values(self, **preprocess: Any) -> dict[str, dict[str, Any]]: ...


@pytest.mark.slow
@pytest.mark.parametrize("place", ["local", "gs"])
def test_killed_at_a_few_moments(mimic: Mimic, tmp_path: Path, request: pytest.FixtureRequest, place: str) -> None:
    kill_and_resume(mimic, tmp_path, root_of(place, tmp_path, request), num_kills=2, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("place", ["local", "gs"])
@pytest.mark.parametrize("seed", range(2, 6))
def test_killed_at_twenty_moments(
    mimic: Mimic, tmp_path: Path, request: pytest.FixtureRequest, place: str, seed: int
) -> None:
    kill_and_resume(mimic, tmp_path, root_of(place, tmp_path, request), num_kills=5, seed=seed)


def root_of(place: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    return str(tmp_path / "killed") if place == "local" else str(request.getfixturevalue("gcs_bucket"))


def kill_and_resume(mimic: Mimic, tmp_path: Path, root: str, *, num_kills: int, seed: int) -> None:
    """Kill one data set's run again and again, later each time, then let it end; compare with one that was left alone.

    The moments are drawn: after how many shards, and how long after the last of them.
    """
    rng = random.Random(seed)
    values = mimic.values(images_per_shard=1, num_workers=2)
    whole = tmp_path / f"whole-{seed}"
    assert Running(values, whole, tmp_path).wait() == 0
    wanted = files_of(whole)
    storage = open_storage(root)
    for target in sorted(rng.randint(0, NUM_SHARDS) for _ in range(num_kills)):
        before = parts(storage)
        running = Running(values, root, tmp_path)
        running.wait_for(at_least(storage, target))
        time.sleep(rng.uniform(0.0, 0.05 if target else 3.0))
        running.process.kill()
        running.wait()
        after = parts(storage)
        assert before.items() <= after.items(), "a finished shard was made again"
        begun = {name for name in storage.sizes() if name.endswith(".parquet")}
        done = {json.loads(data)["info"]["name"] for _, data in after.values()}
        assert len({Path(name).name for name in begun} - {Path(name).name for name in done}) <= 1
    finished = parts(storage)
    assert Running(values, root, tmp_path).wait() == 0
    found = {name.removeprefix("data/"): storage.read(name).data for name in storage.sizes("data")}
    assert found == wanted
    assert finished.items() <= parts(storage).items()
    if storage.folder is not None:
        assert files_of(storage.folder) == wanted  # nothing half-written beside it


def at_least(storage: Storage, target: int) -> Callable[[], bool]:
    return lambda: len([name for name in storage.sizes("data") if "/parts/" in name]) >= target


def parts(storage: Storage) -> dict[str, tuple[int, bytes]]:
    """The records of finished shards, with what tells that one was written again: inode or generation."""
    found = {}
    for name in storage.sizes("data"):
        if "/parts/" in name:
            read, local = storage.read(name), storage.local_path(name)
            found[name] = (local.stat().st_ino if local is not None else read.generation, read.data)
    return found
