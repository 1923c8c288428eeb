"""MIMIC-CXR 2.x (Johnson et al. 2019): PhysioNet's tables, DICOMs (or MIMIC-CXR-JPG's images) and report files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

from components.cxr.errors import UserError
from components.cxr.ids import IdKey
from components.cxr.labels import PATHOLOGIES
from components.cxr.pixels import view_of
from components.cxr.shards import SPLITS
from components.cxr.storage import Storage, open_storage
from components.cxr.tables import Table, read_table, shown
from components.preprocess.config import MimicCxrData
from components.preprocess.records import FilmRef, Place, Source, Study, hash_source
from components.preprocess.splits import check_patients

__all__ = ["read_mimic_cxr"]

_REPORT_FOLDERS = ("", "mimic-cxr-reports/")


class _Film(NamedTuple):
    image_id: str
    study_id: str
    patient_id: str
    path: str


def read_mimic_cxr(config: MimicCxrData, *, key: IdKey) -> Source:
    """Join record list, split, labels and metadata into studies.

    Needs `mimic-cxr-2.*-split.csv.gz` and `…-chexpert.csv.gz` (or negbio) and either `cxr-record-list.csv.gz` or
    `…-metadata.csv.gz`, each also without .gz. Studies without a label row are unlabeled.

    Raises:
        UserError: folder or table missing, a bad value, a film without a split, or a patient in two splits.
    """
    storage = open_storage(config.dir, user_project=config.user_project)
    sizes = storage.sizes()
    if not sizes:
        raise UserError(
            "folder is missing or empty",
            where=storage.uri,
            expected="MIMIC-CXR's tables and files/",
            remedy="Check data.dir.",
        )
    split_table = _find(storage, sizes, "split")
    label_table = _find(storage, sizes, config.labels)
    metadata = _find_optional(storage, sizes, "metadata")
    records = _find_optional(storage, sizes, "record-list")
    film_table = records or metadata
    if film_table is None:
        expected = "cxr-record-list.csv.gz or mimic-cxr-2.*-metadata.csv.gz"
        raise UserError("table is missing", where=storage.uri, expected=expected, remedy="Download it beside files/.")
    films = _films(film_table, sizes)
    splits = _splits(split_table, films)
    check_patients(((film.patient_id, splits[film.image_id]) for film in films), where=split_table.where, key=key)
    labels = _labels(label_table)
    views = _views(metadata) if metadata else {}
    studies: dict[str, list[_Film]] = {}
    for film in films:
        studies.setdefault(film.study_id, []).append(film)
    tables = [table for table in (split_table, label_table, metadata, records) if table is not None]
    joined = tuple(
        _study(group, sizes, splits[group[0].image_id], labels.get(study), views) for study, group in studies.items()
    )
    return Source(
        where=storage.uri,
        films=Place(storage.uri, config.user_project),
        pathologies=PATHOLOGIES,
        studies=joined,
        hash=hash_source(((table.name, table.sha256) for table in tables), _used(joined, sizes)),
    )


def _find(storage: Storage, sizes: Iterable[str], kind: str) -> Table:
    table = _find_optional(storage, sizes, kind)
    if table is None:
        expected = f"mimic-cxr-2.*-{kind}.csv.gz"
        remedy = "Download it from MIMIC-CXR-JPG beside files/."
        raise UserError("table is missing", where=storage.uri, expected=expected, remedy=remedy)
    return table


def _find_optional(storage: Storage, sizes: Iterable[str], kind: str) -> Table | None:
    """The table of the newest version, in the top folder."""
    pattern = re.compile(rf"(?:mimic-cxr-2\.[\d.]+-|cxr-){kind}\.csv(?:\.gz)?")
    names = sorted(name for name in sizes if pattern.fullmatch(name))
    return read_table(storage, names[-1]) if names else None


def _films(table: Table, sizes: dict[str, int]) -> list[_Film]:
    images, studies, patients = (table.cells(name) for name in ("dicom_id", "study_id", "subject_id"))
    paths = table.cells("path") if "path" in table.header else None
    films = []
    for i, (image, study, patient) in enumerate(zip(images, studies, patients, strict=True)):
        listed = paths[i] if paths is not None else f"files/p{patient[:2]}/p{patient}/s{study}/{image}.dcm"
        as_jpg = str(PurePosixPath(listed).with_suffix(".jpg"))
        found = as_jpg if listed not in sizes and as_jpg in sizes else listed
        films.append(_Film(image, study, patient, found))
    return films


def _splits(table: Table, films: list[_Film]) -> dict[str, str]:
    splits = {}
    for i, (image, split) in enumerate(zip(table.cells("dicom_id"), table.cells("split"), strict=True)):
        if split not in SPLITS:
            where = table.cell(i, "split")
            raise UserError("unknown split", where=where, found=shown(split), expected=", ".join(SPLITS))
        splits[image] = split
    without = sum(film.image_id not in splits for film in films)
    if without:
        found = f"{without} of {len(films)} films without a split"
        raise UserError("table lacks films", where=table.where, found=found, expected="a row a film")
    return splits


def _labels(table: Table) -> dict[str, tuple[int | None, ...]]:
    states = zip(*(table.states(name) for name in PATHOLOGIES), strict=True)
    return dict(zip(table.cells("study_id"), states, strict=True))


def _views(table: Table) -> dict[str, str | None]:
    meaning = "ViewCodeSequence_CodeMeaning"
    positions = table.cells("ViewPosition")
    meanings = table.cells(meaning) if meaning in table.header else [""] * len(table)
    views = map(view_of, positions, meanings)
    return dict(zip(table.cells("dicom_id"), views, strict=True))


def _study(
    films: list[_Film],
    sizes: dict[str, int],
    split: str,
    labels: tuple[int | None, ...] | None,
    views: dict[str, str | None],
) -> Study:
    first = films[0]
    report = f"files/p{first.patient_id[:2]}/p{first.patient_id}/s{first.study_id}.txt"
    return Study(
        study_id=first.study_id,
        patient_id=first.patient_id,
        split=split,
        films=tuple(
            FilmRef(
                image_id=film.image_id,
                path=film.path,
                exists=film.path in sizes,
                view_position=views.get(film.image_id),
            )
            for film in films
        ),
        labels=labels if labels is not None else (None,) * len(PATHOLOGIES),
        labeled=labels is not None,
        text={},
        report=next((folder + report for folder in _REPORT_FOLDERS if folder + report in sizes), None),
        age_years=None,
        sex=None,
    )


def _used(studies: Iterable[Study], sizes: dict[str, int]) -> Iterable[tuple[str, int | None]]:
    for study in studies:
        for film in study.films:
            yield film.path, sizes.get(film.path)
        if study.report is not None:
            yield study.report, sizes[study.report]
