"""Anybody's table of scores and labels: `predictions.parquet`, or a CSV that any program can write.

Shape letters: N rows (studies or films), P findings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from components.cxr.errors import UserError
from components.cxr.labels import BLANK, NEGATIVE, POSITIVE, UNCERTAIN
from components.cxr.operating_points import OPERATING_POINTS, load_operating_points
from components.cxr.storage.parquet import parquet_table
from components.cxr.storage.storage import Storage, file_at
from components.cxr.storage.tables import Table, open_table, shown

__all__ = ["Blank", "ScoredFile", "read_scored"]

Blank = Literal["negative", "unknown"]


class ScoredFile(NamedTuple):
    """Scores and labels, row by row."""

    where: str
    findings: tuple[str, ...]
    score_NP: npt.NDArray[np.float64]
    """Any number that grows with the probability."""
    probability_NP: npt.NDArray[np.float64] | None
    """In [0, 1]; None where the file has none."""
    threshold_P: tuple[float | None, ...]
    """Probability from which an evaluation says yes, from `operating_points.json` beside its `predictions.parquet`."""
    state_NP: npt.NDArray[np.int8]
    """1, 0, -1, or BLANK."""
    patients: list[str]
    studies: list[str]
    labeled_N: npt.NDArray[np.bool_] | None
    """Whether anybody labeled the row; None where the file does not say."""

    def truth(self, blank: Blank) -> npt.NDArray[np.int8]:
        """1, 0, or BLANK for an entry that does not count (N, P); an uncertain label is taken as a blank one is."""
        truth_NP = np.where(self.state_NP == UNCERTAIN, BLANK, self.state_NP)
        if blank == "negative":
            labeled_N = np.ones(len(truth_NP), dtype=bool) if self.labeled_N is None else self.labeled_N
            truth_NP[(truth_NP == BLANK) & labeled_N[:, None]] = NEGATIVE
        if self.labeled_N is not None:
            truth_NP[~self.labeled_N] = BLANK
        return truth_NP


def read_scored(path: str, *, patient: str = "patient_id", study: str = "study_id", condition: str) -> ScoredFile:
    """Read a table with a column of patients, one of studies, and `score/<finding>` and `label/<finding>` columns.

    `score_<finding>` and `label_<finding>` do as well, and `score` and `label` alone for one finding. A Parquet file
    with a column `condition`, as evaluation writes it, is read for one of them. Probabilities are its
    `probability/<finding>` columns; of other files the scores, where all lie between 0 and 1.

    Args:
        path: local or gs://; .parquet, .csv, .csv.gz or .tsv.
        patient, study: names of the columns. Rows of one patient are resampled together.
        condition: which rows of a file that has several.

    Raises:
        UserError: no such file or column, a score that is no number, a bad label, or a study twice.
    """
    is_parquet = path.endswith(".parquet")
    found = _from_parquet(path, patient, study, condition) if is_parquet else _from_csv(path, patient, study)
    repeated = len(found.studies) - len(set(found.studies))
    if repeated:
        raise UserError(
            "duplicate-study",
            "a study has several rows",
            where=f"{found.where}, column {study}",
            found=f"{len(found.studies)} rows of {len(set(found.studies))} studies",
            remedy="Scores of single films need a column with a name per film: give it by --study.",
        )
    if "" in found.patients or "" in found.studies:
        column = patient if "" in found.patients else study
        raise UserError("missing-id", "a row has no id", where=f"{found.where}, column {column}")
    return found


def _from_csv(path: str, patient: str, study: str) -> ScoredFile:
    table = open_table(path, remedy=None)
    pairs = _pairs(table.header, where=table.where)
    score_NP = np.array([_numbers(table, score) for score, _ in pairs.values()], dtype=np.float64).T
    states = [[BLANK if state is None else state for state in table.states(label)] for _, label in pairs.values()]
    return ScoredFile(
        where=table.where,
        findings=tuple(pairs),
        score_NP=score_NP,
        probability_NP=_if_probabilities(score_NP),
        threshold_P=(None,) * len(pairs),
        state_NP=np.array(states, dtype=np.int8).T,
        patients=table.ids(patient),
        studies=table.ids(study),
        labeled_N=None,
    )


def _from_parquet(path: str, patient: str, study: str, condition: str) -> ScoredFile:
    try:
        storage, name = file_at(path)
        table = parquet_table(storage.read(name).data)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError("missing-table", "table is missing", where=path) from None
    except pa.ArrowInvalid:
        raise UserError("not-parquet", "file is not Parquet", where=path) from None
    for column in (patient, study):
        if column not in table.column_names:
            found = ", ".join(table.column_names[:8])
            raise UserError("missing-column", "table lacks a column", where=path, found=found, expected=column)
    if "condition" in table.column_names:
        names = table["condition"].to_pylist()
        rows = [i for i, name in enumerate(names) if name == condition]
        if not rows:
            known = ", ".join(sorted({str(name) for name in names}))
            raise UserError("no-condition", "no such condition", where=path, found=condition, expected=known)
        table = table.take(pa.array(rows))
    if table.num_rows == 0:
        raise UserError("empty-table", "table is empty", where=path, found="0 rows", expected="at least one row")
    pairs = _pairs(table.column_names, where=path)
    score_NP = np.stack([_column(table, score, path) for score, _ in pairs.values()], axis=1)
    state_NP = np.stack([_states(table, label, path) for _, label in pairs.values()], axis=1)
    said = [f"probability/{name}" for name in pairs]
    if set(said) <= set(table.column_names):
        probability_NP = _if_probabilities(np.stack([_column(table, name, path) for name in said], axis=1))
    else:
        probability_NP = _if_probabilities(score_NP)
    labeled_N = _labeled(table, path) if "labeled" in table.column_names else None
    patients, studies = (_ids(table[name]) for name in (patient, study))
    return ScoredFile(
        where=path,
        findings=tuple(pairs),
        score_NP=score_NP,
        probability_NP=probability_NP,
        threshold_P=_thresholds(storage, condition, tuple(pairs)),
        state_NP=state_NP,
        patients=patients,
        studies=studies,
        labeled_N=labeled_N,
    )


def _thresholds(storage: Storage, condition: str, findings: tuple[str, ...]) -> tuple[float | None, ...]:
    """Of the evaluation in whose folder the table lies, if it does."""
    if not storage.exists(OPERATING_POINTS):
        return (None,) * len(findings)
    points = load_operating_points(storage, bundle_hash=None)
    known = {str(name): found for name, found in points.conditions.items()}.get(condition, {})
    return tuple(known[name].threshold if name in known else None for name in findings)


def _if_probabilities(value_NP: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    return value_NP if ((value_NP >= 0.0) & (value_NP <= 1.0)).all() else None


def _column(table: pa.Table, name: str, path: str) -> npt.NDArray[np.float64]:
    values_N = _float64(table[name])
    if values_N is None:
        where, found = f"{path} column {name}", str(table[name].type)
        raise UserError("bad-score", "score is not a number", where=where, found=found)
    if not np.isfinite(values_N).all():
        row = int(np.flatnonzero(~np.isfinite(values_N))[0])
        raise UserError("bad-score", "score is not a number", where=f"{path} row {row + 1} column {name}")
    return values_N


def _states(table: pa.Table, name: str, path: str) -> npt.NDArray[np.int8]:
    """Of any type whose values are states; NaN, in which pandas keeps what is missing, is null."""
    values_N, expected = _float64(table[name]), "1, 0, -1 or null"
    if values_N is None:
        where, found = f"{path} column {name}", str(table[name].type)
        raise UserError("bad-label", "bad label", where=where, found=found, expected=expected)
    values_N = np.where(np.isnan(values_N), BLANK, values_N)
    bad_N = ~np.isin(values_N, (POSITIVE, NEGATIVE, UNCERTAIN, BLANK))
    if bad_N.any():
        row = int(np.flatnonzero(bad_N)[0])
        where, found = f"{path} row {row + 1} column {name}", f"{values_N[row]:g}"
        raise UserError("bad-label", "bad label", where=where, found=found, expected=expected)
    return values_N.astype(np.int8)


def _labeled(table: pa.Table, path: str) -> npt.NDArray[np.bool_]:
    """Whether somebody labeled each row; not where nothing is said."""
    values_N, expected = _float64(table["labeled"]), "true or false"
    if values_N is None:
        where, found = f"{path} column labeled", str(table["labeled"].type)
        raise UserError("bad-label", "bad mark of what is labeled", where=where, found=found, expected=expected)
    return np.asarray(np.nan_to_num(values_N) != 0.0)


def _float64(column: pa.ChunkedArray) -> npt.NDArray[np.float64] | None:
    """NaN where it is null; None where some value is no number."""
    try:
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _ids(column: pa.ChunkedArray) -> list[str]:
    """Empty where it is missing; 0 is an id, and 7.0 is 7, which pandas keeps so beside missing ones."""
    missing = column.is_null(nan_is_null=True).to_pylist()
    values = ["" if none else value for value, none in zip(column.to_pylist(), missing, strict=True)]
    return [str(int(value) if isinstance(value, float) and value.is_integer() else value) for value in values]


def _numbers(table: Table, name: str) -> list[float]:
    numbers = []
    for row, cell in enumerate(table.cells(name)):
        try:
            number = float(cell)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            where = table.cell(row, name)
            raise UserError("bad-score", "score is not a number", where=where, found=shown(cell))
        numbers.append(number)
    return numbers


def _pairs(header: Sequence[str], *, where: str) -> dict[str, tuple[str, str]]:
    """The columns of score and label of every finding that has both."""
    pairs = {}
    for column in header:
        for mark in ("/", "_"):
            if column.startswith(f"score{mark}") and (label := f"label{mark}{column[6:]}") in header:
                pairs[column[6:]] = (column, label)
    if not pairs and {"score", "label"} <= set(header):
        pairs["finding"] = ("score", "label")
    if not pairs:
        raise UserError(
            "no-score-column",
            "table has no finding with a score and a label",
            where=where,
            found=", ".join(header[:12]),
            expected="score/Edema and label/Edema, score_Edema and label_Edema, or score and label",
        )
    return pairs
