"""The first contract: what is written is read back, equal rows give equal bytes, and damage is named."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from components.cxr.errors import UserError
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.labels import BLANK
from components.cxr.shard_writer import ImageRow, shard_schema, write_shard
from components.cxr.shards import (
    MANIFEST,
    SCHEMA_VERSION,
    Manifest,
    ShardInfo,
    SplitCounts,
    label_states,
    load_manifest,
    read_shard,
    write_manifest,
)
from components.cxr.storage.storage import Storage, open_storage
from components.cxr.text.text import SECTIONS

PRESET = PixelPreset(size=16)
NAMES = ("Edema", "Fracture")


def row(i: int, **changes: Any) -> ImageRow:
    base = ImageRow(
        study_id=f"s{i // 2}",
        patient_id=f"p{i // 4}",
        image_id=f"i{i}",
        split="train",
        view_position="PA" if i % 2 else None,
        pixels=np.random.default_rng(i).integers(0, 256, (16, 16)).astype(np.uint8),
        text={"indication": f"cough {i // 2}"},
        labels={"Edema": [1, 0, -1, None][i % 4], "Fracture": None},
        labeled=True,
        age_years=40.5 if i % 2 else None,
        sex="F",
        race="ASIAN" if i % 2 else None,
        insurance="Private",
        source_hash=f"h{i}",
    )
    return replace(base, **changes)


def write(folder: Path, rows: list[ImageRow], name: str = "train.parquet") -> ShardInfo:
    return write_shard(folder / name, rows, pathologies=NAMES, preset=PRESET, name=name)


def manifest_of(*shards: ShardInfo) -> Manifest:
    counts = SplitCounts(patients=1, studies=2, images=4, labeled_studies=2, labels={})
    return Manifest(
        schema_version=SCHEMA_VERSION,
        pathologies=NAMES,
        pixel_preset=PRESET,
        pixel_preset_hash=PRESET.hash,
        config_hash="c",
        source_hash="s",
        id_key_fingerprint="k",
        deidentified=True,
        counts={"train": counts},
        num_rejects=0,
        shards=shards,
    )


def test_round_trip(tmp_path: Path) -> None:
    rows = [row(i) for i in range(4)]
    info = write(tmp_path, rows)
    assert (info.rows, info.studies, info.split) == (4, 2, "train")
    assert info.bytes == (tmp_path / "train.parquet").stat().st_size
    table = read_shard(open_storage(tmp_path), info)
    for found, wanted in zip(table.to_pylist(), rows, strict=True):
        assert np.array_equal(np.frombuffer(found["pixels"], np.uint8).reshape(16, 16), wanted.pixels)
        assert {name: found[name] for name in NAMES} == wanted.labels
        assert {f"text_{name}": found[f"text_{name}"] for name in SECTIONS} == {
            f"text_{name}": wanted.text.get(name) for name in SECTIONS
        }
        for name in (
            "study_id",
            "patient_id",
            "image_id",
            "split",
            "view_position",
            "labeled",
            "age_years",
            "sex",
            "race",
            "insurance",
        ):
            assert found[name] == getattr(wanted, name)
    assert label_states(table, NAMES).tolist() == [[1, BLANK], [0, BLANK], [-1, BLANK], [BLANK, BLANK]]


def test_only_wanted_columns_are_read(tmp_path: Path) -> None:
    info = write(tmp_path, [row(0)])
    assert read_shard(open_storage(tmp_path), info, columns=["Edema", "sex"]).column_names == ["Edema", "sex"]


def test_schema_types_and_metadata() -> None:
    schema = shard_schema(NAMES, preset=PRESET)
    assert str(schema.field("Edema").type) == "int8"
    assert str(schema.field("pixels").type) == "binary"
    assert schema.metadata == {b"cxrflow.schema_version": b"3", b"cxrflow.pixels": b"uint8 16x16"}


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    rows = [row(i) for i in range(4)]
    assert write(tmp_path, rows, "a").sha256 == write(tmp_path, rows, "b").sha256
    assert write(tmp_path, [row(0, sex="M")], "c").sha256 != write(tmp_path, [row(0)], "d").sha256


def test_writing_holds_a_row_group_and_not_the_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.cxr.shard_writer._GROUP_BYTES", 4 * 16 * 16)
    alive = most = 0

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def rows() -> Iterator[ImageRow]:
        nonlocal alive, most
        for i in range(40):
            made = row(i)
            alive += 1
            most = max(most, alive)
            weakref.finalize(made, gone)
            yield made

    info = write_shard(tmp_path / "a", rows(), pathologies=NAMES, preset=PRESET, name="a")
    assert most <= 2 * 4 + 2
    assert pq.ParquetFile(tmp_path / "a").num_row_groups == 10
    assert (info.rows, info.studies) == (40, 20)
    assert info.sha256 == write(tmp_path, [row(i) for i in range(40)], "b").sha256


def test_the_manifest_is_written_over_no_other(storage: Storage) -> None:
    manifest = manifest_of()
    assert write_manifest(storage, manifest) == write_manifest(storage, manifest)
    with pytest.raises(UserError, match=rf"another manifest is here: {storage.uri}/manifest.json"):
        write_manifest(storage, manifest.model_copy(update={"num_rejects": 1}))
    assert load_manifest(storage).manifest == manifest


def test_any_parquet_reader_opens_a_shard(tmp_path: Path) -> None:
    write(tmp_path, [row(0)])
    assert pq.read_table(tmp_path / "train.parquet").column("image_id").to_pylist() == ["i0"]


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([], "exactly one split"),
        ([row(0), row(2, split="test")], "exactly one split"),
        ([row(0), row(2), row(1)], "must be adjacent"),
        ([row(0, pixels=np.zeros((16, 15), np.uint8))], r"uint8 \(16, 16\)"),
        ([row(0, pixels=np.zeros((16, 16), np.float32))], "found float32"),
    ],
)
def test_bad_rows_are_refused_before_anything_is_written(tmp_path: Path, rows: list[ImageRow], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        write(tmp_path, rows)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("names", [("Edema", "study_id"), ("pixels",), ("Edema", "Edema"), ("text_findings",)])
def test_reserved_or_repeated_pathologies(names: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="reserved or repeated"):
        shard_schema(names, preset=PRESET)


@pytest.fixture(params=["local", "gs"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return open_storage(tmp_path / "set")
    return open_storage(f"{request.getfixturevalue('gcs_bucket')}/set")


def test_manifest_round_trip(storage: Storage, tmp_path: Path) -> None:
    info = write(tmp_path, [row(i) for i in range(4)])
    storage.upload(tmp_path / info.name, info.name)
    manifest = manifest_of(info)
    written = write_manifest(storage, manifest)
    loaded = load_manifest(storage)
    assert loaded.manifest == manifest
    assert loaded.hash == written
    assert loaded.manifest.shards_of("train") == (info,)
    assert loaded.manifest.shards_of("test") == ()
    assert read_shard(loaded.storage, info).num_rows == 4


def test_a_flipped_bit_is_named(storage: Storage, tmp_path: Path) -> None:
    info = write(tmp_path, [row(i) for i in range(4)])
    data = bytearray((tmp_path / info.name).read_bytes())
    data[len(data) // 2] ^= 1
    storage.write(info.name, bytes(data))
    with pytest.raises(
        UserError, match=rf"shard is damaged: {storage.uri}/train.parquet; found sha256 .*{info.sha256[:12]}"
    ):
        read_shard(storage, info)


def test_a_missing_shard_is_named(storage: Storage, tmp_path: Path) -> None:
    info = write(tmp_path, [row(0)])
    with pytest.raises(UserError, match=rf"shard is missing: {storage.uri}/train.parquet"):
        read_shard(storage, info)


@pytest.mark.parametrize("version", [0, 1, "2", None])
def test_another_version_is_refused_before_anything_is_believed(tmp_path: Path, version: Any) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps({"schema_version": version, "whatever": 1}))
    with pytest.raises(UserError, match=rf"schema version: .*manifest.json: schema_version.*expected {SCHEMA_VERSION}"):
        load_manifest(open_storage(tmp_path))


@pytest.mark.parametrize(
    ("content", "match"),
    [(b"{", "not JSON"), (b"[]", "another schema version"), (b'{"schema_version": 3}', "missing configuration field")],
)
def test_broken_manifests(tmp_path: Path, content: bytes, match: str) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(UserError, match=match):
        load_manifest(open_storage(tmp_path))


def test_no_manifest_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"no complete data set here: {tmp_path}/manifest.json. Run preprocess first."):
        load_manifest(open_storage(tmp_path))
