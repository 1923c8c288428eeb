"""A folder of films without labels: what is found, whose it is, what is left out, and as more films for training."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pydicom
import pytest
from pydicom.uid import MediaStorageDirectoryStorage

from components.cxr.ids import IdKey, hash_id
from components.cxr.labels import PATHOLOGIES
from components.cxr.storage.local import LocalStorage
from components.cxr.storage.storage import open_storage
from components.preprocess.adapters import read_source
from components.preprocess.collect import read_rejects
from components.preprocess.config import parse_data
from tests.components.preprocess.steps import Values, refusal, rows_of, run

DicomWriter = Callable[..., bytes]


class Mimic(Protocol):
    dir: Path

    def values(self, **preprocess: Any) -> Values: ...


class Table(Protocol):
    def values(self, **data: Any) -> Values: ...


class Folder:
    """Writes films with the ids that a test asks for."""

    def __init__(self, path: Path, dicom_bytes: DicomWriter) -> None:
        self.path, self.dicom_bytes = path, dicom_bytes

    def film(self, name: str, *, study: str | None, image: str, patient: str | None = "p", **tags: Any) -> Path:
        stored = np.random.default_rng(len(name)).integers(0, 4096, (20, 30)).astype(np.uint16)
        tags |= {"PatientID": patient, "SOPInstanceUID": f"1.2.{image}"}
        tags |= {} if study is None else {"StudyInstanceUID": f"1.3.{study}"}
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.dicom_bytes(stored, bits_stored=12, **tags))
        return path

    def values(self, **data: Any) -> Values:
        step = {"pixels": {"size": 16}, "num_workers": 0}
        return {"data": {"adapter": "dicom-folder", "dir": str(self.path)} | data, "preprocess": step}


@pytest.fixture
def folder(tmp_path: Path, dicom_bytes: DicomWriter) -> Folder:
    return Folder(tmp_path / "archive", dicom_bytes)


def test_films_of_any_name_become_unlabeled_studies(folder: Folder, tmp_path: Path) -> None:
    folder.film("a/b/c/IM0001", study="1", image="1", ViewPosition="PA", PatientAge="061Y", PatientSex="F")
    folder.film("z.dcm", study="1", image="2", patient=None, ViewPosition="LL")
    folder.film("a/film.dicom", study="2", image="3")
    loaded = run(folder.values(), tmp_path / "root")
    rows = rows_of(loaded)
    assert set(rows) == {hash_id("image", f"1.2.{i}") for i in (1, 2, 3)}
    first, second, third = (rows[hash_id("image", f"1.2.{i}")] for i in (1, 2, 3))
    assert first["study_id"] == second["study_id"] == hash_id("study", "1.3.1") != third["study_id"]
    assert {row["patient_id"] for row in rows.values()} == {hash_id("patient", "p")}
    assert (first["view_position"], first["age_years"], first["sex"], second["view_position"]) == (
        "PA",
        61.0,
        "F",
        "LL",
    )
    assert first["source_hash"] == hash_id("path", "a/b/c/IM0001")
    assert {row["split"] for row in rows.values()} == {"test"}
    assert loaded.manifest.pathologies == PATHOLOGIES
    assert not any(row["labeled"] or row["Edema"] is not None for row in rows.values())
    assert (loaded.manifest.counts["test"].labeled_studies, loaded.manifest.left_out) == (0, {})


def test_a_study_without_patient_is_its_own_patient(folder: Folder, tmp_path: Path) -> None:
    folder.film("1", study="1", image="1", patient=None)
    folder.film("2", study="1", image="2", patient="")
    folder.film("3", study="3", image="3", patient=None)
    folder.film("4", study=None, image="4", patient="q")
    rows = rows_of(run(folder.values(), tmp_path / "root"))
    patients = [rows[hash_id("image", f"1.2.{i}")]["patient_id"] for i in (1, 2, 3, 4)]
    assert patients == [hash_id("patient", name) for name in ("1.3.1", "1.3.1", "1.3.3", "q")]
    assert rows[hash_id("image", "1.2.4")]["study_id"] == hash_id("study", "4")


def test_what_is_no_film_is_counted(folder: Folder, tmp_path: Path, dicom_bytes: DicomWriter) -> None:
    film = folder.film("film", study="1", image="1")
    (folder.path / "copy").write_bytes(film.read_bytes())
    (folder.path / "notes.txt").write_text("Jane Doe, " * 50)
    (folder.path / "empty.dcm").touch()
    report = pydicom.dcmread(film)
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(report, keyword)
    report.SOPInstanceUID, report.Modality = "1.2.9", "SR"
    report.save_as(folder.path / "report.dcm")
    del report.SOPInstanceUID
    report.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    report.save_as(folder.path / "DICOMDIR")
    loaded = run(folder.values(), tmp_path / "root")
    assert len(rows_of(loaded)) == 1
    assert loaded.manifest.left_out == {
        "DICOM objects without an image": 2, "files that are no DICOM": 2, "copies of a film": 1
    }  # fmt: skip
    assert loaded.manifest.num_rejects == 0


def test_damaged_films_are_rejected_not_lost(folder: Folder, tmp_path: Path) -> None:
    folder.film("a", study="1", image="1")
    whole = folder.film("b", study="1", image="2")
    whole.write_bytes(whole.read_bytes()[:-100])
    (folder.path / "c").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\0\0\0" + b"\xff" * 200)
    values = folder.values()
    values["preprocess"]["max_reject_fraction"] = 0.9
    loaded = run(values, tmp_path / "root")
    rejects = {row["image_id"]: row["code"] for row in read_rejects(loaded).to_pylist()}
    assert rejects[hash_id("image", "1.2.2")] == "truncated"
    assert set(rejects) == {hash_id("image", "1.2.2"), hash_id("image", "c")}


def test_a_header_longer_than_the_start_that_is_read(folder: Folder, tmp_path: Path) -> None:
    path = folder.film("a", study="1", image="1")
    dataset = pydicom.dcmread(path)
    for length in (200_000, 1_200_000, 5_000_000):
        dataset.add_new(0x00111010, "UN", b"x" * length)
        dataset.save_as(path)
        rows = rows_of(run(folder.values(), tmp_path / f"root{length}"), by="study_id")
        assert {study: row["patient_id"] for study, row in rows.items()} == {
            hash_id("study", "1.3.1"): hash_id("patient", "p")
        }


def test_a_disk_that_fails_once_makes_no_patient_of_his_own(
    folder: Folder, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The film is of a patient who tests: unlabeled, it must not be trained on."""
    labeled = rows_of(run(table.values(), tmp_path / "alone"))
    (tester, *_) = (i for i in range(10) if labeled[hash_id("image", f"f{i}.png")]["split"] == "test")
    folder.film("1", study="1", image="1", patient=f"pat{tester}")
    folder.film("2", study="2", image="2", patient="another")
    values = table.values(unlabeled=[{"dir": str(folder.path)}])
    read, failed = LocalStorage.read_range, []

    def stale_once(self: LocalStorage, name: str, start: int, num_bytes: int) -> bytes:
        if name == "1" and not failed:
            failed.append(name)
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(self, name, start, num_bytes)

    monkeypatch.setattr(LocalStorage, "read_range", stale_once)
    assert f"cannot read films: {folder.path}; found Stale file handle. Check the disk" in refusal(
        values, tmp_path / "root"
    )
    loaded = run(values, tmp_path / "root")
    assert set(rows_of(loaded)) - set(labeled) == {hash_id("image", "1.2.2")}
    assert loaded.manifest.left_out == {"unlabeled studies of patients who validate or test": 1}


def test_a_file_name_that_is_not_utf8(folder: Folder, tmp_path: Path) -> None:
    name = os.fsdecode(b"M\xfcller.dcm")
    folder.film(name, study=None, image="1")
    (row,) = rows_of(run(folder.values(), tmp_path / "root")).values()
    assert (row["study_id"], row["source_hash"]) == (hash_id("study", name), hash_id("path", name))


def test_chosen_pathologies_and_splits_by_patient(folder: Folder, tmp_path: Path) -> None:
    for i in range(60):
        folder.film(f"{i}", study=f"{i}", image=f"{i}", patient=f"p{i // 2}")
    loaded = run(folder.values(split="hash", pathologies=["Edema"]), tmp_path / "root")
    split_of: dict[str, set[str]] = {}
    for row in rows_of(loaded).values():
        split_of.setdefault(row["patient_id"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in split_of.values())
    assert loaded.manifest.counts["train"].studies > loaded.manifest.counts["test"].studies > 0
    assert loaded.manifest.pathologies == ("Edema",)


def test_in_a_bucket_only_the_starts_are_read_to_plan(
    folder: Folder, tmp_path: Path, gcs_bucket: str, gcs_requests: list[tuple[str, str | None]]
) -> None:
    for i in range(4):
        path = folder.film(f"s/{i}", study=f"{i // 2}", image=f"{i}")
        path.write_bytes(path.read_bytes() + b"\0" * 100_000)
    (folder.path / "big.zip").write_bytes(b"PK" + b"\1" * 200_000)
    local = run(folder.values(), tmp_path / "local")
    open_storage(f"{gcs_bucket}/archive").upload_folder(folder.path)
    cloud = run(folder.values(dir=f"{gcs_bucket}/archive"), tmp_path / "cloud")
    assert rows_of(cloud) == rows_of(local)
    downloads = [(path, what) for path, what in gcs_requests if "big.zip" in path]
    assert downloads
    assert {what for _, what in downloads} == {"bytes=0-65535"}


def test_refusals(folder: Folder, tmp_path: Path) -> None:
    assert "folder has no films" in (message := refusal(folder.values(), tmp_path / "root"))
    assert "found no file" in message
    folder.path.mkdir()
    (folder.path / "notes.txt").write_text("x" * 200)
    assert "found 1 files that are no DICOM" in refusal(folder.values(), tmp_path / "root")
    folder.film("1", study="1", image="1", patient="19999999")
    folder.film("2", study="1", image="2", patient="18888888")
    message = refusal(folder.values(), tmp_path / "root")
    assert f"a study has two patients: {folder.path}; found study {hash_id('study', '1.3.1')}" in message
    assert "1999" not in message


def test_unlabeled_films_beside_a_table(folder: Folder, table: Table, tmp_path: Path) -> None:
    """In training alone, with blank labels; neither a study twice nor a patient who is held out."""
    folder.film("1", study="1", image="1", patient="somebody")
    folder.film("2", study="2", image="2", patient="pat1")
    folder.film("3", study="3", image="3", patient="pat9")
    labeled = rows_of(run(table.values(), tmp_path / "alone"))
    train = {row["patient_id"] for row in labeled.values() if row["split"] == "train"}
    expected = {"1"} | ({"2"} if hash_id("patient", "pat1") in train else set())
    loaded = run(table.values(unlabeled=[{"dir": str(folder.path)}]), tmp_path / "root")
    rows = rows_of(loaded)
    added = {image: row for image, row in rows.items() if image not in labeled}
    assert {image: row for image, row in rows.items() if image in labeled} == labeled
    assert set(added) == {hash_id("image", f"1.2.{i}") for i in expected}
    assert all(row["split"] == "train" and not row["labeled"] and row["Edema"] is None for row in added.values())
    assert loaded.manifest.left_out == {"unlabeled studies of patients who validate or test": 3 - len(expected)}
    again = run(table.values(unlabeled=[{"dir": str(folder.path)}]), tmp_path / "root")
    assert again.hash == loaded.hash
    folder.film("4", study="4", image="4", patient="another")
    assert run(table.values(unlabeled=[{"dir": str(folder.path)}]), tmp_path / "root").storage.uri != loaded.storage.uri


def test_unlabeled_films_of_several_folders(folder: Folder, table: Table, tmp_path: Path) -> None:
    """A study that two of them hold counts once, and each is compared with the table alone."""
    folder.film("1", study="1", image="1", patient="PATIENT-1")
    other = Folder(tmp_path / "other", folder.dicom_bytes)
    other.film("1", study="1", image="1", patient="PATIENT-1")
    other.film("2", study="2", image="2", patient="PATIENT-1")
    values = table.values(unlabeled=[{"dir": str(folder.path)}, {"dir": str(other.path)}])
    loaded = run(values, tmp_path / "root")
    labeled = rows_of(run(table.values(), tmp_path / "alone"))
    assert set(rows_of(loaded)) - set(labeled) == {hash_id("image", "1.2.1"), hash_id("image", "1.2.2")}
    assert loaded.manifest.left_out == {"unlabeled studies that are there already": 1}
    assert [
        str(place) in warning for place, warning in zip((folder.path, other.path), warnings_of(values), strict=True)
    ]


def test_unlabeled_films_beside_mimic(mimic: Mimic, folder: Folder, tmp_path: Path) -> None:
    folder.film("1", study="1", image="1", patient="10000000", PatientSex="F")
    values = mimic.values(num_workers=2)
    values["data"]["unlabeled"] = [{"dir": str(folder.path)}]
    rows = rows_of(run(values, tmp_path / "root"))
    assert len(rows) == 19
    row = rows[hash_id("image", "1.2.1")]
    assert (row["split"], row["labeled"], row["sex"], row["text_indication"]) == ("train", False, "F", None)


def test_unlabeled_films_of_patients_who_are_named_otherwise_are_warned_about(folder: Folder, table: Table) -> None:
    folder.film("1", study="1", image="1", patient="PATIENT-1")
    values = table.values(unlabeled=[{"dir": str(folder.path)}])
    assert any("no patient of the table" in warning for warning in warnings_of(values))
    folder.film("2", study="2", image="2", patient="pat1")
    assert warnings_of(values) == ()


def warnings_of(values: Values) -> tuple[str, ...]:
    return read_source(parse_data(values["data"]), key=IdKey(None)).warnings
