"""Generates a whole data set: truth, reports, labels, splits, films, tables; the command line and demo call it."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from components.cxr.errors import UserError
from components.cxr.progress import track
from pipeline.synthetic.films.contact_sheet import draw_contact_sheet
from pipeline.synthetic.films.dicoms import ImageRecord, describe_image, write_dicom
from pipeline.synthetic.films.films import render_film
from pipeline.synthetic.films.syntaxes import Syntax, check_encoder
from pipeline.synthetic.keys import Stream, generator
from pipeline.synthetic.patients import draw_patient, draw_patients
from pipeline.synthetic.presets import Settings
from pipeline.synthetic.reports.reading import Reading, read_studies
from pipeline.synthetic.reports.reports import write_report
from pipeline.synthetic.studies import draw_studies
from pipeline.synthetic.tables import tables
from pipeline.synthetic.tables.labeler import label_report
from pipeline.synthetic.tables.splits import split_patients

__all__ = ["CONTACT_SHEET", "Drawn", "Labels", "draw_data", "generate"]

CONTACT_SHEET = "contact_sheet.png"
_DONE, _STARTED = "synthetic.json", "synthetic.started"
_NO_LABELS, _NO_REPORT = 0.012, 0.008
"""Shares of studies without a row of labels, and without a report (hence without labels)."""

Key = tuple[int, int]
"""subject_id and study_id."""
Labels = dict[Key, tuple[int | None, ...]]
"""The 14 label states of each labeled study; None is blank."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A data set before its films are drawn."""

    readings: list[tuple[Reading, ...]]
    """One tuple per patient."""
    split_of: dict[int, str]
    """By subject_id."""
    reports: dict[Key, str]
    labels: Labels


@dataclass(frozen=True, kw_only=True)
class _PatientTask:
    """All films of one patient, to be drawn by one worker."""

    settings: Settings
    index: int
    num_studies: int
    size: int
    syntax: Syntax
    out: Path


def generate(
    out: Path,
    *,
    num_studies: int,
    settings: Settings | None = None,
    size: int = 512,
    syntax: Syntax = "explicit-little",
    num_jobs: int = 1,
) -> Drawn:
    """Write a synthetic MIMIC-CXR under `out`; the same arguments give the same bytes, whatever `num_jobs`.

    A finished data set of the same arguments is kept; one that was interrupted is made again.

    Args:
        settings: seed, preset, prevalence and confounding; the defaults when None.
        size: long side of the films in pixels, 64 or more; 3056 gives 3056 x 2544.
        syntax: how the pixels are stored; `mixed` takes each of them in turn.
        num_jobs: worker processes.

    Raises:
        UserError: `out` holds something else, an argument is out of range, or an encoder is not installed.
    """
    settings = settings or Settings()
    _check(settings, num_studies=num_studies, size=size, num_jobs=num_jobs)
    check_encoder(syntax)
    arguments = {"version": settings.rules.version, "num_studies": num_studies, **asdict(settings), "size": size}
    arguments["syntax"] = syntax
    drawn = draw_data(num_studies, settings=settings)
    if _is_done(out, arguments):
        print(f"synthetic: {out} already holds this data set; kept")
        return drawn
    (out / _STARTED).touch()
    _write_reports(out, drawn)
    records = _render_films(out, drawn, size=size, syntax=syntax, num_jobs=num_jobs)
    _write_tables(out, drawn, records)
    draw_contact_sheet(out / CONTACT_SHEET, [r.study for patient in drawn.readings for r in patient])
    (out / _DONE).write_text(json.dumps(arguments, indent=1) + "\n")
    (out / _STARTED).unlink()
    return drawn


def _check(settings: Settings, *, num_studies: int, size: int, num_jobs: int) -> None:
    limits = (("studies", num_studies, 1), ("seed", settings.seed, 0), ("size", size, 64), ("jobs", num_jobs, 1))
    for name, value, least in limits:
        if value < least:
            raise UserError("bad-number", "number out of range", where=name, found=value, expected=f"{least} or more")
    if not 0 <= settings.confounding <= 1:
        raise UserError(
            "bad-number", "number out of range", where="confounding", found=settings.confounding, expected="0 to 1"
        )


def draw_data(num_studies: int, *, settings: Settings) -> Drawn:
    """Everything but films: truth, what a reader says of it, splits by patient, report texts and the labels in them."""
    drawn = [draw_studies(patient, taken) for patient, taken in draw_patients(num_studies, settings=settings)]
    readings = [read_studies(studies) for studies in drawn]
    present = np.array([np.sum([(*r.study.truth, *r.called) for r in patient], axis=0) for patient in readings])
    subjects = [studies[0].patient.subject_id for studies in drawn]
    split_of = dict(zip(subjects, split_patients(present), strict=True))
    reports: dict[Key, str] = {}
    labels: Labels = {}
    for reading in (reading for patient in readings for reading in patient):
        key = (reading.study.patient.subject_id, reading.study.study_id)
        gap = _gap(reading)
        if gap >= _NO_REPORT:
            reports[key] = write_report(reading, held_out=split_of[key[0]] == "test")
        if gap >= _NO_REPORT + _NO_LABELS:
            labels[key] = label_report(reports[key])
    return Drawn(readings=readings, split_of=split_of, reports=reports, labels=labels)


def _gap(reading: Reading) -> float:
    """A uniform number that decides whether the study lacks its report or labels."""
    study = reading.study
    return float(generator(study.patient.seed, Stream.GAPS, study.patient.index, study.index).random())


def _is_done(out: Path, arguments: dict[str, object]) -> bool:
    """Whether the data set is there; otherwise make `out` an empty folder of ours or refuse."""
    out.mkdir(parents=True, exist_ok=True)
    if (out / _DONE).exists():
        found = json.loads((out / _DONE).read_text())
        if found == arguments:
            (out / _STARTED).unlink(missing_ok=True)
            return True
        raise UserError(
            "other-data-set",
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
            "folder-not-empty",
            "the folder is not empty",
            where=out,
            found=f"{sum(1 for _ in out.iterdir())} entries that are no synthetic data set",
            expected="an empty or new folder",
            remedy="Give another folder.",
        )
    return False


def _words(arguments: dict[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in arguments.items())


def _write_reports(out: Path, drawn: Drawn) -> None:
    for patient in drawn.readings:
        for reading in patient:
            key = (reading.study.patient.subject_id, reading.study.study_id)
            path = out / tables.report_path(*key)
            path.parent.mkdir(parents=True, exist_ok=True)
            if key in drawn.reports:
                path.write_text(drawn.reports[key])


def _render_films(out: Path, drawn: Drawn, *, size: int, syntax: Syntax, num_jobs: int) -> list[ImageRecord]:
    tasks = [
        _PatientTask(
            settings=readings[0].study.patient.settings,
            index=readings[0].study.patient.index,
            num_studies=len(readings),
            size=size,
            syntax=syntax,
            out=out,
        )
        for readings in drawn.readings
    ]
    num_films = sum(len(reading.study.views) for patient in drawn.readings for reading in patient)
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
    for study in draw_studies(draw_patient(task.index, settings=task.settings), task.num_studies):
        for image in range(len(study.views)):
            film = render_film(study, image, size=task.size)
            record = describe_image(study, image, rows=film.pixels.shape[0], columns=film.pixels.shape[1])
            path = task.out / tables.film_path(record.subject_id, record.study_id, record.dicom_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_dicom(path, film, record, study, image, syntax=task.syntax)
            records.append(record)
    return records


def _write_tables(out: Path, drawn: Drawn, records: list[ImageRecord]) -> None:
    studies = [reading.study for patient in drawn.readings for reading in patient]
    tables.write_image_tables(out, records, split_of=drawn.split_of)
    tables.write_study_list(out, ((study.patient.subject_id, study.study_id) for study in studies))
    tables.write_label_table(out, drawn.labels)
    tables.write_truth(out, {study.study_id: study.truth for study in studies})
