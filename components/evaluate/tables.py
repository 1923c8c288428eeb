"""An evaluation's numbers as tables for MLflow's artifacts: every score with its interval, and answers without ids."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from components.cxr.report import METRICS, Metrics, Report, Score

__all__ = ["agreement_table", "all_scores", "condition_table", "pathology_table", "without_ids"]

_COUNTS = ("positives", "negatives", "unknown", "positive_patients", "negative_patients")


def pathology_table(score: Score) -> pa.Table:
    """A row per pathology and one for the mean: every metric with its bounds, threshold and counts."""
    rows = [_pathology(name, found) for name, found in score.pathologies.items()]
    return _table([*rows, {"pathology": "mean", **_metrics(score.mean)}])


def condition_table(report: Report) -> pa.Table:
    """A row per condition, protocol, unit and subset: the means."""
    return _table([_keys(score) | _metrics(score.mean) for score in report.scores])


def all_scores(report: Report) -> pa.Table:
    """A row per pathology (and mean) of every condition, protocol, unit and subset."""
    rows: list[dict[str, Any]] = []
    for score in report.scores:
        rows += [_keys(score) | _pathology(name, found) for name, found in score.pathologies.items()]
        rows.append(_keys(score) | {"pathology": "mean", **_metrics(score.mean)})
    return _table(rows)


def agreement_table(report: Report) -> pa.Table | None:
    """How far labels and second truth agree, per pathology; None without a second truth."""
    if report.second_truth is None:
        return None
    rows = []
    for name, agreed in report.second_truth.agreement.items():
        values = agreed.model_dump(exclude={"kappa_ci"})
        ci = agreed.kappa_ci
        rows.append({"pathology": name, **values, "kappa_low": ci and ci.low, "kappa_high": ci and ci.high})
    return _table(rows)


def without_ids(predictions: pa.Table) -> pa.Table:
    """The answers under running numbers: `patient` and `study` count from 1 and tell only what belongs together."""
    columns = {name.removesuffix("_id"): _numbers(predictions.column(name)) for name in ("patient_id", "study_id")}
    kept = predictions.drop_columns(["patient_id", "study_id"])
    for name, numbers in reversed(columns.items()):
        kept = kept.add_column(0, name, numbers)
    return kept.replace_schema_metadata(None)


def _numbers(ids: pa.ChunkedArray) -> pa.Array:
    known: dict[Any, int] = {}
    return pa.array([known.setdefault(one, len(known) + 1) for one in ids.to_pylist()], pa.int32())


def _keys(score: Score) -> dict[str, Any]:
    names = ("condition", "protocol", "unit", "subset", "num_patients", "num_studies", "num_rows")
    return {name: getattr(score, name) for name in names}


def _pathology(name: str, found: Any) -> dict[str, Any]:
    counts = {count: getattr(found, count) for count in _COUNTS}
    return {"pathology": name, **_metrics(found), "threshold": found.threshold, **counts}


def _metrics(found: Metrics) -> dict[str, float | None]:
    """Each metric with its bounds beside it."""
    values: dict[str, float | None] = {}
    for metric in METRICS:
        ci = found.intervals.get(metric)
        values[metric] = getattr(found, metric)
        values[f"{metric}_low"], values[f"{metric}_high"] = (ci.low, ci.high) if ci else (None, None)
    return values


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    """Columns of all rows; a row without one has null there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: [row.get(name) for row in rows] for name in names})
