"""The fields of one study, checked: the same for every form of request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.cxr.ages import MAX_AGE_YEARS, read_age
from components.serve.config import ServeConfig
from components.serve.errors import RequestError

__all__ = ["FIELDS", "StudyForm", "study_form"]

FIELDS = ("files", "text", "age_years", "sex", "view_positions", "study_uid", "explain")
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_MAX_UID_CHARS = 64


@dataclass(frozen=True, kw_only=True)
class StudyForm:
    """The fields of one request, empty ones absent."""

    files: list[bytes]
    text: str
    age_years: float | None
    sex: str | None
    view_positions: list[str | None] | None
    study_uid: str | None
    """Given back with the answer, and nothing else."""
    explain: tuple[str, ...] = ()
    """Pathologies whose heatmaps are wanted, each once."""


def study_form(files: list[bytes], values: Mapping[str, Sequence[str]], config: ServeConfig) -> StudyForm:
    """Check what a request holds.

    Args:
        files: films in order.
        values: by name of the other fields, every value that the request has for it.

    Raises:
        RequestError: over a limit, unknown or malformed fields.
    """
    if any(name not in FIELDS for name in values):
        remedy = f"Known fields: {', '.join(FIELDS)}."
        raise RequestError(422, "unknown-field", "The request has an unknown field.", remedy=remedy)
    if len(files) > config.max_files:
        raise RequestError(413, "too-many-films", f"The request has more than {config.max_files} films.")
    for position, film in enumerate(files, start=1):
        if len(film) > config.max_file_bytes:
            message = f"Film {position} has more than {config.max_file_bytes} bytes."
            raise RequestError(413, "film-too-large", message, film=position)
    return StudyForm(
        files=files,
        text=_text(_single(values, "text"), config),
        age_years=_age(_single(values, "age_years")),
        sex=_single(values, "sex").upper() or None,
        view_positions=_views(values.get("view_positions", ())),
        study_uid=_uid(_single(values, "study_uid")),
        explain=_names(values.get("explain", ())),
    )


def _text(text: str, config: ServeConfig) -> str:
    if len(text) > config.max_text_chars:
        raise RequestError(413, "text-too-long", f"The text has more than {config.max_text_chars} characters.")
    return text


def _age(text: str) -> float | None:
    if not text:
        return None
    try:
        age = read_age(text)
    except ValueError:
        age = None
    if age is None:
        raise RequestError(
            422,
            "bad-age",
            f"The age is no number from 0 to {MAX_AGE_YEARS}.",
            remedy="Give it in years, such as 63 or 0.5, or as DICOM does, such as 058Y or 6M.",
        )
    return age


def _views(values: Sequence[str]) -> list[str | None] | None:
    """Every view position in order; None when the field is absent or empty."""
    parts = [part.strip().upper() for value in values for part in value.split(",")]
    return [part or None for part in parts] if any(parts) else None


def _names(values: Sequence[str]) -> tuple[str, ...]:
    """Each once; one per value, as a pathology's name may have a comma."""
    return tuple(dict.fromkeys(name for value in values if (name := value.strip())))


def _uid(text: str) -> str | None:
    """A UID of DICOM PS3.5 section 9.1; anything else could carry a name."""
    if not text:
        return None
    if len(text) > _MAX_UID_CHARS or not _UID.fullmatch(text):
        message = f"The study UID is no DICOM UID: digits and dots, at most {_MAX_UID_CHARS}."
        raise RequestError(422, "bad-study-uid", message, remedy="Leave it out, or send (0020,000D).")
    return text


def _single(values: Mapping[str, Sequence[str]], name: str) -> str:
    found = values.get(name, ())
    if len(found) > 1:
        raise RequestError(422, "repeated-field", f"The field `{name}` is there {len(found)} times, expected once.")
    return found[0].strip() if found else ""
