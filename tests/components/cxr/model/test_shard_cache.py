"""Shards out of the cache: those of the data set, and each read once however many processes start."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.cxr.model import shard_cache
from components.cxr.model.shard_cache import cached_shards
from components.cxr.shards import LoadedManifest, ShardInfo, read_shard
from components.cxr.storage.storage import Storage

SIZE = 32
COLUMNS = ("study_id", "text_indication", "age_years", "Edema")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CXRFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each shard was read."""
    found: Counter[str] = Counter()

    def counting(storage: Storage, info: ShardInfo, *, columns: Sequence[str] | None = None) -> pa.Table:
        found[info.name] += 1
        return read_shard(storage, info, columns=columns)

    monkeypatch.setattr(shard_cache, "read_shard", counting)
    return found


def test_pixels_and_columns_are_those_of_the_shard(cache: Path, tiny_data: LoadedManifest) -> None:
    infos = tiny_data.manifest.shards
    for _ in range(2):
        found = list(cached_shards(tiny_data.storage, infos, size=SIZE, columns=COLUMNS))
        assert len(found) == len(infos)
        for shard, info in zip(found, infos, strict=True):
            table = read_shard(tiny_data.storage, info)
            assert shard.table.equals(table.select(COLUMNS))
            truth = [np.frombuffer(film, np.uint8).reshape(SIZE, SIZE) for film in table.column("pixels").to_pylist()]
            np.testing.assert_array_equal(shard.pixels_NHW, truth)
            assert not shard.pixels_NHW.flags.writeable


def test_a_shard_is_read_once(cache: Path, tiny_data: LoadedManifest, reads: Counter[str]) -> None:
    infos = tiny_data.manifest.shards
    for _ in range(3):
        list(cached_shards(tiny_data.storage, infos, size=SIZE, columns=COLUMNS))
    assert reads == {info.name: 1 for info in infos}
    list(cached_shards(tiny_data.storage, infos, size=SIZE, columns=COLUMNS[:2]))
    assert reads == {info.name: 2 for info in infos}, "other columns are read for themselves"
    assert len(list(cache.glob("*-pixels.cached"))) == len(infos)


def test_processes_that_start_together_share_the_shards_out(
    cache: Path, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from components.cxr.model import shard_cache\n"
        "from components.cxr.shards import load_manifest, read_shard\n"
        "from components.cxr.storage.storage import open_storage\n"
        "def logged(storage, info, *, columns=None):\n"
        "    with Path(sys.argv[2]).open('a') as log:\n"
        "        log.write(info.name + '\\n')\n"
        "    time.sleep(0.2)\n"
        "    return read_shard(storage, info, columns=columns)\n"
        "shard_cache.read_shard = logged\n"
        "data = load_manifest(open_storage(sys.argv[1]))\n"
        "for shard in shard_cache.cached_shards(data.storage, data.manifest.shards, size=32, columns=['sex']):\n"
        "    print(int(shard.pixels_NHW.sum()), shard.table.num_rows)\n"
    )
    log = tmp_path / "log"
    command = [sys.executable, "-c", script, tiny_data.storage.uri, str(log)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    expected = []
    for info in tiny_data.manifest.shards:
        films = read_shard(tiny_data.storage, info, columns=["pixels"]).column("pixels").to_pylist()
        expected.append(f"{sum(map(sum, films))} {info.rows}")
    for process in running:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        assert out.splitlines() == expected
    assert sorted(log.read_text().split()) == sorted(info.name for info in tiny_data.manifest.shards)
