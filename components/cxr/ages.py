"""Ages as tables and DICOM headers write them, in years."""

from __future__ import annotations

import datetime
import re

__all__ = ["MAX_AGE_YEARS", "age_on", "read_age", "read_age_group"]

MAX_AGE_YEARS = 130

_UNITS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}

_AGE_STRING = re.compile(r"(\d{1,3})\s*([DWMY])", re.IGNORECASE)

_FROM_TO = re.compile(r"(\d{1,3})\s*(?:-|–|to)\s*(\d{1,3})", re.IGNORECASE)

_OPEN = re.compile(
    r"[<>≤≥]=?\s*(\d{1,3})|(\d{1,3})\s*(?:\+|(?:or|and)\s+(?:more|over|older|above|less|under|younger))", re.IGNORECASE
)

_DATE = re.compile(r"(\d{4})(?:(-?)(\d{2})\2(\d{2}))?(?:\.0)?")


def read_age(text: str) -> float | None:
    """Years of a number (`63`, `61.5`) or a DICOM age string (`058Y`, `58y`, `6M`; PS3.5 6.2); None outside 0 to 130.

    >>> read_age("058Y"), read_age("6M"), read_age("61.5"), read_age("999Y"), read_age("nan")
    (58.0, 0.5, 61.5, None, None)

    Raises:
        ValueError: neither.
    """
    match = _AGE_STRING.fullmatch(text.strip())
    years = int(match[1]) * _UNITS[match[2].upper()] if match else float(text)
    return years if 0 <= years <= MAX_AGE_YEARS else None  # None for nan too


def read_age_group(text: str) -> float | None:
    """Years of a published group of ages: the middle of `40-44`, the bound of `85 or more` or `90+`; else None.

    >>> read_age_group("40-44"), read_age_group("85 or more"), read_age_group("90+"), read_age_group("old")
    (42.0, 85.0, 90.0, None)
    """
    text = text.strip()
    if match := _FROM_TO.fullmatch(text):
        years = (int(match[1]) + int(match[2])) / 2
    elif match := _OPEN.fullmatch(text):
        years = float(match[1] or match[2])
    else:
        return None
    return years if years <= MAX_AGE_YEARS else None


def age_on(birth: str, day: str) -> float | None:
    """Years from a birth to a day, to the day where both are dates, else between the years; None outside 0 to 130.

    >>> age_on("1967", "20140915"), round(age_on("1967-01-15", "20140915"), 2), age_on("2020.0", "2014")
    (47, 47.67, None)

    Raises:
        ValueError: neither a year nor a date.
    """
    (first, born), (last, on) = _year_and_date(birth), _year_and_date(day)
    years = last - first if born is None or on is None else (on - born).days / 365.25
    return years if 0 <= years <= MAX_AGE_YEARS else None


def _year_and_date(text: str) -> tuple[int, datetime.date | None]:
    match = _DATE.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    year, _, month, day = match.groups()
    return int(year), datetime.date(int(year), int(month), int(day)) if month else None
