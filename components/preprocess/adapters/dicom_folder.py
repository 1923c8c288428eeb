"""A folder of DICOM films without labels: for prediction, or beside a labeled set as unlabeled training data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from components.cxr.errors import UserError
from components.cxr.films.dicom_headers import Header, film_headers
from components.cxr.ids import IdKey, hash_id
from components.cxr.storage.joins import shape_of
from components.cxr.storage.storage import open_storage
from components.preprocess.adapters.unlabeled_study import unlabeled_study
from components.preprocess.config import DicomFolder, DicomFolderData
from components.preprocess.records import FilmRef, Folder, Source, hash_source

__all__ = ["join_unlabeled", "read_dicom_folder"]


def read_dicom_folder(config: DicomFolderData, *, key: IdKey) -> Source:
    """Group the films in a folder and all folders in it into studies by StudyInstanceUID.

    A film without that is a study of its own; a study without PatientID is a patient of its own. View, age and sex come
    from the header when the film is read. Files that are no DICOM, DICOM objects without an image (DICOMDIR, reports,
    presentation states) and further copies of a film (equal SOPInstanceUID) are counted as left out.

    Raises:
        UserError: no films, or a study with two PatientIDs.
    """
    storage = open_storage(config.dir, user_project=config.user_project)
    sizes = storage.sizes()
    left_out: Counter[str] = Counter()
    films_of: dict[str, list[FilmRef]] = {}
    patient_of: dict[str, str] = {}
    for path, header in film_headers(storage, sizes, left_out, unread="files that are no DICOM"):
        study = header.study_id or path
        _check_patient(study, header, patient_of, where=storage.uri, key=key)
        film = FilmRef(image_id=header.image_id or path, path=path, exists=True, view_position=None)
        films_of.setdefault(study, []).append(film)
    if not films_of:
        found = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "no file"
        raise UserError(
            "no-films",
            "folder has no films",
            where=storage.uri,
            found=found,
            expected="DICOM films",
            remedy="Check data.dir.",
        )
    studies = [
        unlabeled_study(study, patient_of.get(study, ""), tuple(films), config=config, key=key)
        for study, films in films_of.items()
    ]
    return Source(
        where=storage.uri,
        films=Folder(storage.uri, config.user_project),
        pathologies=config.pathologies,
        studies=tuple(studies),
        hash=hash_source([], ((film.path, sizes[film.path]) for study in studies for film in study.films)),
        left_out=dict(left_out),
    )


def join_unlabeled(source: Source, folders: Sequence[DicomFolder], *, key: IdKey) -> Source:
    """Add the studies of folders of films to the training split.

    Left out and counted are those that are there already, in the table or a folder before, and those of patients of
    the table who validate or test.

    Raises:
        UserError: see read_dicom_folder.
    """
    known = {study.study_id for study in source.studies}
    held_out = {study.patient_id for study in source.studies if study.split != "train"}
    left_out, warnings, added = Counter(source.left_out), source.warnings, []
    hashes = [("source", source.hash)]
    for folder in folders:
        more = _unlabeled(folder, pathologies=source.pathologies, key=key)
        hashes.append(("unlabeled", more.hash))
        left_out += Counter(more.left_out)
        warnings += _other_names(source, more)
        for study in more.studies:
            if study.study_id in known:
                left_out["unlabeled studies that are there already"] += 1
            elif study.patient_id in held_out:
                left_out["unlabeled studies of patients who validate or test"] += 1
            else:
                added.append(replace(study, folder=more.films))
                known.add(study.study_id)
    return replace(
        source,
        studies=(*source.studies, *added),
        hash=hash_source(hashes, []),
        left_out=dict(left_out),
        warnings=warnings,
    )


def _unlabeled(folder: DicomFolder, *, pathologies: tuple[str, ...], key: IdKey) -> Source:
    config = DicomFolderData(dir=folder.dir, user_project=folder.user_project, pathologies=pathologies, split="train")
    return read_dicom_folder(config, key=key)


def _other_names(source: Source, more: Source) -> tuple[str, ...]:
    """A warning where no id of the folder is one of the table, and the two write theirs differently."""
    ours, theirs = ([study.patient_id for study in each.studies] for each in (source, more))
    same = set(ours) & set(theirs) or {s.study_id for s in source.studies} & {s.study_id for s in more.studies}
    if same or shape_of(ours) == shape_of(theirs):
        return ()
    return (
        f"unlabeled films have no patient of the table: {more.where}; found ids like {shape_of(theirs)}, "
        f"the table's are like {shape_of(ours)}. "
        "If these are the same patients, those who validate or test are trained on.",
    )


def _check_patient(study: str, header: Header, patient_of: dict[str, str], *, where: str, key: IdKey) -> None:
    """Remember whose study it is; films of it without a PatientID do not count."""
    if header.patient_id and patient_of.setdefault(study, header.patient_id) != header.patient_id:
        raise UserError(
            "study-of-two-patients",
            "a study has two patients",
            where=where,
            found=f"study {hash_id('study', study, key)}",
            expected="one PatientID (0010,0020)",
            remedy="Fix its headers, or move it out of the folder.",
        )
