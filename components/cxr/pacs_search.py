"""What a PACS has: searched for once and remembered in a file, and retrieved film by film by whoever reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from components.cxr.config import Config, content_hash
from components.cxr.dicomweb import UID, Dicomweb, value_of
from components.cxr.dicomweb_server import DicomwebServer
from components.cxr.errors import UserError
from components.cxr.pacs import Pacs, PacsQuery
from components.cxr.progress import track
from components.cxr.storage.storage import (
    ABSENT,
    DamagedFileError,
    StaleWriteError,
    Storage,
    Versioned,
    open_storage,
)

__all__ = ["FoundStudy", "PacsFilms", "search_pacs"]

_NUM_THREADS = 8
"""Studies that are searched at a time."""


class FoundStudy(Config):
    """One study of the search."""

    study: str
    patient: str
    films: tuple[str, ...]
    """`study/series/instance`."""


class Found(Config):
    """What a search found."""

    search: str
    """Hash of the address, the query and its lists."""
    studies: tuple[FoundStudy, ...]


class PacsFilms:
    """The films of a PACS by `study/series/instance`."""

    def __init__(self, server: DicomwebServer) -> None:
        self._server = server
        self._client = Dicomweb(server)
        self._came: str | None = None
        """The last film that came."""
        self.uri = server.url

    def local_path(self, name: str) -> Path | None:  # noqa: ARG002
        """None: no film lies here."""
        return None

    def read(self, name: str) -> Versioned:
        """One film's file as it is stored.

        Raises:
            FileNotFoundError: it is not there any more.
            DamagedFileError: it does not come, until the deadline or for a reason that stays, and another film does.
            UserError: the server refuses the credentials, or another film does not come either.
        """
        try:
            data = self._client.retrieve(*name.split("/"))
        except UserError as error:
            if error.code == "pacs-refused" or not self._another_comes(name):
                raise
            what = "the PACS does not give this film, while it gives another"
            raise DamagedFileError("pacs-film-fails", what, where=self.uri, found=error.found) from None
        self._came = name
        return Versioned(data, ABSENT)

    def _another_comes(self, name: str) -> bool:
        """Whether the server, asked once, gives another film: the last that came, else one of another study."""
        once = Dicomweb(self._server, once=True)
        try:
            other = self._came or next(_elsewhere(once, name.partition("/")[0]), None)
            if other is None:
                return False
            once.retrieve(*other.split("/"))
        except (FileNotFoundError, UserError):
            return False
        return True


def _elsewhere(client: Dicomweb, study: str) -> Iterator[str]:
    """The objects of other studies than this one, as they are asked for."""
    for found in client.studies({}):
        if (other := value_of(found, "StudyInstanceUID")) != study:
            for series in client.series(other):
                yield from _objects(client, other, series)


def _objects(client: Dicomweb, study: str, series: dict[str, Any]) -> Iterator[str]:
    uid = value_of(series, "SeriesInstanceUID")
    for found in client.instances(study, uid):
        yield f"{study}/{uid}/{value_of(found, 'SOPInstanceUID')}"


def search_pacs(pacs: Pacs) -> tuple[FoundStudy, ...]:
    """The studies that the search finds, now or the first time: what was found is remembered in `found`.

    Of two runs that search at once, the first to write counts.

    Raises:
        UserError: no server, refused credentials, no DICOMweb, nothing found, or a file of another search.
    """
    listed = _listed(pacs.query)
    search = content_hash(pacs.server.url, pacs.query.canonical_json(), "\n".join(listed or ["all"]))
    folder, _, name = pacs.found.rpartition("/")
    place = open_storage(folder or ("/" if pacs.found.startswith("/") else "."))
    if not place.exists(name):
        found = Found(search=search, studies=tuple(_search(pacs, listed)))
        try:
            place.write(name, json.dumps(found.model_dump(mode="json")).encode(), if_generation=ABSENT)
        except StaleWriteError:
            pass
        else:
            return found.studies
    return _remembered(place, name, search, where=pacs.found).studies


def _remembered(place: Storage, name: str, search: str, *, where: str) -> Found:
    try:
        found = Found.model_validate_json(place.read(name).data)
    except (ValidationError, FileNotFoundError):
        found = None
    if found is None or found.search != search:
        raise UserError(
            "other-search",
            "the file of what was found is of another search",
            where=where,
            expected="this server, query and lists",
            remedy="Choose another data.found, or delete the file to search anew.",
        )
    return found


def _search(pacs: Pacs, listed: list[str] | None) -> list[FoundStudy]:
    client, query = Dicomweb(pacs.server), pacs.query
    fixed = {"StudyDate": query.study_dates} if query.study_dates else {}
    name = "AccessionNumber" if query.accession_numbers is not None else "StudyInstanceUID"

    def one(value: str) -> list[dict[str, Any]]:
        """Of an id itself: Orthanc finds a17 as well where A17 is asked for."""
        return [study for study in client.studies(fixed | {name: value}) if value_of(study, name) == value]

    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        if listed is None:
            pages = [list(client.studies(fixed))]
        else:
            pages = list(track(pool.map(one, listed), total=len(listed), what="pacs", unit="ids of the list searched"))
        if listed is not None and not all(pages):
            print(f"pacs: {sum(not page for page in pages)} of {len(pages)} ids of the list find no study", flush=True)
        patient_of = {
            value_of(study, "StudyInstanceUID"): value_of(study, "PatientID") for page in pages for study in page
        }
        films_of = track(
            pool.map(lambda study: tuple(sorted(_films(client, query, study))), patient_of),
            total=len(patient_of),
            what="pacs",
            unit="studies searched",
        )
        studies = [
            FoundStudy(study=study, patient=patient, films=films)
            for (study, patient), films in zip(patient_of.items(), films_of, strict=True)
            if films
        ]
    if not studies:
        raise UserError(
            "nothing-found",
            "the search finds no films",
            where=pacs.server.url,
            found=f"{len(patient_of)} studies, none with such a series" if patient_of else "no study",
            expected="films of data.query",
            remedy="Check data.query, and what the user may see.",
        )
    return sorted(studies, key=lambda study: study.study)


def _films(client: Dicomweb, query: PacsQuery, study: str) -> Iterator[str]:
    """The objects of a study's matching series; servers that do not filter or match otherwise change nothing."""
    parts = {part.casefold() for part in query.body_parts}
    for series in client.series(study):
        if value_of(series, "Modality") not in query.modalities:
            continue
        if parts and value_of(series, "BodyPartExamined").casefold() not in parts:
            continue
        yield from _objects(client, study, series)


def _listed(query: PacsQuery) -> list[str] | None:
    """The lines of the list, each once; None without a list."""
    where = query.accession_numbers or query.study_uids
    if where is None:
        return None
    folder, _, name = where.rpartition("/")
    try:
        text = open_storage(folder or ("/" if where.startswith("/") else ".")).read(name).data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise UserError(
            "unreadable-list", "the list of studies cannot be read", where=where, expected="a text file, one id a line"
        ) from None
    lines = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    form = UID if query.study_uids is not None else re.compile(r"[^*?\\,]{1,16}")
    bad = sum(not form.fullmatch(line) for line in lines)
    if bad or not lines:
        raise UserError(
            "bad-list",
            "the list of studies has lines that are no ids",
            where=where,
            found=f"{bad} of {len(lines)} lines",
            expected="an id a line, without a header or wildcards",
        )
    return lines
