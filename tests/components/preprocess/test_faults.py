"""The whole step on a bucket of whose requests a fifth, or all, are broken: the same bytes, or one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import pytest

from components.cxr.shards import MANIFEST, load_manifest, read_shard
from components.cxr.storage.gcs import DEADLINE_VARIABLE
from components.cxr.storage.storage import open_storage
from tests.components.fault_proxy import FAULTS, fault_proxy
from tests.components.preprocess.running import Running, files_of

pytestmark = pytest.mark.slow


class Mimic(Protocol):
    dir: Path

    def values(self, **preprocess: Any) -> dict[str, dict[str, Any]]: ...


def in_bucket(values: dict[str, Any], bucket: str) -> dict[str, Any]:
    return values | {"data": values["data"] | {"dir": f"{bucket}/mimic"}}


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 8))])
def test_faults_change_no_byte(mimic: Mimic, tmp_path: Path, gcs_server: str, gcs_bucket: str, seed: int) -> None:
    values = mimic.values(images_per_shard=2, num_workers=2)
    assert Running(values, tmp_path / "whole", tmp_path).wait() == 0
    open_storage(f"{gcs_bucket}/mimic").upload_folder(mimic.dir)
    with fault_proxy(gcs_server, seed=seed, rate=0.2, stall_s=16.0) as proxy:
        # A minute of backing off outlasts any row of faults; a connection is given up after a quarter of it.
        env = {"STORAGE_EMULATOR_HOST": proxy.url, DEADLINE_VARIABLE: "60"}
        running = Running(in_bucket(values, gcs_bucket), f"{gcs_bucket}/out", tmp_path, env=env)
        assert running.wait(timeout_s=300) == 0, running.output
        assert set(proxy.injected) >= set(FAULTS), proxy.injected
    out = open_storage(f"{gcs_bucket}/out/data")
    shards = [data for name, data in files_of(tmp_path / "whole").items() if name.endswith(".parquet")]
    assert [out.read(name).data for name in out.sizes() if name.endswith(".parquet")] == shards
    (manifest,) = (name for name in out.sizes() if name.endswith(MANIFEST))
    loaded = load_manifest(out.child(manifest.removesuffix(f"/{MANIFEST}")))
    assert sum(read_shard(loaded.storage, info).num_rows for info in loaded.manifest.shards) == 18


@pytest.mark.parametrize("fault", ["503", "stall", "cut-up"])
def test_faults_without_end(mimic: Mimic, tmp_path: Path, gcs_server: str, gcs_bucket: str, fault: str) -> None:
    """They begin once some shards are done; these stay, nothing else is to be seen, and the next run goes on."""
    values = in_bucket(mimic.values(images_per_shard=1, num_workers=2), gcs_bucket)
    open_storage(f"{gcs_bucket}/mimic").upload_folder(mimic.dir)
    out = open_storage(f"{gcs_bucket}/out")
    with fault_proxy(gcs_server, seed=1, rate=0.0, faults=[fault], stall_s=2.0) as proxy:
        env = {"STORAGE_EMULATOR_HOST": proxy.url, DEADLINE_VARIABLE: "4"}
        running = Running(values, f"{gcs_bucket}/out", tmp_path, env=env)
        running.wait_for(lambda: any("/parts/" in name for name in out.sizes()))
        proxy.rate = 1.0
        assert running.wait() == 2, running.output
    last = running.output.splitlines()[-1]
    assert last.startswith(f"error: Google Cloud Storage keeps failing: {gcs_bucket}/")
    assert "for 4 s. Run the same command again to continue" in last
    assert "Traceback" not in running.output
    assert not [secret for secret in ("5000", "1000", ".dcm") if secret in last.replace(gcs_bucket, "")]
    before = {name: out.read(name) for name in out.sizes() if "/parts/" in name}
    assert before
    assert not [name for name in out.sizes() if name.endswith(MANIFEST)]
    again = Running(values, f"{gcs_bucket}/out", tmp_path)
    assert again.wait() == 0, again.output
    assert {name: out.read(name) for name in before} == before
    assert f"{len(before)} of 12 shards are already in data/" in again.output
