"""Writes MIMIC-CXR's tables (and the truth, for evaluation of the generator only) with their real columns."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from components.cxr.labels import PATHOLOGIES
from pipeline.synthetic.films.dicoms import ImageRecord
from pipeline.synthetic.rates import PUBLISHED, PUBLISHED_STUDIES

__all__ = [
    "TABLES", "film_path", "label_rates", "report_path", "write_image_tables", "write_label_table", "write_study_list",
    "write_truth",
]  # fmt: skip

TABLES = {
    "cxr-record-list": ("subject_id", "study_id", "dicom_id", "path"),
    "cxr-study-list": ("subject_id", "study_id", "path"),
    "mimic-cxr-2.0.0-metadata": (
        "dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns",
        "StudyDate", "StudyTime", "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning",
        "PatientOrientationCodeSequence_CodeMeaning",
    ),
    "mimic-cxr-2.0.0-split": ("dicom_id", "study_id", "subject_id", "split"),
    "mimic-cxr-2.0.0-chexpert": ("subject_id", "study_id", *PATHOLOGIES),
}  # fmt: skip
"""Name (a file `<name>.csv.gz`) to columns."""


def report_path(subject_id: int, study_id: int) -> str:
    """Path of a report under the data set's root."""
    return f"files/p{str(subject_id)[:2]}/p{subject_id}/s{study_id}.txt"


def film_path(subject_id: int, study_id: int, dicom_id: str) -> str:
    """Path of a film under the data set's root."""
    return f"files/p{str(subject_id)[:2]}/p{subject_id}/s{study_id}/{dicom_id}.dcm"


def write_image_tables(out: Path, records: Sequence[ImageRecord], *, split_of: Mapping[int, str]) -> None:
    """The record list, the metadata and the split; `split_of` is keyed by subject_id."""
    ordered = sorted(records, key=lambda record: (record.subject_id, record.study_id, record.dicom_id))
    ids = [(r.subject_id, r.study_id, r.dicom_id) for r in ordered]
    described = (
        (r.dicom_id, r.subject_id, r.study_id, r.procedure_step, r.view_position, r.rows, r.columns, r.study_date,
         r.study_time, r.procedure, r.view_code, r.orientation)
        for r in ordered
    )  # fmt: skip
    _write(out, "cxr-record-list", ((*each, film_path(*each)) for each in ids))
    _write(out, "mimic-cxr-2.0.0-metadata", described)
    _write(out, "mimic-cxr-2.0.0-split", ((image, study, who, split_of[who]) for who, study, image in ids))


def write_study_list(out: Path, studies: Iterable[tuple[int, int]]) -> None:
    """The study list from pairs of subject_id and study_id."""
    _write(out, "cxr-study-list", ((subject, study, report_path(subject, study)) for subject, study in sorted(studies)))


def write_label_table(out: Path, labels: Mapping[tuple[int, int], Sequence[int | None]]) -> None:
    """The CheXpert table: 1.0, 0.0, -1.0 or empty, keyed by subject_id and study_id."""
    rows = ((*key, *("" if state is None else f"{state:.1f}" for state in labels[key])) for key in sorted(labels))
    _write(out, "mimic-cxr-2.0.0-chexpert", rows)


def write_truth(out: Path, truth: Mapping[int, Sequence[int]]) -> None:
    """`truth.csv`: study_id and what is truly there, 1 or 0; no step may read it."""
    (out / "truth.csv").write_text(_csv(("study_id", *PATHOLOGIES), ((key, *truth[key]) for key in sorted(truth))))


def label_rates(labels: Iterable[Sequence[int | None]]) -> list[tuple[str, list[float], list[float]]]:
    """For each pathology: the shares of 1, 0, -1 and blank here, and those published for MIMIC-CXR."""
    rows = list(labels)
    rates = []
    for column, pathology in enumerate(PATHOLOGIES):
        here = [sum(row[column] == state for row in rows) / max(len(rows), 1) for state in (1, 0, -1, None)]
        published = [count / PUBLISHED_STUDIES for count in PUBLISHED[pathology]]
        rates.append((pathology, here, [*published, 1 - sum(published)]))
    return rates


def _write(out: Path, name: str, rows: Iterable[Sequence[object]]) -> None:
    (out / f"{name}.csv.gz").write_bytes(gzip.compress(_csv(TABLES[name], rows).encode(), mtime=0))


def _csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
