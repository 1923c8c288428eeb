"""An evaluation's numbers as tables for MLflow's artifacts: every score with its interval, and answers without ids."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from components.cxr.report import METRICS, Difference, Estimate, Interval, Metrics, Report, Score

__all__ = [
    "agreement_table", "all_scores", "condition_table", "history_table", "pathology_table", "reliability_table",
    "subgroup_table", "uncertain_table", "without_ids",
]  # fmt: skip

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
        rows.append({"pathology": name, **values, **_bounds("kappa", agreed.kappa_ci)})
    return _table(rows)


def subgroup_table(report: Report) -> pa.Table | None:
    """A row per subgroup: counts, mean scores with bounds, and the gaps to all others; None where none is known."""
    rows = []
    for group in report.subgroups:
        row = group.model_dump(include={"attribute", "group", "studies", "patients", "too_small"})
        for name in ("auroc", "tpr", "fpr", "underdiagnosis"):
            found = getattr(group, name)
            row |= {name: found.value} | _bounds(name, found.ci)
            row |= {f"{name}_gap": found.gap} | _bounds(f"{name}_gap", found.gap_ci)
        rows.append(row | {"pathologies": ", ".join(group.pathologies)})
    return _table(rows) if rows else None


def history_table(report: Report) -> pa.Table | None:
    """A row per number of what films add to the history, and its controls; None where it is not known."""
    if (found := report.history) is None:
        return None
    rows = [
        *(_history(condition, "auroc", value) for condition, value in found.plain.items()),
        *(_history(condition, "balanced_auroc", value) for condition, value in found.balanced.items()),
        *(_history("image", "balanced_auroc", value, pathology=name) for name, value in found.films.items()),
        _history("context", "auroc", found.context),
        _history("context", "balanced_auroc", found.context_balanced),
        _history("image over context", "balanced_auroc", found.films_over_context),
        _history("text", "auroc", found.text),
        _history("meta", "auroc", found.meta),
        _history("text over image", "auroc", found.text_over_films),
        _history("all, text of another patient", "auroc", found.shuffled),
        _history("all over all, text of another patient", "auroc", found.own_over_shuffled),
    ]
    return _table([row for row in rows if row])


def uncertain_table(report: Report) -> pa.Table | None:
    """A row per pathology with uncertain labels: how the third state does; None where there are none.

    `label_X_answer_Y` counts studies, X and Y being -1, 0 or 1.
    """
    rows = []
    for name, found in report.uncertain.items():
        row = {"pathology": name} | found.model_dump(include={"uncertain", "uncertain_patients", "auroc", "abstention"})
        row |= _bounds("auroc", found.auroc_ci) | _bounds("abstention", found.abstention_ci)
        for label, counts in zip((-1, 0, 1), found.confusion, strict=True):
            row |= {f"label_{label}_answer_{state}": n for state, n in zip((-1, 0, 1), counts, strict=True)}
        rows.append(row)
    return _table(rows) if rows else None


def reliability_table(report: Report) -> pa.Table:
    """A row per pathology: Brier score and calibration error before and after Platt scaling."""
    rows = []
    for name, before in report.uncalibrated.items():
        after = report.headline.pathologies[name]
        row: dict[str, Any] = {"pathology": name}
        for metric in ("brier", "ece"):
            row |= {f"{metric}_before": getattr(before, metric)}
            row |= _bounds(f"{metric}_before", getattr(before, f"{metric}_ci"))
            row |= {f"{metric}_after": getattr(after, metric)}
            row |= _bounds(f"{metric}_after", after.intervals.get(metric))
        rows.append(row)
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
    return {
        "pathology": name,
        **_metrics(found),
        "threshold": found.threshold,
        "prevalence": found.prevalence,
        **counts,
    }


def _metrics(found: Metrics) -> dict[str, float | None]:
    """Each metric with its bounds beside it."""
    values: dict[str, float | None] = {}
    for metric in METRICS:
        values |= {metric: getattr(found, metric)} | _bounds(metric, found.intervals.get(metric))
    return values


def _bounds(name: str, ci: Interval | None) -> dict[str, float | None]:
    low, high = (ci.low, ci.high) if ci else (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _history(
    of: str, score: str, found: Estimate | Difference | None, *, pathology: str = "mean"
) -> dict[str, object] | None:
    if found is None:
        return None
    value = found.difference if isinstance(found, Difference) else found.value
    return {"of": of, "score": score, "pathology": pathology, "value": value, **_bounds("value", found.ci)}


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    """Columns of all rows; a row without one has null there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: [row.get(name) for row in rows] for name in names})
