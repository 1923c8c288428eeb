"""Race and insurance are for scores by subgroup: nothing that feeds or is a model reads them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.cxr.model import shard_cache
from components.cxr.model.dataset import StudyDataset
from components.cxr.shards import LoadedManifest, ShardInfo, load_manifest, read_shard, write_manifest
from components.cxr.storage.storage import Storage, open_storage, sha256_of
from components.cxr.text.text import TextConfig

REPOSITORY = Path(__file__).parents[3]
MODEL_CODE = [
    *(REPOSITORY / "components" / "train").rglob("*.py"),
    *(REPOSITORY / "components" / "serve").rglob("*.py"),
    *(REPOSITORY / "components" / "cxr" / "model").rglob("*.py"),
    *(REPOSITORY / "components" / "cxr" / f"{name}.py" for name in ("bundle", "bundle_info", "tracking/mlflow_model")),
]


def with_groups(data: LoadedManifest, folder: Path) -> LoadedManifest:
    """The same data set with a race and an insurance in every row."""
    infos = []
    for info in data.manifest.shards:
        table = read_shard(data.storage, info)
        for name, value in (("race", "WHITE"), ("insurance", "Medicare")):
            column = table.column_names.index(name)
            table = table.set_column(column, table.schema.field(name), [[value] * table.num_rows])
        pq.write_table(table, folder / info.name)
        path = folder / info.name
        infos.append(info.model_copy(update={"bytes": path.stat().st_size, "sha256": sha256_of(path)}))
    write_manifest(open_storage(folder), data.manifest.model_copy(update={"shards": tuple(infos)}))
    return load_manifest(open_storage(folder))


def test_a_studys_input_is_the_same_with_and_without(
    tiny_data: LoadedManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: set[str] = set()

    def recording(storage: Storage, info: ShardInfo, *, columns: Sequence[str] | None = None) -> pa.Table:
        read.update(["everything"] if columns is None else columns)
        return read_shard(storage, info, columns=columns)

    grouped = with_groups(tiny_data, tmp_path)
    assert set(read_shard(grouped.storage, grouped.manifest.shards[0]).column("race").to_pylist()) == {"WHITE"}
    monkeypatch.setattr(shard_cache, "read_shard", recording)
    monkeypatch.setenv("CXRFLOW_CACHE", str(tmp_path / "cache"))
    plain, other = (StudyDataset(data, splits=["train", "test"], text=TextConfig()) for data in (tiny_data, grouped))
    for first, second in zip(plain, other, strict=True):
        for a, b in zip(first.films, second.films, strict=True):
            np.testing.assert_array_equal(a, b)
        assert replace(first, films=()) == replace(second, films=())
    assert {"sex", "pixels", "Edema"} <= read
    assert not read & {"race", "insurance", "everything"}


def test_no_code_of_the_model_names_them() -> None:
    assert len(MODEL_CODE) > 20
    for path in MODEL_CODE:
        found = re.findall(r"\brace\b|\binsurance\b", path.read_text())
        assert not found, f"{path.relative_to(REPOSITORY)} names {found}"
