"""MIMIC-CXR 2.x (Johnson et al. 2019): PhysioNet's tables, DICOMs (or MIMIC-CXR-JPG's images) and report files."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from components.cxr.errors import UserError
from components.cxr.films.pixels import view_of
from components.cxr.ids import IdKey
from components.cxr.labels import PATHOLOGIES
from components.cxr.shards import SPLITS
from components.cxr.storage.storage import Storage, open_storage
from components.cxr.storage.tables import Table, read_table, shown
from components.preprocess.adapters.mimic_iv import NOBODY, MimicIv, read_mimic_iv
from components.preprocess.config import MimicCxrData
from components.preprocess.records import FilmRef, Folder, Source, SourceStudy, hash_source
from components.preprocess.splits import check_patients

__all__ = ["read_mimic_cxr"]

_VERSIONS = ("2.1.0", "2.0.0")
_REPORT_FOLDERS = ("", "mimic-cxr-reports/")
_NO_LABELS: tuple[int | None, ...] = (None,) * len(PATHOLOGIES)


class _Film(NamedTuple):
    image_id: str
    study_id: str
    patient_id: str
    path: str


class _Metadata(NamedTuple):
    views: Mapping[str, str | None]
    """By image."""
    dates: Mapping[str, str]
    """YYYYMMDD (0008,0020), shifted like every date of MIMIC, by study; empty unless ages are to be computed."""


def read_mimic_cxr(config: MimicCxrData, *, key: IdKey) -> Source:
    """Join record list, study list, split, labels and metadata into studies.

    Needs `mimic-cxr-2.*-split.csv.gz` and `…-chexpert.csv.gz` (or negbio) and either `cxr-record-list.csv.gz` or
    `…-metadata.csv.gz`, each also without .gz. A study without a label row is unlabeled; one whose label row is blank
    throughout is labeled: the labeler read its report and met none of the 14. Studies of `cxr-study-list.csv.gz`
    without a film are counted as left out.

    Raises:
        UserError: folder or table missing, a bad value, a film or study listed twice, a film without a split, or a
            patient in two splits.
    """
    films_at = open_storage(config.dir, user_project=config.user_project)
    sizes = films_at.sizes()
    if not sizes:
        raise UserError(
            "missing-folder",
            "folder is missing or empty",
            where=films_at.uri,
            expected="MIMIC-CXR's tables and files/",
            remedy="Check data.dir.",
        )
    tables = _Tables(config, films_at)
    film_table = tables.find_optional("record-list") or tables.find_optional("metadata")
    if film_table is None:
        expected = "cxr-record-list.csv.gz or mimic-cxr-2.*-metadata.csv.gz"
        raise UserError(
            "missing-table",
            "table is missing",
            where=films_at.uri,
            expected=expected,
            remedy="Download it beside files/.",
        )
    films = _films(film_table, sizes)
    del film_table  # the largest tables go as soon as they are read
    splits = _splits(tables.find("split"), films, key=key)
    labels = _labels(tables.find(config.labels))
    people = None
    if config.mimic_iv_dir is not None:
        mimic_iv = open_storage(config.mimic_iv_dir, user_project=config.user_project)
        people = read_mimic_iv(mimic_iv, patients={film.patient_id for film in films})
        tables.used.update(people.tables)
        metadata = _metadata(tables.find("metadata"), dated=True)
    else:
        metadata = _metadata(tables.find_optional("metadata"), dated=False)
    studies = tuple(_studies(films, sizes, splits, labels, metadata, people))
    return Source(
        where=films_at.uri,
        films=Folder(films_at.uri, config.user_project),
        pathologies=PATHOLOGIES,
        studies=studies,
        left_out=_left_out(tables.find_optional("study-list"), studies),
        hash=hash_source(tables.used, _used(studies, sizes)),
    )


class _Tables:
    """The tables in the top folder of `dir`, else of `tables_dir`, of the newest version there."""

    def __init__(self, config: MimicCxrData, films_at: Storage) -> None:
        self.places = [films_at]
        if config.tables_dir is not None:
            self.places.append(open_storage(config.tables_dir, user_project=config.user_project))
        self.used: set[tuple[str, str]] = set()
        """Name and sha256 of each table that was read."""

    def find(self, kind: str) -> Table:
        table = self.find_optional(kind)
        if table is None:
            expected = f"mimic-cxr-2.*-{kind}.csv.gz"
            remedy = "Download it from MIMIC-CXR-JPG beside files/, or set data.tables_dir."
            raise UserError(
                "missing-table", "table is missing", where=self.places[0].uri, expected=expected, remedy=remedy
            )
        return table

    def find_optional(self, kind: str) -> Table | None:
        stems = [f"cxr-{kind}"] if "-" in kind else [f"mimic-cxr-{version}-{kind}" for version in _VERSIONS]
        for place in self.places:
            for name in (f"{stem}.csv{suffix}" for stem in stems for suffix in (".gz", "")):
                if place.exists(name):
                    table = read_table(place, name)
                    self.used.add((name, table.sha256))
                    return table
        return None


def _films(table: Table, sizes: Mapping[str, int]) -> list[_Film]:
    images = table.unique("dicom_id", what="film")
    studies, patients = table.cells("study_id"), table.cells("subject_id")
    paths = table.cells("path") if "path" in table.header else None
    films = []
    patient_of: dict[str, str] = {}
    for i, (image, study, patient) in enumerate(zip(images, studies, patients, strict=True)):
        if patient_of.setdefault(study, patient) != patient:
            expected = "one patient per study"
            raise UserError(
                "study-of-two-patients",
                "a study has two patients",
                where=table.cell(i, "subject_id"),
                expected=expected,
            )
        path = paths[i] if paths is not None else f"{_folder(patient, study)}/{image}.dcm"
        if path not in sizes and (as_jpg := f"{path.removesuffix('.dcm')}.jpg") in sizes:
            path = as_jpg
        films.append(_Film(image, study, patient, path))
    return films


def _folder(patient: str, study: str) -> str:
    return f"files/p{patient[:2]}/p{patient}/s{study}"


def _splits(table: Table, films: Sequence[_Film], *, key: IdKey) -> dict[str, str]:
    images, splits = table.unique("dicom_id", what="film"), table.cells("split")
    for split in set(splits) - set(SPLITS):
        where = table.cell(splits.index(split), "split")
        raise UserError("unknown-split", "unknown split", where=where, found=shown(split), expected=", ".join(SPLITS))
    split_of = dict(zip(images, splits, strict=True))
    without = sum(film.image_id not in split_of for film in films)
    if without:
        found = f"{without} of {len(films)} films without a split"
        raise UserError(
            "films-not-in-table", "table lacks films", where=table.where, found=found, expected="a row per film"
        )
    check_patients(((film.patient_id, split_of[film.image_id]) for film in films), where=table.where, key=key)
    return split_of


def _labels(table: Table) -> dict[str, tuple[int | None, ...]]:
    rows = zip(*(table.states(name) for name in PATHOLOGIES), strict=True)
    shared: dict[tuple[int | None, ...], tuple[int | None, ...]] = {}  # 227,827 rows, few different ones
    return {
        study: shared.setdefault(row, row)
        for study, row in zip(table.unique("study_id", what="study"), rows, strict=True)
    }


def _metadata(table: Table | None, *, dated: bool) -> _Metadata:
    if table is None:
        return _Metadata({}, {})
    meaning = "ViewCodeSequence_CodeMeaning"
    meanings = table.cells(meaning) if meaning in table.header else [""] * len(table)
    views = map(functools.cache(view_of), table.cells("ViewPosition"), meanings)
    return _Metadata(
        views=dict(zip(table.cells("dicom_id"), views, strict=True)),
        dates=dict(zip(table.cells("study_id"), _dates(table), strict=True)) if dated else {},
    )


def _dates(table: Table) -> list[str]:
    dates = table.cells("StudyDate")
    for date in set(dates):
        if date and not re.fullmatch(r"\d{8}", date):
            where = table.cell(dates.index(date), "StudyDate")
            raise UserError("bad-date", "bad date", where=where, found=shown(date), expected="YYYYMMDD, or nothing")
    return dates


def _studies(
    films: Sequence[_Film],
    sizes: Mapping[str, int],
    splits: Mapping[str, str],
    labels: Mapping[str, tuple[int | None, ...]],
    metadata: _Metadata,
    people: MimicIv | None,
) -> Iterator[SourceStudy]:
    films_of: dict[str, list[_Film]] = {}
    for film in films:
        films_of.setdefault(film.study_id, []).append(film)
    no_text: dict[str, str] = {}
    for study_id, group in films_of.items():
        patient = group[0].patient_id
        report = f"{_folder(patient, study_id)}.txt"
        person = NOBODY if people is None else people.at(patient, metadata.dates.get(study_id, ""))
        yield SourceStudy(
            study_id=study_id,
            patient_id=patient,
            split=splits[group[0].image_id],
            films=tuple(
                FilmRef(
                    image_id=film.image_id,
                    path=film.path,
                    exists=film.path in sizes,
                    view_position=metadata.views.get(film.image_id),
                )
                for film in group
            ),
            labels=labels.get(study_id, _NO_LABELS),
            labeled=study_id in labels,
            text=no_text,
            report=next((folder + report for folder in _REPORT_FOLDERS if folder + report in sizes), None),
            **person._asdict(),
        )


def _left_out(table: Table | None, studies: Sequence[SourceStudy]) -> dict[str, int]:
    if table is None:
        return {}
    listed = set(table.unique("study_id", what="study"))
    count = len(listed.difference(study.study_id for study in studies))
    return {"studies without a film": count} if count else {}


def _used(studies: Iterable[SourceStudy], sizes: Mapping[str, int]) -> Iterator[tuple[str, int | None]]:
    for study in studies:
        for film in study.films:
            yield film.path, sizes.get(film.path)
        if study.report is not None:
            yield study.report, sizes[study.report]
