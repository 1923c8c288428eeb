"""Ids of two keys never meet: another key is another data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import pyarrow.parquet as pq
import pytest

from components.cxr.errors import UserError
from components.cxr.ids import IdKey, hash_id
from components.cxr.shards import load_manifest
from components.cxr.storage.storage import Root, open_storage
from components.preprocess.collect import collect
from components.preprocess.config import PreprocessConfig, parse_data
from components.preprocess.preprocess import run_partition


class Mimic(Protocol):
    dir: Path

    def values(self, **preprocess: Any) -> dict[str, dict[str, Any]]: ...


KEYS = ("", "the first key of this test", "the second key of this test")


def ids_under(folder: Path) -> set[str]:
    shards = folder.rglob("shards/*.parquet")
    return {study for path in shards for study in pq.read_table(path, columns=["study_id"]).column(0).to_pylist()}


def test_partitions_made_with_different_keys_lie_apart(
    mimic: Mimic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when a run was interrupted and continued with another key, or with none."""
    values, root = mimic.values(), Root(tmp_path / "root")
    data, step = parse_data(values["data"]), PreprocessConfig.parse(values["preprocess"], where="preprocess")
    for partition, secret in enumerate(KEYS):
        monkeypatch.setenv("CXRFLOW_ID_KEY", secret)
        run_partition(data, step, root=root, partition=partition, num_partitions=3)
        with pytest.raises(UserError, match="shards are missing"):
            collect(data, step, root=root)
    folders = sorted((tmp_path / "root" / "data").iterdir())
    assert len(folders) == 3
    all_ids = {s: {hash_id("study", f"5000{i:04}", IdKey(s.encode() or None)) for i in range(12)} for s in KEYS}
    owners = [[s for s in KEYS if ids_under(folder) & all_ids[s]] for folder in folders]
    assert sorted(owners) == [[s] for s in sorted(KEYS)]


def test_the_manifest_tells_the_keys_apart_without_giving_them_away(
    mimic: Mimic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, root = mimic.values(), Root(tmp_path / "root")
    data, step = parse_data(values["data"]), PreprocessConfig.parse(values["preprocess"], where="preprocess")
    found = []
    for secret in KEYS:
        monkeypatch.setenv("CXRFLOW_ID_KEY", secret)
        run_partition(data, step, root=root, partition=0, num_partitions=1)
        manifest = load_manifest(open_storage(collect(data, step, root=root).storage.uri)).manifest
        assert manifest.id_key_fingerprint == IdKey(secret.encode() or None).fingerprint
        found.append((manifest.deidentified, manifest.id_key_fingerprint))
    assert [deidentified for deidentified, _ in found] == [False, True, True]
    assert len({fingerprint for _, fingerprint in found}) == 3
    for path in (tmp_path / "root").rglob("*"):
        assert not path.is_file() or b"key of this test" not in path.read_bytes()
