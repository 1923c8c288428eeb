"""What evaluation writes into the training's MLflow run: metrics, figures, tables and the model card."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.cxr.labels import BLANK, truth_of
from components.cxr.report import METRICS, Report, Score
from components.cxr.shards import LoadedManifest
from components.cxr.tracking.tracked_run import TrackedRun
from components.evaluate.figures import Panel, figures
from components.evaluate.table import CONDITION_NAMES

__all__ = ["log_evaluation", "metrics_of"]

FIELDS = ("auroc", "average_precision", "accuracy", "precision", "recall", "f1", "ece")


def log_evaluation(
    tracked: TrackedRun,
    report: Report,
    predictions: pa.Table,
    *,
    card: str,
    manifest: LoadedManifest,
    key: str,
) -> None:
    """Log everything of one evaluation once; `key` marks the run as done.

    Args:
        predictions: as write_predictions documents; only drawn, never logged, because it holds ids.
        card: the model card.
    """
    if tracked.tag("evaluation") == key:
        return
    tracked.dataset(manifest, "test")
    tracked.metrics(metrics_of(report), step=0)
    score = report.headline
    subtitle = (
        f"{CONDITION_NAMES[score.condition].capitalize()}; {score.num_studies:,} test studies of "
        f"{score.num_patients:,} patients; protocol {score.protocol}."
    )
    subtitle = f"LEAKY. {subtitle}" if report.leaky else subtitle
    for name, figure in figures(_panels(predictions, score), score, subtitle=subtitle).items():
        tracked.figure(figure, f"evaluation/{name}")
    tracked.table(_pathology_table(score), "evaluation/pathologies.csv")
    tracked.table(_condition_table(report), "evaluation/conditions.csv")
    tracked.text(card, "evaluation/MODEL_CARD.md")
    tracked.tags({"leaky": str(report.leaky).lower(), "bundle_hash": report.bundle_hash, "evaluation": key})


def metrics_of(report: Report) -> dict[str, float]:
    """Names and values for MLflow: `test/auroc/<pathology>`, `test/auroc/mean`, `test/image/auroc/mean_low` …

    Everything of a leaky model is named `LEAKY/test/…`.
    """
    prefix = "LEAKY/test" if report.leaky else "test"
    values: dict[str, float | None] = {}
    headline = report.headline
    for field in FIELDS:
        for name, found in headline.pathologies.items():
            values[f"{prefix}/{field}/{name}"] = getattr(found, field)
        values[f"{prefix}/{field}/mean"] = getattr(headline.mean, field)
    for score in report.scores:
        truth = report.second_truth if score.protocol == "truth" else None
        parts = [truth.name] if truth else []
        parts += [] if score is headline or (truth and score.condition == "all") else [score.condition]
        parts += ["common"] if score.subset == "common" else []
        parts += ["protocol_B"] if score.protocol == "B" else []
        parts += ["by_image"] if score.unit == "image" else []
        name = "/".join([prefix, *parts, "auroc", "mean"])
        values[name] = score.mean.auroc
        ci = score.mean.intervals.get("auroc")
        values[f"{name}_low"] = ci.low if ci else None
        values[f"{name}_high"] = ci.high if ci else None
    if report.second_truth is not None:
        second = report.second_truth
        for name, found in report.score("all", protocol="truth").pathologies.items():
            values[f"{prefix}/{second.name}/auroc/{name}"] = found.auroc
        for name, agreed in second.agreement.items():
            values[f"{prefix}/{second.name}/label_kappa/{name}"] = agreed.kappa
    return {re.sub(r"[^\w\-. :/]", "_", name): value for name, value in values.items() if value is not None}


def _panels(predictions: pa.Table, score: Score) -> dict[str, Panel]:
    """The headline's studies by pathology."""
    table = predictions.filter(pc.equal(predictions.column("condition"), score.condition))
    labeled_S = table.column("labeled").to_numpy()
    panels = {}
    for name in score.pathologies:
        states_S1 = table.column(f"label/{name}").fill_null(BLANK).to_numpy().astype(np.int8)[:, None]
        truth_S = truth_of(states_S1, labeled_S, protocol="A")[:, 0]
        known_S = truth_S != BLANK
        raw_S, probability_S = (table.column(f"{kind}/{name}").to_numpy() for kind in ("score", "probability"))
        panels[name] = Panel(raw_S[known_S], probability_S[known_S], truth_S[known_S] == 1)
    return panels


def _pathology_table(score: Score) -> pa.Table:
    rows = [{"pathology": name, **_flat(found.model_dump())} for name, found in score.pathologies.items()]
    mean = {"pathology": "mean", **_flat(score.mean.model_dump(exclude={"pathologies"}))}
    return pa.Table.from_pylist([*rows, mean], schema=pa.Table.from_pylist(rows).schema)


def _condition_table(report: Report) -> pa.Table:
    keys = ("condition", "protocol", "unit", "subset", "num_patients", "num_studies", "num_rows")
    rows = [
        {key: getattr(score, key) for key in keys} | _flat(score.mean.model_dump(exclude={"pathologies"}))
        for score in report.scores
    ]
    return pa.Table.from_pylist(rows)


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Every interval as two columns."""
    return dict(_flattened(values))


def _flattened(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if name == "intervals":
            for metric in METRICS:
                for end in ("low", "high"):
                    yield f"{metric}_{end}", value[metric][end] if metric in value else None
        elif name != "resamples":
            yield name, value
