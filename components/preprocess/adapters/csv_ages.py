"""Ages of a table in years: as it writes them, or from the birth to the day of the study."""

from __future__ import annotations

from components.cxr.ages import age_on, read_age, read_age_group
from components.cxr.errors import UserError
from components.cxr.storage.tables import Table, is_unknown
from components.preprocess.config import CsvData

__all__ = ["read_ages"]


def read_ages(table: Table, config: CsvData) -> tuple[list[float | None], int]:
    """Each row's age in years, and how many are outside 0 to 130 and therefore unknown.

    Raises:
        UserError: no such column, or a cell that is no age, year or date.
    """
    columns = config.columns
    if columns.birth is not None and columns.study_date is not None:
        return _from_dates(table, columns.birth, columns.study_date)
    if columns.age_years is not None:
        return _as_written(table, columns.age_years)
    return [None] * len(table), 0


def _as_written(table: Table, column: str) -> tuple[list[float | None], int]:
    ages: list[float | None] = []
    num_bad = 0
    for row, cell in enumerate(table.cells(column, field="data.columns.age_years")):
        age = None
        try:
            if cell:
                age = read_age(cell)
                num_bad += age is None
        except ValueError:
            age = read_age_group(cell)
            if age is None and not is_unknown(cell):
                where = table.cell(row, column)
                expected = "years as a number, an age like 058Y or 6M, a group like 40-44 or 85+, or nothing"
                raise UserError("bad-age", "bad age", where=where, expected=expected) from None
        ages.append(age)
    return ages, num_bad


def _from_dates(table: Table, birth: str, day: str) -> tuple[list[float | None], int]:
    births = table.cells(birth, field="data.columns.birth")
    days = table.cells(day, field="data.columns.study_date")
    ages: list[float | None] = []
    num_bad = 0
    for row, (born, on) in enumerate(zip(births, days, strict=True)):
        age = None
        if not is_unknown(born) and not is_unknown(on):
            try:
                age = age_on(born, on)
            except ValueError:
                where = f"{table.cell(row, birth)} or {day}"
                expected = "a year or a date, such as 1967, 19670915 or 1967-09-15, or nothing"
                raise UserError("bad-date", "bad date", where=where, expected=expected) from None
            num_bad += age is None
        ages.append(age)
    return ages, num_bad
