"""A study's report, on the films that can be used; those that cannot are left out and counted."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from components.cxr.films.dicom import quiet
from components.serve.fhir_report import fhir_report
from components.serve.route_ends import Server, write_whole
from components.serve.route_errors import NoAnswerError, UnusableFilmError
from components.serve.route_state import Report
from components.serve.schemas import Limits, PredictReply
from components.serve.structured_report import report_uid, structured_report

__all__ = ["make_report"]


def make_report(server: Server, limits: Limits, films: Sequence[bytes], *, fhir: Path | None) -> Report:
    """Ask for an answer to a study, and again without each film that the server or a report cannot use.

    Args:
        films: files of one study, at least one.
        fhir: folder that gets the FHIR report; None for none.

    Raises:
        NoAnswerError: no film can be used, for the first one's reason; or it is not one film's fault.
        UnavailableError: as Server.ask's.
        UserError: as Server.ask's.
    """
    usable = [film for film in films if len(film) <= limits.max_file_bytes]
    reasons = ["film-too-large"] * (len(films) - len(usable))
    while usable:
        try:
            return _report(server.ask(usable), usable, Counter(reasons), fhir=fhir)
        except UnusableFilmError as error:
            del usable[error.film - 1]
            reasons.append(error.reason)
    raise NoAnswerError(reasons[0])


def _report(reply: PredictReply, films: Sequence[bytes], left_out: Mapping[str, int], *, fhir: Path | None) -> Report:
    headers: list[Dataset] = []
    try:
        with quiet():
            headers += [pydicom.dcmread(io.BytesIO(film), stop_before_pixels=True, force=True) for film in films]
            file = _written(reply, headers, left_out)
    except Exception:  # pydicom and highdicom raise whatever a film's header makes them, and quote it
        unfit = next((i for i, header in enumerate(headers, start=1) if not _fits(reply, header)), None)
        if unfit is None:
            raise NoAnswerError("header-unfit") from None
        raise UnusableFilmError("header-unfit", film=unfit) from None
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
    except Exception:  # as above
        return False
    return True


def _written(reply: PredictReply, headers: Sequence[Dataset], left_out: Mapping[str, int]) -> bytes:
    file = io.BytesIO()
    structured_report(reply, headers, left_out=left_out).save_as(file)
    return file.getvalue()
