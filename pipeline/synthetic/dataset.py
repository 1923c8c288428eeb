"""Generates a whole data set: truth, reports, labels, splits, films, tables; the command line and demo call it."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from components.cxr.errors import UserError
from components.cxr.labels import PATHOLOGIES
from components.cxr.progress import track
from pipeline.synthetic import tables
from pipeline.synthetic.contact_sheet import draw_contact_sheet
from pipeline.synthetic.dicoms import ImageRecord, describe_image, write_dicom
from pipeline.synthetic.films import render_film
from pipeline.synthetic.keys import Stream, generator
from pipeline.synthetic.patients import draw_patient, draw_patients
from pipeline.synthetic.reading import Reading, labels_of, read_studies
from pipeline.synthetic.reports import write_report
from pipeline.synthetic.splits import split_patients
from pipeline.synthetic.studies import draw_studies

__all__ = ["CONTACT_SHEET", "Labels", "draw_readings", "generate", "read_labels"]

VERSION = 1
"""Raise it with every change of the bytes that a seed gives."""
CONTACT_SHEET = "contact_sheet.png"
_DONE, _STARTED = "synthetic.json", "synthetic.started"
_NO_LABELS, _NO_REPORT = 0.012, 0.008
"""Shares of studies without a row of labels, and without a report (hence without labels)."""

Labels = dict[tuple[int, int], tuple[int | None, ...]]
"""(subject_id, study_id) to the 14 label states; None is blank."""


@dataclass(frozen=True, kw_only=True)
class _PatientTask:
    """All films of one patient, to be drawn by one worker."""

    seed: int
    index: int
    num_studies: int
    size: int
    out: Path


def generate(out: Path, *, num_studies: int, seed: int, size: int = 512, num_jobs: int = 1) -> None:
    """Write a synthetic MIMIC-CXR under `out`; the same arguments give the same bytes, whatever `num_jobs`.

    A finished data set of the same arguments is kept; one that was interrupted is made again.

    Args:
        size: long side of the films in pixels, 64 or more.
        num_jobs: worker processes.

    Raises:
        UserError: `out` holds something else, or an argument is out of range.
    """
    arguments = {"version": VERSION, "num_studies": num_studies, "seed": seed, "size": size}
    limits = (("studies", num_studies, 1), ("seed", seed, 0), ("size", size, 64), ("jobs", num_jobs, 1))
    for name, value, least in limits:
        if value < least:
            raise UserError("number out of range", where=name, found=value, expected=f"{least} or more")
    if _is_done(out, arguments):
        print(f"synthetic: {out} already holds this data set; kept")
        return
    (out / _STARTED).touch()
    readings = draw_readings(num_studies, seed=seed)
    labels = read_labels(readings)
    _write_reports(out, readings)
    records = _render_films(out, readings, size=size, num_jobs=num_jobs)
    _write_tables(out, readings, labels, records)
    draw_contact_sheet(out / CONTACT_SHEET, [r.study for patient in readings for r in patient], size=size)
    (out / _DONE).write_text(json.dumps(arguments, indent=1) + "\n")
    (out / _STARTED).unlink()


def draw_readings(num_studies: int, *, seed: int) -> list[tuple[Reading, ...]]:
    """Patients, the truth of their studies and what a reader says of it; one tuple a patient. Draws no film."""
    return [read_studies(draw_studies(patient, taken)) for patient, taken in draw_patients(num_studies, seed=seed)]


def read_labels(readings: list[tuple[Reading, ...]]) -> Labels:
    """The label table; a few studies have no row."""
    return {
        (r.study.patient.subject_id, r.study.study_id): labels_of(r)
        for patient in readings
        for r in patient
        if _gap(r) >= _NO_LABELS + _NO_REPORT
    }


def _gap(reading: Reading) -> float:
    """A uniform number that decides whether the study lacks its report or labels."""
    study = reading.study
    return float(generator(study.patient.seed, Stream.GAPS, study.patient.index, study.index).random())


def _is_done(out: Path, arguments: dict[str, int]) -> bool:
    """Whether the data set is there; otherwise make `out` an empty folder of ours or refuse."""
    out.mkdir(parents=True, exist_ok=True)
    if (out / _DONE).exists():
        found = json.loads((out / _DONE).read_text())
        if found == arguments:
            (out / _STARTED).unlink(missing_ok=True)
            return True
        raise UserError(
            "another synthetic data set is here",
            where=out,
            found=_words(found),
            expected=_words(arguments),
            remedy="Give another folder, or remove this one.",
        )
    if (out / _STARTED).exists():
        shutil.rmtree(out / "files", ignore_errors=True)
        for name in (*(f"{table}.csv.gz" for table in tables.TABLES), "truth.csv", CONTACT_SHEET):
            (out / name).unlink(missing_ok=True)
    elif any(out.iterdir()):
        raise UserError(
            "the folder is not empty",
            where=out,
            found=f"{sum(1 for _ in out.iterdir())} entries that are no synthetic data set",
            expected="an empty or new folder",
            remedy="Give another folder.",
        )
    return False


def _words(arguments: dict[str, int]) -> str:
    return " ".join(f"{name}={value}" for name, value in arguments.items())


def _write_reports(out: Path, readings: list[tuple[Reading, ...]]) -> None:
    for patient in readings:
        for reading in patient:
            study = reading.study
            path = out / tables.report_path(study.patient.subject_id, study.study_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            if _gap(reading) >= _NO_REPORT:
                path.write_text(write_report(reading))


def _render_films(out: Path, readings: list[tuple[Reading, ...]], *, size: int, num_jobs: int) -> list[ImageRecord]:
    tasks = [
        _PatientTask(seed=patient.seed, index=patient.index, num_studies=num_studies, size=size, out=out)
        for patient, num_studies in ((readings_of[0].study.patient, len(readings_of)) for readings_of in readings)
    ]
    num_films = sum(len(reading.study.views) for patient in readings for reading in patient)
    done = track(_run(tasks, num_jobs=num_jobs), total=num_films, what="synthetic", unit="films", size=len)
    return [record for records in done for record in records]


def _run(tasks: list[_PatientTask], *, num_jobs: int) -> Iterator[list[ImageRecord]]:
    if num_jobs == 1:
        yield from map(_render_patient, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_jobs, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        yield from pool.map(_render_patient, tasks, chunksize=4)


def _render_patient(task: _PatientTask) -> list[ImageRecord]:
    """Draw and write a patient's films; runs in a worker, which draws the patient anew from the seed."""
    records = []
    for study in draw_studies(draw_patient(task.index, seed=task.seed), task.num_studies):
        for image in range(len(study.views)):
            film = render_film(study, image, size=task.size)
            record = describe_image(study, image, rows=film.pixels.shape[0], columns=film.pixels.shape[1])
            path = task.out / tables.film_path(record.subject_id, record.study_id, record.dicom_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_dicom(path, film, record, study, image)
            records.append(record)
    return records


def _write_tables(out: Path, readings: list[tuple[Reading, ...]], labels: Labels, records: list[ImageRecord]) -> None:
    studies = [[r.study for r in patient] for patient in readings]
    subjects = [patient[0].patient.subject_id for patient in studies]
    positives = np.zeros((len(subjects), len(PATHOLOGIES)), dtype=np.int64)
    row_of = {subject: row for row, subject in enumerate(subjects)}
    for (subject, _), states in labels.items():
        positives[row_of[subject]] += [state == 1 for state in states]
    split_of = dict(zip(subjects, split_patients(positives), strict=True))
    tables.write_image_tables(out, records, split_of=split_of)
    tables.write_study_list(out, ((s.patient.subject_id, s.study_id) for patient in studies for s in patient))
    tables.write_label_table(out, labels)
    tables.write_truth(out, {s.study_id: s.truth for patient in studies for s in patient})
