"""MIMIC-CXR 2.x (Johnson et al. 2019): PhysioNet's tables, DICOMs (or MIMIC-CXR-JPG's images) and report files."""

from __future__ import annotations

import functools
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from components.cxr.errors import UserError
from components.cxr.films.pixels import view_of
from components.cxr.ids import IdKey
from components.cxr.labels import PATHOLOGIES
from components.cxr.shards import SPLITS
from components.cxr.storage.joins import shape_of
from components.cxr.storage.storage import Storage, open_storage
from components.cxr.storage.tables import Table, read_table, shown
from components.preprocess.adapters.film_paths import check_links, check_spelling
from components.preprocess.adapters.mimic_iv import NOBODY, MimicIv, read_mimic_iv
from components.preprocess.adapters.mimic_matches import MimicMetadata, study_folder, unmatched
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
    films = _films(film_table, sizes, folder=films_at.uri)
    check_links({film.path: film.patient_id for film in films}, folder=films_at.uri)
    del film_table  # the largest tables go as soon as they are read
    splits = _splits(tables.find("split"), films, key=key)
    labels = _labels(table := tables.find(config.labels))
    labels_at = table.where
    del table
    people = None
    if config.mimic_iv_dir is not None:
        mimic_iv = open_storage(config.mimic_iv_dir, user_project=config.user_project)
        people = read_mimic_iv(mimic_iv, patients={film.patient_id for film in films})
        tables.used.update(people.tables)
        metadata = _metadata(tables.find("metadata"), dated=True)
    else:
        metadata = _metadata(tables.find_optional("metadata"), dated=False)
    studies = tuple(_studies(films, sizes, splits, labels, metadata, people))
    images = [film.image_id for film in films]
    warnings = unmatched(studies, images, labels, metadata, sizes, labels_at=labels_at, films_at=films_at.uri)
    return Source(
        where=films_at.uri,
        films=Folder(films_at.uri, config.user_project),
        pathologies=PATHOLOGIES,
        studies=studies,
        files_like=shape_of(path for path in sizes if "/" in path),
        left_out=_left_out(tables.find_optional("study-list"), studies),
        warnings=(*warnings, *([people.warning] if people is not None and people.warning else [])),
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


def _films(table: Table, sizes: Mapping[str, int], *, folder: str) -> list[_Film]:
    images, studies, patients = (
        _image_ids(table),
        table.ids("study_id", prefix="s"),
        table.ids("subject_id", prefix="p"),
    )
    listed = table.cells("path") if "path" in table.header else None
    films = []
    patient_of: dict[str, str] = {}
    same = (studies, patients) if listed is None else (studies, patients, listed)
    for i in table.once("dicom_id", images, what="film", same=same):
        study, patient = studies[i], patients[i]
        if not study or not patient:
            column = "subject_id" if study else "study_id"
            raise UserError("missing-id", "film has no patient or study", where=table.cell(i, column))
        if patient_of.setdefault(study, patient) != patient:
            expected = "one patient per study"
            raise UserError(
                "study-of-two-patients",
                "a study has two patients",
                where=table.cell(i, "subject_id"),
                expected=expected,
            )
        path = (
            posixpath.normpath(listed[i]) if listed is not None else f"{study_folder(patient, study)}/{images[i]}.dcm"
        )
        if path not in sizes and (as_jpg := f"{path.removesuffix('.dcm')}.jpg") in sizes:
            path = as_jpg
        films.append(_Film(images[i], study, patient, path))
    if len({film.path for film in films}) < len(films):
        raise UserError("duplicate-film", "one file is two films", where=table.where, expected="one path per film")
    check_spelling((film.path for film in films), sizes, folder=folder, where=table.where)
    return films


def _image_ids(table: Table) -> list[str]:
    """The film's ids; a file's name is read without its suffix."""
    return [re.sub(r"\.(?:dcm|jpg)$", "", image, flags=re.IGNORECASE) for image in table.ids("dicom_id")]


def _splits(table: Table, films: Sequence[_Film], *, key: IdKey) -> dict[str, str]:
    images, splits = _image_ids(table), table.cells("split")
    for split in set(splits) - set(SPLITS):
        where = table.cell(splits.index(split), "split")
        raise UserError("unknown-split", "unknown split", where=where, found=shown(split), expected=", ".join(SPLITS))
    others = (table.cells(name) for name in ("study_id", "subject_id") if name in table.header)
    split_of = {images[i]: splits[i] for i in table.once("dicom_id", images, what="film", same=[splits, *others])}
    without = [film.image_id for film in films if film.image_id not in split_of]
    if without:
        raise UserError(
            "films-not-in-table",
            "table lacks films",
            where=table.where,
            found=f"{len(without)} of {len(films)} films without a split, such as {shape_of(without)}; "
            f"the table's are like {shape_of(split_of)}",
            expected="a row per film",
        )
    check_patients(((film.patient_id, split_of[film.image_id]) for film in films), where=table.where, key=key)
    return split_of


def _labels(table: Table) -> dict[str, tuple[int | None, ...]]:
    columns = [table.states(name) for name in PATHOLOGIES]
    studies = table.ids("study_id", prefix="s")
    shared: dict[tuple[int | None, ...], tuple[int | None, ...]] = {}  # 227,827 rows, few different ones
    rows = list(zip(*columns, strict=True))
    return {
        studies[i]: shared.setdefault(rows[i], rows[i])
        for i in table.once("study_id", studies, what="study", same=columns)
    }


def _metadata(table: Table | None, *, dated: bool) -> MimicMetadata:
    if table is None:
        return MimicMetadata({}, {}, "")
    meaning = "ViewCodeSequence_CodeMeaning"
    meanings = table.cells(meaning) if meaning in table.header else [""] * len(table)
    views = list(map(functools.cache(view_of), table.cells("ViewPosition"), meanings))
    images, studies = _image_ids(table), table.ids("study_id", prefix="s")
    dates = _dates(table) if dated else None
    rows = table.once(
        "dicom_id", images, what="film", same=[studies, views] if dates is None else [studies, views, dates]
    )
    return MimicMetadata(
        views={images[i]: views[i] for i in rows},
        dates={} if dates is None else {studies[i]: dates[i] for i in rows},
        where=table.where,
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
    metadata: MimicMetadata,
    people: MimicIv | None,
) -> Iterator[SourceStudy]:
    films_of: dict[str, list[_Film]] = {}
    for film in films:
        films_of.setdefault(film.study_id, []).append(film)
    no_text: dict[str, str] = {}
    others = _reports_by_lower_case(sizes)
    for study_id, group in films_of.items():
        patient = group[0].patient_id
        report = f"{study_folder(patient, study_id)}.txt"
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
            report=_report(report, sizes, others),
            **person._asdict(),
        )


def _reports_by_lower_case(sizes: Mapping[str, int]) -> dict[str, str]:
    """Reports whose names are not in lower case (`S50000001.TXT`); PhysioNet's own are, and cost no memory here."""
    return {path.lower(): path for path in sizes if path.lower().endswith(".txt") and not path.islower()}


def _report(name: str, sizes: Mapping[str, int], others: Mapping[str, str]) -> str | None:
    for path in (folder + name for folder in _REPORT_FOLDERS):
        if path in sizes or path in others:
            return path if path in sizes else others[path]
    return None


def _left_out(table: Table | None, studies: Sequence[SourceStudy]) -> dict[str, int]:
    if table is None:
        return {}
    listed = set(table.ids("study_id", prefix="s"))
    count = len(listed.difference(study.study_id for study in studies))
    return {"studies without a film": count} if count else {}


def _used(studies: Iterable[SourceStudy], sizes: Mapping[str, int]) -> Iterator[tuple[str, int | None]]:
    for study in studies:
        for film in study.films:
            yield film.path, sizes.get(film.path)
        if study.report is not None:
            yield study.report, sizes[study.report]
