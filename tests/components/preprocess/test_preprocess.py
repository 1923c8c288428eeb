"""The whole step on a tiny MIMIC-CXR: content, partitions, workers, resume, and what it refuses."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from components.cxr.errors import UserError
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.films.pixels import read_film
from components.cxr.ids import hash_id
from components.cxr.labels import PATHOLOGIES
from components.cxr.shards import MANIFEST, LoadedManifest, load_manifest, read_shard
from components.cxr.storage.local import LocalStorage
from components.cxr.storage.pointers import read_pointer
from components.cxr.storage.storage import Root, open_storage
from components.preprocess.collect import collect
from components.preprocess.config import PreprocessConfig, parse_data
from components.preprocess.preprocess import run_partition


class Mimic(Protocol):
    dir: Path
    num_films: int
    unlabeled_study: str
    study_without_report: str
    two_film_study: str

    def film(self, study: str, index: int = 0) -> Path: ...
    def values(self, **preprocess: Any) -> dict[str, dict[str, Any]]: ...


def run(values: dict[str, dict[str, Any]], root: Root, *, num_partitions: int = 1) -> LoadedManifest:
    data, step = parse_data(values["data"]), PreprocessConfig.parse(values["preprocess"], where="preprocess")
    for i in reversed(range(num_partitions)):
        run_partition(data, step, root=root, partition=i, num_partitions=num_partitions)
    return collect(data, step, root=root)


def rows_of(loaded: LoadedManifest) -> list[dict[str, Any]]:
    return pa.concat_tables(read_shard(loaded.storage, info) for info in loaded.manifest.shards).to_pylist()


def files_of(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def data_files(root: Path) -> dict[str, bytes]:
    """All files but the pointer, which names the root."""
    return {name: data for name, data in files_of(root).items() if not name.startswith("latest")}


# What comes out


def test_rows_are_the_source(mimic: Mimic, tmp_path: Path) -> None:
    loaded = run(mimic.values(), Root(tmp_path / "root"))
    rows = rows_of(loaded)
    assert len(rows) == mimic.num_films == 18
    assert {row["study_id"] for row in rows} == {hash_id("study", f"5000{i:04}") for i in range(12)}
    study = [row for row in rows if row["study_id"] == hash_id("study", mimic.two_film_study)]
    assert {row["view_position"] for row in study} == {"PA", "LATERAL"}
    for row in study:
        film = mimic.film(mimic.two_film_study, 1 if row["view_position"] == "LATERAL" else 0)
        assert row["image_id"] == hash_id("image", film.stem)
        assert row["source_hash"] == hash_id("path", film.relative_to(mimic.dir).as_posix())
        pixels = read_film(film.read_bytes(), preset=PixelPreset(size=32)).pixels
        assert np.array_equal(np.frombuffer(row["pixels"], np.uint8).reshape(32, 32), pixels)
        assert (row["text_indication"], row["text_findings"]) == ("cough 1", "opacity 1")
        assert (row["age_years"], row["sex"], row["split"], row["labeled"]) == (41.0, "M", "train", True)
        assert [row[name] for name in PATHOLOGIES[:4]] == [0, -1, None, 1]


def test_manifest_counts(mimic: Mimic, tmp_path: Path) -> None:
    loaded = run(mimic.values(), Root(tmp_path / "root"))
    manifest, rows = loaded.manifest, rows_of(loaded)
    assert manifest.pathologies == PATHOLOGIES
    assert manifest.pixel_preset_hash == PixelPreset(size=32).hash
    assert (manifest.num_rejects, manifest.deidentified) == (0, False)
    for split, counts in manifest.counts.items():
        mine = [row for row in rows if row["split"] == split]
        assert counts.images == len(mine) > 0
        assert counts.studies == len({row["study_id"] for row in mine})
        assert counts.patients == len({row["patient_id"] for row in mine})
        labeled = {row["study_id"]: row for row in mine if row["labeled"]}
        assert counts.labeled_studies == len(labeled)
        edema = [row["Edema"] for row in labeled.values()]
        assert counts.labels["Edema"] == {
            name: edema.count(state)
            for name, state in (("positive", 1), ("negative", 0), ("uncertain", -1), ("blank", None))
        }


def test_no_study_straddles_shards_and_no_patient_splits(mimic: Mimic, tmp_path: Path) -> None:
    loaded = run(mimic.values(), Root(tmp_path / "root"))
    shard_of: dict[str, str] = {}
    split_of: dict[str, str] = {}
    for info in loaded.manifest.shards:
        table = read_shard(loaded.storage, info)
        assert info.rows <= 4
        assert set(table.column("split").to_pylist()) == {info.split}
        for row in table.select(["study_id", "patient_id"]).to_pylist():
            assert shard_of.setdefault(row["study_id"], info.name) == info.name
            assert split_of.setdefault(row["patient_id"], info.split) == info.split
    assert len(loaded.manifest.shards) >= 5


def test_shards_do_not_follow_the_order_of_the_source(mimic: Mimic, tmp_path: Path) -> None:
    """Ids of a source rise with admission, so its order would tell when a patient came."""
    rows = rows_of(run(mimic.values(), Root(tmp_path / "root")))
    raw_of = {hash_id("patient", f"1000{i:04}"): f"1000{i:04}" for i in range(8)}
    patients = list(dict.fromkeys(raw_of[row["patient_id"]] for row in rows if row["split"] == "train"))
    assert patients == sorted(patients, key=lambda patient: hash_id("order", patient)) != sorted(patients)
    films = [(row["study_id"], row["image_id"]) for row in rows]
    by_study = {study: [image for other, image in films if other == study] for study, _ in films}
    assert all(images == sorted(images) for images in by_study.values())
    assert sum(len(images) > 1 for images in by_study.values()) >= 5


def test_latest_points_at_the_set(mimic: Mimic, tmp_path: Path) -> None:
    root = Root(tmp_path / "root")
    loaded = run(mimic.values(), root)
    found = load_manifest(open_storage(read_pointer(root, "manifest", made_by="preprocess")))
    assert found.hash == loaded.hash


def test_no_id_and_no_name_of_the_source_comes_out(mimic: Mimic, tmp_path: Path) -> None:
    root = tmp_path / "root"
    loaded = run(mimic.values(), Root(root))
    assert all("5000" not in name and "1000" not in name for name in files_of(root))
    texts = [str({key: value for key, value in row.items() if key != "pixels"}) for row in rows_of(loaded)]
    for name, data in files_of(root).items():
        if name.endswith(".json"):
            texts.append(data.decode())
    for text in texts:
        assert not [secret for secret in ("50000001", "10000001", "19999999", "Doe", ".dcm") if secret in text]


# The same bytes


def test_partitions_and_workers_change_no_byte(mimic: Mimic, tmp_path: Path) -> None:
    run(mimic.values(), Root(tmp_path / "one"))
    run(mimic.values(), Root(tmp_path / "three"), num_partitions=3)
    run(mimic.values(num_workers=2), Root(tmp_path / "workers"))
    assert data_files(tmp_path / "one") == data_files(tmp_path / "three") == data_files(tmp_path / "workers")


def test_key_ignores_workers_and_changes_with_what_matters(
    mimic: Mimic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Root(tmp_path / "root")

    def key(**preprocess: Any) -> str:
        return run(mimic.values(**preprocess), root).storage.uri

    first = key()
    assert key(num_workers=0, max_reject_fraction=0.5) == first
    others = [key(pixels={"size": 16}), key(images_per_shard=5), key(pixels={"size": 32, "name": "mimic-jpg"})]
    monkeypatch.setenv("CXRFLOW_ID_KEY", "a key of this test only")
    others.append(key())
    monkeypatch.delenv("CXRFLOW_ID_KEY")
    film = mimic.film("50000000")
    film.write_bytes(film.read_bytes() + b"\0\0")
    others.append(key())
    assert len({first, *others}) == 6


def test_keyed_ids(mimic: Mimic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRFLOW_ID_KEY", "a key of this test only")
    loaded = run(mimic.values(), Root(tmp_path / "root"))
    assert loaded.manifest.deidentified
    assert hash_id("study", "50000000") in {row["study_id"] for row in rows_of(loaded)}


def test_a_finished_set_is_reused(mimic: Mimic, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    run(mimic.values(), Root(root))
    before = {path: path.stat().st_mtime_ns for path in (root / "data").rglob("*.parquet")}
    capsys.readouterr()
    run(mimic.values(), Root(root))
    assert "preprocess: reused data/" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (root / "data").rglob("*.parquet")} == before


def test_lost_or_half_shards_are_made_again(mimic: Mimic, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    run(mimic.values(), Root(root))
    whole = data_files(root)
    shards = sorted((root / "data").rglob("shards/*.parquet"))
    shards[0].unlink()
    shards[1].write_bytes(shards[1].read_bytes()[:100])
    run(mimic.values(), Root(root))
    assert f"preprocess: {len(shards) - 2} of {len(shards)} shards are already in data/" in capsys.readouterr().out
    assert data_files(root) == whole


def test_killed_anywhere_it_continues_to_the_same_bytes(mimic: Mimic, tmp_path: Path) -> None:
    values = mimic.values(images_per_shard=1)
    run(values, Root(tmp_path / "whole"))
    root = tmp_path / "killed"
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(values | {"root": str(root)}))
    command = [sys.executable, "-m", "components.preprocess", "--config", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(root.rglob("parts/*.json"))) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = list(root.rglob("parts/*.json"))
    assert len(done) >= 2
    assert not list(root.rglob(MANIFEST)) or len(done) == 12
    stamps = {path: path.stat().st_mtime_ns for path in done}
    run(values, Root(root))
    assert data_files(root) == data_files(tmp_path / "whole")
    assert {path: path.stat().st_mtime_ns for path in done} == stamps


def test_a_failed_shard_is_not_marked_as_done(mimic: Mimic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(mimic.values(), Root(tmp_path / "whole"))
    write = LocalStorage.writing

    def full(self: LocalStorage, name: str) -> AbstractContextManager[Path]:
        if name == "shards/train-00001.parquet":
            raise UserError("cannot-write", "cannot write")
        return write(self, name)

    monkeypatch.setattr(LocalStorage, "writing", full)
    with pytest.raises(UserError, match="cannot write"):
        run(mimic.values(), Root(tmp_path / "root"))
    monkeypatch.undo()
    done = sorted(path.name for path in (tmp_path / "root").rglob("parts/*.json"))
    assert done == ["train-00000.json"]
    run(mimic.values(), Root(tmp_path / "root"))
    assert data_files(tmp_path / "root") == data_files(tmp_path / "whole")


def test_everything_on_cloud_storage_is_the_same(mimic: Mimic, tmp_path: Path, gcs_bucket: str) -> None:
    open_storage(f"{gcs_bucket}/mimic").upload_folder(mimic.dir)
    local = run(mimic.values(), Root(tmp_path / "root"))
    values = mimic.values()
    values["data"]["dir"] = f"{gcs_bucket}/mimic"
    cloud = run(values, Root(f"{gcs_bucket}/out"), num_partitions=2)
    assert [info.sha256 for info in cloud.manifest.shards] == [info.sha256 for info in local.manifest.shards]
    assert cloud.manifest.source_hash == local.manifest.source_hash
    assert rows_of(cloud) == rows_of(local)


# Refusals


def refusal(values: dict[str, dict[str, Any]], root: Path) -> str:
    with pytest.raises(UserError) as caught:
        run(values, Root(root))
    assert not list((root / "data").rglob(MANIFEST))
    return str(caught.value)


def test_missing_partition_is_not_complete(mimic: Mimic, tmp_path: Path) -> None:
    values, root = mimic.values(), Root(tmp_path / "root")
    data, step = parse_data(values["data"]), PreprocessConfig.parse(values["preprocess"], where="preprocess")
    run_partition(data, step, root=root, partition=0, num_partitions=2)
    with pytest.raises(UserError, match=r"shards are missing: .*found \d of \d shards, expected all"):
        collect(data, step, root=root)
    with pytest.raises(UserError, match="no such partition"):
        run_partition(data, step, root=root, partition=2, num_partitions=2)


def test_foreign_output_folder_is_refused(mimic: Mimic, tmp_path: Path) -> None:
    root = tmp_path / "root"
    folder = Path(run(mimic.values(), Root(root)).storage.uri)
    (folder / MANIFEST).unlink()
    (folder / "thesis.docx").write_bytes(b"dear")
    message = refusal(mimic.values(), root)
    assert "output folder holds something else" in message
    assert str(folder) in message
    assert "thesis.docx" in message
    assert (folder / "thesis.docx").exists()


def test_manifest_of_another_version_is_refused(mimic: Mimic, tmp_path: Path) -> None:
    loaded = run(mimic.values(), Root(tmp_path / "root"))
    path = Path(loaded.storage.uri) / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 1}))
    with pytest.raises(
        UserError, match=r"another schema version: .*manifest.json: schema_version; found 1, expected 3"
    ):
        run(mimic.values(), Root(tmp_path / "root"))


def test_shards_open_in_plain_parquet_readers(mimic: Mimic, tmp_path: Path) -> None:
    loaded = run(mimic.values(), Root(tmp_path / "root"))
    data = loaded.storage.read(loaded.manifest.shards[0].name).data
    table = pq.read_table(io.BytesIO(data))
    assert table.num_rows == loaded.manifest.shards[0].rows
    assert table.schema.field("Edema").type == pa.int8()
