"""A study's report, on the films that can be used; those that cannot are left out and counted."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from components.cxr.films.dicom import quiet
from components.serve.fhir_report import fhir_report
from components.serve.other_pictures import NO_CHEST_FILM, to_leave_out
from components.serve.route_ends import Ends, Server, write_whole
from components.serve.route_errors import NoAnswerError, UnusableFilmsError
from components.serve.route_sources import FilmPlace
from components.serve.route_state import Report
from components.serve.schemas import Limits, PredictReply
from components.serve.structured_report import report_uid, structured_report

__all__ = ["make_report"]

_UNFIT = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    EOFError,
    struct.error,
    zlib.error,
)
"""What pydicom and highdicom raise of a header that cannot be read or that fits in no report, and quote it."""


def make_report(ends: Ends, limits: Limits, films: Sequence[FilmPlace]) -> Report:
    """Ask for an answer to a study, and again without films that the server or a report cannot use.

    All that one answer names are left out at once, pictures that are no chest films among others. Of more films than
    the server takes each is asked about alone first, as some may be none that can be used.

    Args:
        films: of one study, at least one.

    Raises:
        NoAnswerError: no film can be used, for the first one's reason; or it is not one film's fault.
        UnavailableError: as Server.ask's.
        UserError: as Server.ask's.
    """
    usable: list[bytes] = []
    reasons: list[str] = []
    for place in films:
        try:
            usable.append(_film(ends, limits, place, alone=len(films) > limits.max_files))
        except UnusableFilmsError as error:
            reasons.append(error.reason)
        if len(usable) > limits.max_files:
            raise NoAnswerError("too-many-films")
    while usable:
        try:
            reply = _answer(ends.server, usable)
            return _report(reply, usable, Counter(reasons), fhir=ends.fhir)
        except UnusableFilmsError as error:
            usable = [film for place, film in enumerate(usable) if place not in error.places]
            reasons += [error.reason] * len(error.places)
    raise NoAnswerError(reasons[0])


def _film(ends: Ends, limits: Limits, place: FilmPlace, *, alone: bool) -> bytes:
    """A film's file, if it is not too large and, where it is asked about alone, can be used."""
    film = ends.source.read(place)
    if len(film) > limits.max_file_bytes:
        raise UnusableFilmsError("film-too-large", places=[0])
    if alone:
        reply = ends.server.ask([film])
        _report(reply, [film], {}, fhir=None)
        if reply.in_distribution is False:
            raise UnusableFilmsError(NO_CHEST_FILM, places=[0])
    return film


def _answer(server: Server, films: list[bytes]) -> PredictReply:
    reply = server.ask(films)
    if others := to_leave_out([score.in_distribution for score in reply.films]):
        raise UnusableFilmsError(NO_CHEST_FILM, places=others)
    return reply


def _report(reply: PredictReply, films: Sequence[bytes], left_out: Mapping[str, int], *, fhir: Path | None) -> Report:
    headers: list[Dataset] = []
    try:
        with quiet():
            headers += [pydicom.dcmread(io.BytesIO(film), stop_before_pixels=True, force=True) for film in films]
            file = _written(reply, headers, left_out)
    except _UNFIT:
        unfit = [place for place, header in enumerate(headers) if not _fits(reply, header)]
        if not unfit:
            raise NoAnswerError("header-unfit") from None
        raise UnusableFilmsError("header-unfit", places=unfit) from None
    if fhir is not None:
        uid = report_uid(reply, headers, left_out=left_out)
        report = fhir_report(reply, headers, left_out=left_out)
        write_whole(fhir / f"{uid}.json", json.dumps(report, indent=1).encode())
    return Report(file, dict(left_out))


def _fits(reply: PredictReply, header: Dataset) -> bool:
    """Whether a report on this film alone can be written."""
    try:
        with quiet():
            _written(reply, [header], {})
    except _UNFIT:
        return False
    return True


def _written(reply: PredictReply, headers: Sequence[Dataset], left_out: Mapping[str, int]) -> bytes:
    file = io.BytesIO()
    structured_report(reply, headers, left_out=left_out).save_as(file)
    return file.getvalue()
