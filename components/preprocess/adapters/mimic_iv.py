"""MIMIC-IV's patients and admissions (Johnson et al. 2023): age, sex, race and insurance of MIMIC-CXR's patients."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from components.cxr.errors import UserError
from components.cxr.storage.joins import check_join
from components.cxr.storage.storage import Storage
from components.cxr.storage.tables import Table, read_table, shown

__all__ = ["NOBODY", "MimicIv", "Person", "read_mimic_iv"]


class Person(NamedTuple):
    """What is known of a patient on the day of a study; None where nothing is."""

    age_years: float | None
    sex: str | None
    race: str | None
    """As MIMIC-IV spells it."""
    insurance: str | None


NOBODY = Person(None, None, None, None)


class _Patient(NamedTuple):
    anchor_age: int
    """Age in years in the anchor year; 91 for everybody above 89."""
    anchor_year: int
    sex: str | None


class _Admission(NamedTuple):
    date: str
    """YYYYMMDD, shifted like every date of MIMIC."""
    admission_id: str
    race: str
    insurance: str


@dataclass(frozen=True)
class MimicIv:
    """Patients and their admissions in order of date."""

    tables: tuple[tuple[str, str], ...]
    """Name and sha256 of each."""
    patients: Mapping[str, _Patient] = field(repr=False)
    admissions: Mapping[str, list[_Admission]] = field(repr=False)
    warning: str | None
    """Where under half of the patients are there."""

    def at(self, patient: str, date: str) -> Person:
        """A patient on the day of a study.

        The age is anchor_age + year of the study - anchor_year. Race and insurance are each the first that is filled
        in, from the last admission that began by that day backwards, then from the first after it onwards.

        Args:
            date: YYYYMMDD, or empty when unknown: then there is no age, and all admissions lie after it.
        """
        known = self.patients.get(patient)
        age = known.anchor_age + int(date[:4]) - known.anchor_year if known is not None and date else None
        admissions = self.admissions.get(patient, [])
        before = [admission for admission in admissions if admission.date <= date]
        nearest = [*reversed(before), *admissions[len(before) :]]
        return Person(
            age_years=float(age) if age is not None and age >= 0 else None,
            sex=known.sex if known is not None else None,
            race=next((admission.race for admission in nearest if admission.race), None),
            insurance=next((admission.insurance for admission in nearest if admission.insurance), None),
        )


def read_mimic_iv(storage: Storage, *, patients: Collection[str]) -> MimicIv:
    """Read `hosp/patients.csv.gz` and `hosp/admissions.csv.gz`, each also without .gz.

    Args:
        patients: MIMIC-CXR's subject_id; others are not kept.

    Raises:
        UserError: a table is missing or has no such column, a patient whose rows disagree, none of the
            patients, or a bad number or date.
    """
    people, admitted = _table(storage, "patients"), _table(storage, "admissions")
    found: dict[str, _Patient] = {}
    subjects = people.ids("subject_id", prefix="p")
    ages, years, genders = map(people.cells, ("anchor_age", "anchor_year", "gender"))
    for i in people.once("subject_id", subjects, what="patient", same=(ages, years, genders)):
        patient, age, year, gender = subjects[i], ages[i], years[i], genders[i]
        if patient in patients:
            number = (_number(people, i, "anchor_age", age), _number(people, i, "anchor_year", year))
            found[patient] = _Patient(*number, gender if gender in ("F", "M") else None)
    admissions: dict[str, list[_Admission]] = {}
    cells = map(admitted.cells, ("admittime", "hadm_id", "race", "insurance"))
    columns = (admitted.ids("subject_id", prefix="p"), *cells)
    for i, (patient, time, *rest) in enumerate(zip(*columns, strict=True)):
        if patient in patients:
            if not re.match(r"\d{4}-\d\d-\d\d\b", time):
                where = admitted.cell(i, "admittime")
                raise UserError(
                    "bad-date", "bad date", where=where, found=shown(time), expected="YYYY-MM-DD and a time"
                )
            admissions.setdefault(patient, []).append(_Admission(time[:10].replace("-", ""), *rest))
    for of_patient in admissions.values():
        of_patient.sort()
    warning = check_join(
        patients,
        len(found),
        subjects,
        what="patients",
        where=people.where,
        remedy="Is data.mimic_iv_dir the whole of MIMIC-IV?",
    )
    return MimicIv(tuple((table.name, table.sha256) for table in (people, admitted)), found, admissions, warning)


def _table(storage: Storage, name: str) -> Table:
    plain = f"hosp/{name}.csv"
    return read_table(storage, plain if storage.exists(plain) else f"{plain}.gz")


def _number(table: Table, row: int, column: str, cell: str) -> int:
    cell = re.sub(r"\.0+$", "", cell)
    if not re.fullmatch(r"\d{1,4}", cell):
        raise UserError(
            "bad-number", "bad number", where=table.cell(row, column), found=shown(cell), expected="whole years"
        )
    return int(cell)
