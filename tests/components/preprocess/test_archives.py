"""The same set as a folder, a zip and a tar, on a disk and in a bucket; and archives that are damaged."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.cxr.errors import UserError
from components.cxr.shards import MANIFEST, LoadedManifest
from components.cxr.storage import archive
from components.cxr.storage.storage import DamagedFileError, Root, open_storage
from components.preprocess.collect import collect, read_rejects
from components.preprocess.config import PreprocessConfig, parse_data
from components.preprocess.preprocess import run_partition
from tests.components.preprocess.openi_set import TinyOpeni

Values = dict[str, dict[str, Any]]


@pytest.fixture(autouse=True)
def _nothing_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(archive, "_opened", {})
    monkeypatch.setenv("CXRFLOW_CACHE", str(tmp_path / "cache"))


def run(values: Values, root: Path) -> LoadedManifest:
    data, step = parse_data(values["data"]), PreprocessConfig.parse(values["preprocess"], where="preprocess")
    run_partition(data, step, root=Root(root), partition=0, num_partitions=1)
    return collect(data, step, root=Root(root))


def refusal(values: Values, root: Path) -> str:
    with pytest.raises(UserError) as caught:
        run(values, root)
    assert not list(root.rglob(MANIFEST))
    assert "\n" not in str(caught.value)
    return caught.value.line


def pack(folder: Path, form: str) -> Path:
    """The folder's content as set.zip or set.tar beside it, names below a folder `set` as `zip -r` makes them."""
    path = folder.parent / f"packed.{form}"
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    if form == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.mkdir("set")
            for file in files:
                packed.write(file, f"set/{file.relative_to(folder)}")
    else:
        with tarfile.open(path, "w") as packed_tar:
            packed_tar.add(folder, "./set")
    return path


def mimic_set(folder: Path, request: pytest.FixtureRequest) -> Values:
    values: Values = request.getfixturevalue("mimic").values()
    (folder.parent / "mimic").rename(folder)
    return {**values, "data": values["data"] | {"dir": str(folder)}}


def csv_set(folder: Path, request: pytest.FixtureRequest) -> Values:
    values: Values = request.getfixturevalue("table").values()
    (folder.parent / "table").rename(folder)
    places = {"table": f"{folder}/labels.csv", "image_dir": f"{folder}/films"}
    return {**values, "data": values["data"] | places}


def openi_set(folder: Path, request: pytest.FixtureRequest) -> Values:
    tiny = TinyOpeni(folder / "reports", folder / "films")
    for number in range(1, 7):
        tiny.add(number, films=[f"CXR{number}_{number}_IM-000{number}-1001"], findings=f"clear {number}")
    return tiny.values()


def dicom_set(folder: Path, request: pytest.FixtureRequest) -> Values:
    dicom_bytes = request.getfixturevalue("dicom_bytes")
    rng = np.random.default_rng(3)
    for i in range(5):
        path = folder / f"{i % 2}/film{i}"
        path.parent.mkdir(parents=True, exist_ok=True)
        stored = rng.integers(0, 4096, (200, 210)).astype(np.uint16)  # longer than what is read for the header
        uids = {"StudyInstanceUID": f"1.2.{i}", "SOPInstanceUID": f"1.2.{i}.1", "PatientID": f"p{i}"}
        path.write_bytes(dicom_bytes(stored, bits_stored=12, **uids))
    (folder / "notes.txt").write_text("no film")
    (folder / "empty.txt").write_text("")
    source = {"adapter": "dicom-folder", "dir": str(folder), "split": "hash"}
    return {"data": source, "preprocess": {"pixels": {"size": 32}, "num_workers": 0}}


SETS = [mimic_set, csv_set, openi_set, dicom_set]


@pytest.mark.parametrize("place", ["local", "gs"])
@pytest.mark.parametrize("form", ["zip", "tar"])
@pytest.mark.parametrize("make", SETS, ids=lambda make: make.__name__)
def test_an_archive_gives_the_rows_of_the_folder_bit_for_bit(
    make: Callable[[Path, pytest.FixtureRequest], Values],
    form: str,
    place: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    folder = tmp_path / "set"
    values = make(folder, request)
    expected = run(values, tmp_path / "a").manifest
    packed = pack(folder, form)
    uri = str(packed)
    if place == "gs":
        bucket = request.getfixturevalue("gcs_bucket")
        open_storage(bucket).upload(packed, packed.name)
        packed.unlink()
        uri = f"{bucket}/{packed.name}"
    folder.rename(tmp_path / "away")
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    values["data"] = json.loads(json.dumps(values["data"]).replace(str(folder), f"{uri}/set"))
    found = run(values, tmp_path / "b").manifest
    assert found.shards == expected.shards  # with the hashes of their bytes
    assert found.source_hash == expected.source_hash
    assert (found.left_out, found.num_rejects) == (expected.left_out, expected.num_rejects)
    made = {path for path in tmp_path.rglob("*") if "cache" not in path.parts} - before
    assert all(path.is_relative_to(tmp_path / "b") for path in made)


def test_workers_open_the_archive_themselves(table: Any, tmp_path: Path) -> None:
    expected = run(table.values(), tmp_path / "a").manifest
    values = table.values(image_dir=f"{pack(table.path.parent / 'films', 'tar')}/set")
    values["preprocess"]["num_workers"] = 2
    assert run(values, tmp_path / "b").manifest.shards == expected.shards
    (noted,) = (tmp_path / "cache").glob("tar-*.json")
    assert noted.stat().st_mode & 0o077 == 0
    assert len(json.loads(noted.read_text())) == 10


def test_a_member_costs_one_request_in_a_bucket(
    table: Any, tmp_path: Path, gcs_bucket: str, gcs_requests: list[tuple[str, str | None]]
) -> None:
    open_storage(gcs_bucket).upload(pack(table.path.parent / "films", "zip"), "films.zip")
    storage = open_storage(f"{gcs_bucket}/films.zip/set")
    gcs_requests.clear()
    whole = (table.path.parent / "films" / "f3.png").read_bytes()
    assert storage.read("f3.png").data == whole
    assert storage.read_start("f3.png", 20) == whole[:20]
    assert storage.read_range("f3.png", 20, 10_000) == whole[20:]
    assert len(gcs_requests) == 3


def flip(path: Path, member: str) -> None:
    """Change a byte in the middle of what a zip's member was packed to."""
    with zipfile.ZipFile(path) as packed:
        info = packed.getinfo(member)
    at = info.header_offset + 30 + len(member) + info.compress_size // 2
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("damage", ["flipped", "cut off", "method"])
def test_a_member_that_cannot_be_inflated_is_a_reject(damage: str, table: Any, tmp_path: Path) -> None:
    packed = pack(table.path.parent / "films", "zip")
    if damage == "flipped":
        flip(packed, "set/f3.png")
    else:
        data = packed.read_bytes()
        at = data.rindex(b"PK\1\2", 0, data.rindex(b"set/f3.png"))
        if damage == "cut off":  # as when the disk was full
            half = int.from_bytes(data[at + 20 : at + 24], "little") // 2
            packed.write_bytes(data[: at + 20] + half.to_bytes(4, "little") + data[at + 24 :])
        else:
            packed.write_bytes(data[: at + 10] + b"\x09\0" + data[at + 12 :])  # deflate64
    values = table.values(image_dir=f"{packed}/set")
    values["preprocess"]["max_reject_fraction"] = 0.2
    loaded = run(values, tmp_path / "root")
    (reject,) = read_rejects(loaded).to_pylist()
    assert reject["code"] == "damaged"
    assert ("method 9" if damage == "method" else "cut off or changed") in reject["reason"]
    assert sum(counts.images for counts in loaded.manifest.counts.values()) == 9
    with pytest.raises(DamagedFileError):
        open_storage(f"{packed}/set").read("f3.png")


def test_a_damaged_report_or_table_is_one_error(mimic: Any, tmp_path: Path) -> None:
    packed = pack(mimic.dir, "zip")
    names = zipfile.ZipFile(packed).namelist()
    whole = packed.read_bytes()
    for name in (next(name for name in names if name.endswith(".txt")), "set/mimic-cxr-2.0.0-chexpert.csv"):
        packed.write_bytes(whole)
        flip(packed, name)
        archive._opened.clear()
        values = mimic.values()
        line = refusal({**values, "data": values["data"] | {"dir": f"{packed}/set"}}, tmp_path / "root")
        assert line.endswith("[damaged-member]")
        assert name not in line


@pytest.mark.parametrize("form", ["zip", "tar"])
@pytest.mark.parametrize("kept", [0, 100, 0.5, -1])
def test_an_archive_that_is_cut_off_is_one_error(form: str, kept: float, table: Any, tmp_path: Path) -> None:
    packed = pack(table.path.parent / "films", form)
    data = packed.read_bytes()
    end = data.rindex(b"IEND") + 600 if form == "tar" else len(data) - 1  # a tar is padded with zeros
    packed.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else end if kept < 0 else kept])
    if form == "tar" and kept < 0:
        packed.write_bytes(data[: -(-(data.rindex(b"IEND") + 8) // 512) * 512])  # whole members, no end
    line = refusal(table.values(image_dir=f"{packed}/set"), tmp_path / "root")
    assert line.endswith("[unreadable-archive]")
    assert not list((tmp_path / "cache").glob("tar-*"))


def test_an_encrypted_zip_is_one_error(table: Any, tmp_path: Path) -> None:
    packed = pack(table.path.parent / "films", "zip")
    data = bytearray(packed.read_bytes())
    data[data.rindex(b"PK\1\2", 0, data.rindex(b"set/f3.png")) + 8] |= 1
    packed.write_bytes(data)
    line = refusal(table.values(image_dir=f"{packed}/set"), tmp_path / "root")
    assert "found 1 of 10 files" in line
    assert line.endswith("[encrypted-archive]")


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", "set/../../secret.png", "..\\secret.png"])
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_names_that_lead_out_are_one_error(name: str, form: str, table: Any, tmp_path: Path) -> None:
    packed = pack(table.path.parent / "films", form)
    if form == "zip":
        with zipfile.ZipFile(packed, "a") as more:
            more.writestr(name, b"x")
    else:
        with tarfile.open(packed, "a") as more_tar:
            more_tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    line = refusal(table.values(image_dir=f"{packed}/set"), tmp_path / "root")
    assert line.endswith("[names-out-of-archive]")
    assert "secret" not in line


@pytest.mark.parametrize("name", ["films.tgz", "films.tar.gz", "films.tar.xz"])
def test_a_compressed_tar_is_refused_with_the_remedy(name: str, table: Any, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    line = refusal(table.values(image_dir=str(tmp_path / name)), tmp_path / "root")
    assert "without unpacking it: gunzip" in line
    assert line.endswith("[compressed-tar]")


def test_a_missing_archive_is_one_error(table: Any, tmp_path: Path, gcs_bucket: str) -> None:
    assert "[missing-archive]" in refusal(table.values(image_dir=f"{gcs_bucket}/no.zip"), tmp_path / "root")
    assert "[missing-folder]" in refusal(table.values(image_dir=str(tmp_path / "no.zip")), tmp_path / "root")


def test_an_archive_is_never_written(table: Any) -> None:
    storage = open_storage(pack(table.path.parent / "films", "zip"))
    for attempt in (lambda: storage.write("a", b""), lambda: storage.delete("set/f1.png")):
        with pytest.raises(UserError, match="read only"):
            attempt()
    assert list(storage.child("set").sizes()) == [f"f{i}.png" for i in range(10)]
    assert storage.sizes("set") == {f"set/{name}": size for name, size in storage.child("set").sizes().items()}


def test_links_in_archives_are_files_or_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"film")
    (folder / "b.png").hardlink_to(folder / "a.png")
    (folder / "c.png").symlink_to(folder / "a.png")
    storage = open_storage(f"{pack(folder, 'tar')}/set")
    assert storage.sizes() == {"a.png": 4, "b.png": 4}
    assert storage.read("b.png").data == b"film"


def test_a_folder_named_like_an_archive_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "films.zip").mkdir()
    open_storage(tmp_path / "films.zip").write("a.txt", b"a")
    assert (tmp_path / "films.zip" / "a.txt").read_bytes() == b"a"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_films_of_a_zip_keep_their_study_and_patient_however_it_is_compressed(
    method: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    values = dicom_set(tmp_path / "set", request)
    stored = np.random.default_rng(4).integers(0, 4096, (500, 500)).astype(np.uint16)  # a block is longer than a header
    uids = {"StudyInstanceUID": "1.2.9", "SOPInstanceUID": "1.2.9.1", "PatientID": "p9"}
    (tmp_path / "set" / "large").write_bytes(request.getfixturevalue("dicom_bytes")(stored, bits_stored=12, **uids))
    expected = run(values, tmp_path / "a").manifest
    with zipfile.ZipFile(tmp_path / "packed.zip", "w", method) as packed:
        for file in (tmp_path / "set").rglob("*"):
            packed.write(file, file.relative_to(tmp_path / "set"))
    values["data"]["dir"] = f"{tmp_path}/packed.zip"
    found = run(values, tmp_path / "b").manifest
    assert (found.shards, found.left_out) == (expected.shards, expected.left_out)
