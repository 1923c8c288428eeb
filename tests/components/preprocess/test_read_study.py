"""One study of a source becomes its rows: which of two places that say something counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.cxr.films.isolated import FilmReader
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.ids import IdKey
from components.cxr.storage.storage import open_storage
from components.preprocess.read_study import StudyReader, StudyRows, read_sections
from components.preprocess.records import FilmRef, SourceStudy
from tests.conftest import DicomWriter


def _study(**changes: Any) -> SourceStudy:
    values: dict[str, Any] = {
        "study_id": "1", "patient_id": "2", "split": "train", "labels": (1,), "labeled": True, "text": {},
        "report": None, "age_years": None, "sex": None,
        "films": (FilmRef(image_id="3", path="film.dcm", exists=True, view_position=None),),
    }  # fmt: skip
    return SourceStudy(**values | changes)


@pytest.fixture
def folder(tmp_path: Path, dicom_bytes: DicomWriter) -> Path:
    """A film of a man of 200 years, by its header."""
    stored = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) % 4096
    film = dicom_bytes(stored, bits_stored=12, ViewPosition="AP", PatientSex="M", PatientAge="200Y")
    (tmp_path / "film.dcm").write_bytes(film)
    return tmp_path


def _rows(study: SourceStudy, folder: Path) -> StudyRows:
    with FilmReader() as reader:
        return StudyReader(
            films=open_storage(str(folder)), pathologies=("Edema",), preset=PixelPreset(size=32), reader=reader,
            ids=IdKey(None), section_reader="strict",
        )(study)  # fmt: skip


def test_tables_count_before_the_films_header(folder: Path) -> None:
    film = FilmRef(image_id="3", path="film.dcm", exists=True, view_position="PA")
    found = _rows(_study(age_years=40.0, sex="F", films=(film,)), folder)
    (row,) = found.rows
    assert (row.age_years, row.sex, row.view_position) == (40.0, "F", "PA")
    assert found.num_bad_ages == 0, "nobody needs the header's age"


def test_where_tables_say_nothing_the_header_counts(folder: Path) -> None:
    found = _rows(_study(), folder)
    (row,) = found.rows
    assert (row.age_years, row.sex, row.view_position) == (None, "M", "AP")
    assert found.num_bad_ages == 1


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
def test_a_report_file_is_read_in_its_own_encoding(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "report.txt").write_bytes("INDICATION: café – fever".encode(encoding))
    study = _study(report="report.txt")
    assert read_sections(study, open_storage(str(tmp_path)), reader="strict") == {"indication": "café – fever"}
