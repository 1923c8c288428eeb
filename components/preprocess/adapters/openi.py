"""Open-i's chest X-ray set of Indiana University (Demner-Fushman et al. 2016): XML reports and PNG or DICOM films."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple
from xml.etree import ElementTree

from components.cxr.errors import UserError
from components.cxr.ids import IdKey, hash_id
from components.cxr.labels import PATHOLOGIES
from components.cxr.storage.joins import check_join, shape_of
from components.cxr.storage.storage import Storage, cannot_read, file_at, open_storage
from components.preprocess.adapters.openi_terms import NO_INDEXING, pathologies_of
from components.preprocess.config import OpeniData
from components.preprocess.records import FilmRef, Folder, Source, SourceStudy, hash_source
from components.preprocess.splits import split_by_hash

__all__ = ["film_key", "read_openi"]

_ARCHIVES = (".tgz", ".tar.gz", ".tar")
_FILMS = (".dcm", ".png", ".jpg", ".jpeg")
_NAME = re.compile(
    r"(?:CXR)?(?P<study>\d+)_(?:(?P=study)_)?(?P<image>IM-[\d-]+)(?:\.(?:dcm|png|jpe?g))*", re.IGNORECASE
)


class _Report(NamedTuple):
    study_id: str
    text: str
    """With a header for each section, as MIMIC-CXR's reports are laid out."""
    terms: tuple[str, ...]
    """Manual MeSH terms."""
    image_ids: tuple[str, ...]


def read_openi(config: OpeniData, *, key: IdKey) -> Source:
    """Read every report, map its MeSH terms to the 14 pathologies and find its films.

    The set has no patient ids: each report is a patient. Splits are made by keyed hash. A study without films stays
    among the studies and makes no rows. A film that a report lists but that is not there has `exists` False.

    Raises:
        UserError: reports or films missing, a file that is no such XML, a study or a film twice.
    """
    place, files = _read_files(config)
    films = open_storage(config.image_dir, user_project=config.user_project) if config.image_dir is not None else place
    sizes = films.sizes() if config.image_dir is not None else {}
    found = _index(films, sizes)
    if config.image_dir is not None and not found:
        expected = "NLMCXR_png.tgz or NLMCXR_dcm.tgz, unpacked"
        raise UserError("no-films", "no films here", where=films.uri, expected=expected, remedy="Check data.image_dir.")
    absent = 0 if config.not_mentioned == "0" else None
    hashes: list[tuple[str, str]] = []
    studies: dict[str, SourceStudy] = {}
    for name, data in files:
        report = _parse(data, where=f"{place.uri}: file with path hash {hash_id('path', name, key)}")
        hashes.append((name, hashlib.sha256(data).hexdigest()))
        if report.study_id in studies:
            where = f"{place.uri}: study {hash_id('study', report.study_id, key)}"
            raise UserError("duplicate-study", "a study is there twice", where=where, expected="one file per study")
        labeled, labels = _labels(report.terms, absent=absent)
        studies[report.study_id] = SourceStudy(
            study_id=report.study_id,
            patient_id=report.study_id,
            split=split_by_hash(report.study_id, fractions=config.fractions, key=key),
            films=tuple(_film(image, found) for image in report.image_ids),
            labels=labels,
            labeled=labeled,
            text={},
            report=None,
            report_text=report.text,
            age_years=None,
            sex=None,
        )
    listed = [film for study in studies.values() for film in study.films]
    study_of: dict[str, str] = {}
    for study in studies.values():
        for film in study.films:
            if film.exists and study_of.setdefault(film.path, study.study_id) != study.study_id:
                where = f"{place.uri}: study {hash_id('study', study.study_id, key)}"
                raise UserError(
                    "duplicate-film", "a film is in two reports", where=where, expected="each film in one report"
                )
    matched = sum(film.exists for film in listed)
    warning = None
    if matched and config.image_dir is not None:
        names = [film.image_id for film in listed]
        remedy = "Unpack all of NLMCXR_png.tgz or NLMCXR_dcm.tgz in data.image_dir."
        warning = check_join(names, matched, sizes, what="films", where=films.uri, remedy=remedy)
    return Source(
        where=place.uri,
        films=Folder(films.uri, config.user_project),
        pathologies=PATHOLOGIES,
        studies=tuple(studies.values()),
        files_like=shape_of(sizes),
        warnings=() if warning is None else (warning,),
        hash=hash_source(hashes, ((film.path, sizes.get(film.path)) for film in listed)),
    )


def film_key(name: str) -> str | None:
    """What the names of one film share: its id in the XML, the PNG and the DICOM; None for another file.

    `CXR1_1_IM-0001-3001`, `CXR1_1_IM-0001-3001.png` and `1/1_IM-0001-3001.dcm` are one film.
    """
    match = _NAME.fullmatch(PurePosixPath(name).name)
    return None if match is None else f"{match['study']}_{match['image'].upper()}"


def _read_files(config: OpeniData) -> tuple[Storage, Iterator[tuple[str, bytes]]]:
    """Where the reports lie and, one by one, their names and bytes; the order does not matter."""
    if config.reports.endswith(_ARCHIVES):
        storage, archive = file_at(config.reports, user_project=config.user_project)
        try:
            data = storage.read(archive).data
        except FileNotFoundError:
            where = f"{storage.uri}/{archive}"
            raise UserError("no-reports", "reports are missing", where=where, remedy="Check data.reports.") from None
        except OSError as error:
            raise cannot_read("reports", f"{storage.uri}/{archive}", error) from None
        return storage, _unpacked(data, where=f"{storage.uri}/{archive}")
    storage = open_storage(config.reports, user_project=config.user_project)
    names = [name for name in storage.sizes() if _is_report(name)]
    if not names:
        expected = "XML files, or NLMCXR_reports.tgz itself"
        raise UserError(
            "no-reports", "reports are missing", where=storage.uri, expected=expected, remedy="Check data.reports."
        )
    return storage, ((PurePosixPath(name).name, _read(storage, name)) for name in names)


def _read(storage: Storage, name: str) -> bytes:
    try:
        return storage.read(name).data
    except OSError as error:
        raise cannot_read("reports", storage.uri, error) from None


def _unpacked(data: bytes, *, where: str) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() and _is_report(member.name) else None
                if file is not None:
                    yield PurePosixPath(member.name).name, file.read()
    except (tarfile.TarError, EOFError, OSError):
        raise UserError(
            "unreadable-archive", "archive is not readable", where=where, remedy="Download it again."
        ) from None


def _is_report(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() == ".xml" and not path.name.startswith("._")


def _parse(data: bytes, *, where: str) -> _Report:
    expected = "an eCitation of Open-i with uId, AbstractText, MeSH and parentImage"
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        found = "line {}, column {}".format(*error.position)
        raise UserError("bad-xml", "report is not XML", where=where, found=found, expected=expected) from None
    identifier = root.find("uId")
    study_id = "" if identifier is None else identifier.get("id", "")
    if not study_id:
        raise UserError("missing-id", "report has no id", where=where, expected=expected)
    sections = [
        (part.get("Label", ""), " ".join("".join(part.itertext()).split())) for part in root.iter("AbstractText")
    ]
    return _Report(
        study_id,
        "".join(f"\n {label.upper()}:  {text}\n" for label, text in sections if label and text),
        tuple(term for element in root.findall("MeSH/major") if (term := (element.text or "").strip())),
        tuple(dict.fromkeys(image.get("id", "") for image in root.iter("parentImage") if image.get("id"))),
    )


def _labels(terms: tuple[str, ...], *, absent: int | None) -> tuple[bool, tuple[int | None, ...]]:
    """Whether the report was labeled, and the state of each pathology."""
    if not [term for term in terms if term.lower() != NO_INDEXING]:
        return False, (None,) * len(PATHOLOGIES)
    affirmed = frozenset[str]().union(*(pathologies_of(term) for term in terms))
    return True, tuple(1 if name in affirmed else absent for name in PATHOLOGIES)


def _index(films: Storage, sizes: dict[str, int]) -> dict[str, str]:
    """Path of each film by its key."""
    found: dict[str, str] = {}
    for path in sizes:
        key = film_key(path) if path.lower().endswith(_FILMS) else None
        if key is not None and found.setdefault(key, path) != path:
            raise UserError(
                "duplicate-film",
                "a film is there twice",
                where=films.uri,
                found="two files of one name, perhaps PNG and DICOM",
                expected="one file per film",
                remedy="Point data.image_dir at one of them.",
            )
    return found


def _film(image_id: str, found: dict[str, str]) -> FilmRef:
    path = found.get(film_key(image_id) or "")
    return FilmRef(image_id=image_id, path=path or image_id, exists=path is not None, view_position=None)
