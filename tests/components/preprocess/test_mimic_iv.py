"""Age, sex, race and insurance of MIMIC-IV: for each study those of its day, or nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from components.cxr.errors import UserError
from components.cxr.ids import hash_id
from components.cxr.storage.storage import open_storage
from components.preprocess.adapters.mimic_iv import NOBODY, Person, read_mimic_iv
from tests.components.preprocess.conftest import write_csv
from tests.components.preprocess.steps import Values, edit, edit_rows, refusal, rows_of, run


class Mimic(Protocol):
    dir: Path

    def values(self, **preprocess: Any) -> Values: ...


METADATA = "mimic-cxr-2.0.0-metadata.csv.gz"
PATIENTS = [["10000000", "F", "60", "2150"], ["10000001", "M", "91", "2160"], ["10000002", "", "18", "2160"]]
ADMISSIONS = [
    ["10000000", "3", "2152-01-31 10:00:00", "", "Private"],
    ["10000000", "1", "2140-05-06 22:23:00", "WHITE", "Medicare"],
    ["10000000", "2", "2150-02-01 00:00:00", "ASIAN", ""],
    ["10000007", "4", "2150-01-01 00:00:00", "UNKNOWN", "Other"],
    ["19999999", "5", "a note", "", ""],
]


def write_iv(
    folder: Path, patients: Sequence[Sequence[str]] = PATIENTS, admissions: Sequence[Sequence[str]] = ADMISSIONS
) -> Path:
    write_csv(folder / "hosp" / "patients.csv.gz", ["subject_id", "gender", "anchor_age", "anchor_year"], patients)
    header = ["subject_id", "hadm_id", "admittime", "race", "insurance"]
    write_csv(folder / "hosp" / "admissions.csv", header, admissions)
    return folder


@pytest.fixture
def values(mimic: Mimic, tmp_path: Path) -> Values:
    """The tiny MIMIC-CXR with study dates, and MIMIC-IV in another folder."""
    days = {"50000000": "21510315", "50000001": "21650101", "50000007": ""}
    edit_rows(mimic.dir / METADATA, lambda row: row | {"StudyDate": days.get(row["study_id"], "21600101")})
    values = mimic.values()
    values["data"]["mimic_iv_dir"] = str(write_iv(tmp_path / "iv"))
    return values


@pytest.mark.parametrize(
    ("patient", "date", "expected"),
    [
        ("10000000", "21510315", Person(61.0, "F", "ASIAN", "Medicare")),
        ("10000000", "21520131", Person(62.0, "F", "ASIAN", "Private")),
        ("10000000", "21490101", Person(59.0, "F", "WHITE", "Medicare")),
        ("10000000", "21400505", Person(50.0, "F", "WHITE", "Medicare")),
        ("10000000", "", Person(None, "F", "WHITE", "Medicare")),
        ("10000001", "21650101", Person(96.0, "M", None, None)),
        ("10000002", "21000101", Person(None, None, None, None)),
        ("10000007", "21000101", Person(None, None, "UNKNOWN", "Other")),
        ("10000009", "21000101", NOBODY),
    ],
)
def test_a_patient_on_a_day(tmp_path: Path, patient: str, date: str, expected: Person) -> None:
    """The last admission by that day counts first, then those before it, then the first after it."""
    known = {"10000000", "10000001", "10000002", "10000007", "10000009"}
    people = read_mimic_iv(open_storage(write_iv(tmp_path)), patients=known)
    assert people.at(patient, date) == expected


def test_shards_hold_them_and_null_elsewhere(values: Values, tmp_path: Path) -> None:
    rows = rows_of(run(values, tmp_path / "root"), by="study_id")
    names = ("age_years", "sex", "race", "insurance")
    found = {study: tuple(rows[hash_id("study", study)][name] for name in names) for study in ("50000000", "50000001")}
    assert found == {"50000000": (61.0, "F", "ASIAN", "Medicare"), "50000001": (96.0, "M", None, None)}
    others = rows[hash_id("study", "50000003")]  # not in MIMIC-IV: age and sex of the film's header
    assert tuple(others[name] for name in names) == (43.0, "M", None, None)
    undated = rows[hash_id("study", "50000007")]
    assert (undated["race"], undated["insurance"]) == ("UNKNOWN", "Other")


def test_without_it_there_is_no_race(mimic: Mimic, tmp_path: Path) -> None:
    rows = rows_of(run(mimic.values(), tmp_path / "root")).values()
    assert {(row["race"], row["insurance"]) for row in rows} == {(None, None)}


def test_its_tables_are_part_of_the_source(values: Values, tmp_path: Path) -> None:
    first = run(values, tmp_path / "root").manifest.source_hash
    edit(tmp_path / "iv" / "hosp" / "admissions.csv", "WHITE", "OTHER")
    assert run(values, tmp_path / "root").manifest.source_hash != first


def test_it_may_lie_in_a_bucket(values: Values, tmp_path: Path, gcs_bucket: str) -> None:
    local = run(values, tmp_path / "local")
    open_storage(f"{gcs_bucket}/iv").upload_folder(tmp_path / "iv")
    values["data"]["mimic_iv_dir"] = f"{gcs_bucket}/iv"
    assert rows_of(run(values, tmp_path / "cloud")) == rows_of(local)


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("iv/hosp/patients.csv.gz", ",60,", ",sixty,", r"bad number: .*patients.csv.gz line 2 column anchor_age"),
        ("iv/hosp/patients.csv.gz", "2150", "", r"bad number: .*line 2 column anchor_year; found nothing"),
        ("iv/hosp/patients.csv.gz", "10000001", "10000000", r"patient is listed twice: .*lines 2 and 3 column"),
        ("iv/hosp/patients.csv.gz", "gender", "sex", r"lacks a column: .*expected gender"),
        ("iv/hosp/admissions.csv", "2140-05-06", "6 May 40", r"bad date: .*admissions.csv line 3 column admittime"),
        ("iv/hosp/admissions.csv", "race", "ethnicity", r"lacks a column: .*expected race"),
        (f"mimic/{METADATA}", "21510315", "15.3.51", r"bad date: .*metadata.csv.gz line 2 column StudyDate"),
    ],
)
def test_bad_tables(values: Values, tmp_path: Path, table: str, old: str, new: str, message: str) -> None:
    edit(tmp_path / table, old, new)
    found = refusal(values, tmp_path / "root")
    assert re.search(message, found), found
    assert "10000000" not in found
    assert "6 May" not in found


def test_missing_tables(values: Values, tmp_path: Path) -> None:
    (tmp_path / "mimic" / METADATA).unlink()
    assert "mimic-cxr-2.*-metadata.csv.gz" in refusal(values, tmp_path / "root")
    (tmp_path / "iv" / "hosp" / "admissions.csv").unlink()
    assert "table is missing" in (message := refusal(values, tmp_path / "root"))
    assert "iv/hosp/admissions.csv.gz" in message


def test_its_patients_are_found_with_the_letter_of_their_folder(values: Values, tmp_path: Path) -> None:
    plain = rows_of(run(values, tmp_path / "plain"))
    for table in ("patients.csv.gz", "admissions.csv"):
        edit(tmp_path / "iv" / "hosp" / table, "10000000", "p10000000")
    assert rows_of(run(values, tmp_path / "root")) == plain


def test_few_patients_are_warned_about_and_none_refused(tmp_path: Path) -> None:
    storage = open_storage(write_iv(tmp_path))
    strangers = {f"2000000{i}" for i in range(4)}
    assert read_mimic_iv(storage, patients={"10000000", "10000001", "20000000"}).warning is None
    warning = read_mimic_iv(storage, patients={"10000000", *strangers}).warning
    assert warning is not None
    assert "under half of the patients match" in warning
    assert "found 1 of 5 patients, ids like 99999999" in warning
    with pytest.raises(UserError, match="no patients match"):
        read_mimic_iv(storage, patients=strangers)
