"""A whole small data set: bytes, DICOM attributes, tables, labels and splits."""

import csv
import gzip
import hashlib
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pydicom
import pytest

from components.cxr.errors import UserError
from components.cxr.labels import PATHOLOGIES
from pipeline.synthetic import Settings, generate
from pipeline.synthetic.tables.tables import TABLES

NUM_STUDIES, SIZE, SETTINGS = 12, 96, Settings(seed=3)


def _tree_hash(out: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(out)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _rows(out: Path, name: str) -> list[dict[str, str]]:
    with gzip.open(out / f"{name}.csv.gz", "rt", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "mimic"
    generate(out, num_studies=NUM_STUDIES, settings=SETTINGS, size=SIZE)
    return out


def test_same_seed_gives_the_same_bytes_on_any_number_of_processes(data: Path, tmp_path: Path) -> None:
    generate(tmp_path / "again", num_studies=NUM_STUDIES, settings=SETTINGS, size=SIZE, num_jobs=2)
    assert _tree_hash(tmp_path / "again") == _tree_hash(data)


def test_another_seed_gives_other_films_and_reports(data: Path, tmp_path: Path) -> None:
    generate(tmp_path / "other", num_studies=2, settings=Settings(seed=4), size=SIZE)
    names = {path.name for path in data.rglob("*.dcm")} | {path.name for path in data.rglob("s*.txt")}
    assert not names & {path.name for path in (tmp_path / "other").rglob("*") if path.suffix in (".dcm", ".txt")}
    pixels = {pydicom.dcmread(path).PixelData for path in data.rglob("*.dcm")}
    assert not pixels & {pydicom.dcmread(path).PixelData for path in (tmp_path / "other").rglob("*.dcm")}


def test_films_are_12_bit_dicoms_as_stated(data: Path) -> None:
    meta = {row["dicom_id"]: row for row in _rows(data, "mimic-cxr-2.0.0-metadata")}
    for path in data.rglob("*.dcm"):
        film = pydicom.dcmread(path)  # a warning would be an error
        row = meta[path.stem]
        assert film.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
        assert (film.Modality, film.SOPClassUID.name) in {
            ("CR", "Computed Radiography Image Storage"),
            ("DX", "Digital X-Ray Image Storage - For Presentation"),
        }
        assert (film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation) == (16, 12, 11, 0)
        assert film.PhotometricInterpretation in ("MONOCHROME1", "MONOCHROME2")
        assert film.BurnedInAnnotation == "NO"
        assert film.PatientSex in ("F", "M")
        assert film.PatientAge.endswith("Y")
        assert 18 <= int(film.PatientAge[:3]) <= 91
        assert film.ViewPosition == row["ViewPosition"]
        assert film.ViewCodeSequence[0].CodeMeaning == row["ViewCodeSequence_CodeMeaning"]
        assert (str(film.Rows), str(film.Columns)) == (row["Rows"], row["Columns"])
        assert max(film.Rows, film.Columns) == SIZE
        assert (film.PatientID, film.StudyID) == (row["subject_id"], row["study_id"])
        pixels = film.pixel_array
        assert pixels.dtype == np.uint16
        assert 1000 < int(pixels.max()) - int(pixels.min()) <= 4095


def test_tables_have_the_real_columns_and_agree_with_the_files(data: Path) -> None:
    for name, columns in TABLES.items():
        with gzip.open(data / f"{name}.csv.gz", "rt") as file:
            assert file.readline().strip().split(",") == list(columns)
    films = {str(path.relative_to(data)) for path in data.rglob("*.dcm")}
    records, studies = _rows(data, "cxr-record-list"), _rows(data, "cxr-study-list")
    assert {row["path"] for row in records} == films
    assert len(studies) == NUM_STUDIES
    reports = {str(path.relative_to(data)) for path in data.rglob("files/**/s*.txt")}
    assert reports <= {row["path"] for row in studies}
    ids = {row["dicom_id"] for row in records}
    for name in ("mimic-cxr-2.0.0-metadata", "mimic-cxr-2.0.0-split"):
        assert {row["dicom_id"] for row in _rows(data, name)} == ids
    for row in records:
        subject, study, dicom_id = row["subject_id"], row["study_id"], row["dicom_id"]
        assert row["path"] == f"files/p{subject[:2]}/p{subject}/s{study}/{dicom_id}.dcm"
        assert (len(subject), subject[0], len(study), study[0]) == (8, "1", 8, "5")
        assert [len(group) for group in dicom_id.split("-")] == [8] * 5


def test_every_patient_is_in_one_split(data: Path) -> None:
    splits = defaultdict(set)
    for row in _rows(data, "mimic-cxr-2.0.0-split"):
        splits[row["subject_id"]].add(row["split"])
    assert all(len(names) == 1 for names in splits.values())
    assert set.union(*splits.values()) == {"train", "validate", "test"}


def test_labels_are_states_and_no_finding_stands_alone(data: Path) -> None:
    rows = _rows(data, "mimic-cxr-2.0.0-chexpert")
    assert {row[name] for row in rows for name in PATHOLOGIES} <= {"1.0", "0.0", "-1.0", ""}
    for row in rows:
        abnormal = any(row[name] in ("1.0", "-1.0") for name in PATHOLOGIES[1:-1])
        assert row["No Finding"] in (("",) if abnormal else ("1.0", ""))
    assert any(row["No Finding"] == "1.0" for row in rows)


def test_truth_is_binary_and_complete(data: Path) -> None:
    with (data / "truth.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["study_id"] for row in rows} == {row["study_id"] for row in _rows(data, "cxr-study-list")}
    assert {row[name] for row in rows for name in PATHOLOGIES} == {"0", "1"}


def test_finished_data_is_kept(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    generate(data, num_studies=NUM_STUDIES, settings=SETTINGS, size=SIZE)
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before
    assert "already holds" in capsys.readouterr().out


def test_other_data_is_refused_and_left_alone(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="another synthetic data set") as error:
        generate(data, num_studies=NUM_STUDIES, settings=Settings(seed=4), size=SIZE)
    assert "seed=3" in str(error.value)
    assert "seed=4" in str(error.value)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not empty"):
        generate(tmp_path, num_studies=1, settings=SETTINGS, size=SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_interrupted_data_is_made_again(tmp_path: Path) -> None:
    whole, half = tmp_path / "whole", tmp_path / "half"
    generate(whole, num_studies=1, settings=Settings(seed=5), size=SIZE)
    generate(half, num_studies=2, settings=Settings(seed=6), size=SIZE)
    (half / "synthetic.json").unlink()
    (half / "synthetic.started").touch()
    generate(half, num_studies=1, settings=Settings(seed=5), size=SIZE)
    assert _tree_hash(half) == _tree_hash(whole)
    assert json.loads((half / "synthetic.json").read_text())["seed"] == 5


def test_numbers_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="studies; found 0"):
        generate(tmp_path / "none", num_studies=0)
    assert not (tmp_path / "none").exists()
