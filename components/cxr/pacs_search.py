"""What a PACS has: searched for once and remembered in a file, and retrieved film by film by whoever reads it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

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
_MOST_OTHERS = 3
"""Asked for where nothing was answered yet, before the server counts as failing."""

T = TypeVar("T")


class FoundStudy(Config):
    """One study of the search."""

    study: str
    patient: str
    films: tuple[str, ...]
    """`study/series/instance`."""
    unlisted: str | None = None
    """What the PACS answered in place of its films, while it listed another study's; None where it listed them."""


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

    Of two runs that search at once, the first to write counts. A study whose films the server does not list, while it
    lists another's, is there without films and says so; an id of a list that it does not search for is told alone.

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


class _EachAlone(Generic[T]):
    """Asks a server for one thing after another, from several threads; one for which it fails costs itself.

    It counts as failing altogether where it then does not answer for another thing either, asked once.
    """

    def __init__(self, server: DicomwebServer, ask: Callable[[Dicomweb, str], T], things: Sequence[str]) -> None:
        self._server, self._ask, self._things = server, ask, things
        self._client = Dicomweb(server)
        self._answered: str | None = None
        """The last thing that was answered."""

    def __call__(self, thing: str) -> T | UserError:
        """The answer, or the error of this thing alone.

        Raises:
            UserError: the server refuses the credentials, or answers for no other thing either.
        """
        try:
            found = self._ask(self._client, thing)
        except UserError as error:
            if error.code == "pacs-refused" or not self._answers_another(thing):
                raise
            return error
        self._answered = thing
        return found

    def _answers_another(self, thing: str) -> bool:
        once = Dicomweb(self._server, once=True)
        others = (other for other in self._things if other != thing)
        for other in islice(others, _MOST_OTHERS) if self._answered is None else [self._answered]:
            try:
                self._ask(once, other)
            except UserError:
                continue
            return True
        return False


def _search(pacs: Pacs, listed: list[str] | None) -> list[FoundStudy]:
    query = pacs.query
    fixed = {"StudyDate": query.study_dates} if query.study_dates else {}
    name = "AccessionNumber" if query.accession_numbers is not None else "StudyInstanceUID"

    def of_id(client: Dicomweb, value: str) -> list[dict[str, Any]]:
        """Of an id itself: Orthanc finds a17 as well where A17 is asked for."""
        return [study for study in client.studies(fixed | {name: value}) if value_of(study, name) == value]

    def films_of(client: Dicomweb, study: str) -> tuple[str, ...]:
        return tuple(sorted(_films(client, query, study)))

    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        if listed is None:
            pages = [list(Dicomweb(pacs.server).studies(fixed))]
        else:
            asked = pool.map(_EachAlone(pacs.server, of_id, listed), listed)
            answers = list(track(asked, total=len(listed), what="pacs", unit="ids of the list searched"))
            pages = [page for page in answers if not isinstance(page, UserError)]
            if not all(pages):
                print(f"pacs: {sum(not page for page in pages)} of {len(answers)} ids of the list find no study")
            _tell([str(each.found) for each in answers if isinstance(each, UserError)], "ids that it does not search")
        patient_of = {
            value_of(study, "StudyInstanceUID"): value_of(study, "PatientID") for page in pages for study in page
        }
        asked_films = pool.map(_EachAlone(pacs.server, films_of, list(patient_of)), patient_of)
        films = track(asked_films, total=len(patient_of), what="pacs", unit="studies searched")
        studies = [
            FoundStudy(study=study, patient=patient, films=(), unlisted=str(found.found))
            if isinstance(found, UserError)
            else FoundStudy(study=study, patient=patient, films=found)
            for (study, patient), found in zip(patient_of.items(), films, strict=True)
            if found
        ]
    unlisted = [study.unlisted for study in studies if study.unlisted is not None]
    if len(unlisted) == len(studies):
        none = f"{len(patient_of)} studies, none with such a series" if patient_of else "no study"
        raise UserError(
            "nothing-found",
            "the search finds no films",
            where=pacs.server.url,
            found=f"{none}, {len(unlisted)} whose films it does not list" if unlisted else none,
            expected="films of data.query",
            remedy="Check data.query, and what the user may see.",
        )
    _tell(unlisted, f"of {len(patient_of)} studies, as it does not list their films (delete {pacs.found} to ask again)")
    return sorted(studies, key=lambda study: study.study)


def _tell(left_out: Sequence[str], what: str) -> None:
    """Say what the server failed on alone, by what it answered."""
    for found, count in Counter(left_out).items():
        print(f"pacs: left out: {count} {what}: {found}", flush=True)


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
