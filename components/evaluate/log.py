"""What evaluation writes into MLflow: few metrics, of the model and its data; figures, tables, report and card."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.cxr.labels import BLANK, truth_of
from components.cxr.report import Metric, Metrics, Report, Score
from components.cxr.shards import LoadedManifest
from components.cxr.tracking.identity import NOTE
from components.cxr.tracking.tracked_run import TrackedRun
from components.evaluate.figures import Panel, figures
from components.evaluate.film_sheet import film_sheet
from components.evaluate.table import CONDITION_NAMES, marked, number, support_note, with_interval
from components.evaluate.tables import (
    agreement_table,
    all_scores,
    condition_table,
    history_table,
    pathology_table,
    reliability_table,
    subgroup_table,
    uncertain_table,
    without_ids,
)

__all__ = ["headline_of", "log_evaluation", "metrics_of", "note_of", "panels", "subtitle_of"]

HEADLINE: tuple[Metric, ...] = ("auroc", "average_precision", "f1", "brier", "ece")
"""Means that are metrics of the run; all others are in the tables."""


def log_evaluation(
    tracked: TrackedRun,
    report: Report,
    predictions: pa.Table,
    *,
    card: str,
    manifest: LoadedManifest,
    data_set: str,
    model_id: str | None,
    key: str,
    films: bool = False,
) -> None:
    """Log everything of one evaluation once; `key` marks the run as done.

    Args:
        predictions: as write_predictions documents; logged under running numbers, without ids.
        card: the model card.
        data_set: its name, for people.
        films: log a sheet of test films too.
        model_id: MLflow's logged model, whose metrics these are; None when it could not be registered.
    """
    logged = tracked.tag("evaluation")
    if films and logged != f"{key} with films":
        tracked.figure(film_sheet(report, manifest), "evaluation/films.png")
        tracked.tags({"evaluation": f"{key} with films"} if logged == key else {})
    if logged in (key, f"{key} with films"):
        return
    test = tracked.dataset(manifest, "test", name=data_set)
    tracked.scores(metrics_of(report), model_id=model_id, dataset=test)
    note = note_of(report)
    for name, figure in figures(
        panels(predictions, report.headline), report.headline, subtitle=subtitle_of(report)
    ).items():
        tracked.figure(figure, f"evaluation/{name}")
    tables = {
        "pathologies": pathology_table(report.headline),
        "conditions": condition_table(report),
        "all_scores": all_scores(report),
        "agreement": agreement_table(report),
        "subgroups": subgroup_table(report),
        "history": history_table(report),
        "uncertain": uncertain_table(report),
        "reliability": reliability_table(report),
    }
    for name, table in tables.items():
        if table is not None:
            tracked.table(table, f"evaluation/{name}.csv")
    buffer = io.BytesIO()
    pq.write_table(without_ids(predictions), buffer, compression="zstd")
    tracked.file(buffer.getvalue(), "evaluation/predictions.parquet")
    tracked.text(json.dumps(report.model_dump(mode="json"), indent=1) + "\n", "evaluation/report.json")
    tracked.text(card, "evaluation/MODEL_CARD.md")
    tags = {NOTE: note, "bundle_hash": report.bundle_hash, "leaky": str(report.leaky).lower()}
    tracked.tags(tags | ({"LEAKY": "; ".join(report.leaks)} if report.leaky else {}))
    if tracked.parent is not None:
        tracked.parent.scores(headline_of(report), model_id=None, dataset=None)
        tracked.parent.tags({NOTE: note, "evaluate_run": str(tracked.id), "bundle_hash": report.bundle_hash})
    tracked.tags({"evaluation": f"{key} with films" if films else key})  # the last: everything is there


def metrics_of(report: Report) -> dict[str, float]:
    """Names and values for MLflow: the headline, and the AUROC per pathology as `test/auroc/<pathology>`.

    Everything of a leaky model is named `LEAKY/test/…`.
    """
    values = headline_of(report)
    for name, found in report.headline.pathologies.items():
        if found.auroc is not None:
            values[_named(f"{_prefix(report)}/auroc/{name}")] = found.auroc
    return values


def headline_of(report: Report) -> dict[str, float]:
    """Means with their bounds: `test/auroc`, `test/auroc_low`, `test/auroc_high` …; from films alone as
    `test/image/auroc`, against a second truth as `test/<its name>/auroc`."""
    prefix = _prefix(report)
    values: dict[str, float] = {}
    for metric in HEADLINE:
        values |= _bounded(f"{prefix}/{metric}", report.headline.mean, metric)
    values |= _bounded(f"{prefix}/image/auroc", report.score("image").mean, "auroc")
    if report.second_truth is not None:
        truth = report.score("all", protocol="truth").mean
        values |= _bounded(f"{prefix}/{report.second_truth.name}/auroc", truth, "auroc")
    return values


def note_of(report: Report) -> str:
    """The run's description in MLflow, as Markdown: the headline, then a row per pathology."""
    score = report.headline
    lines = [
        f"**LEAKY: {'; '.join(report.leaks)}.** The scores prove nothing.\n" if report.leaky else "",
        f"Mean AUROC {with_interval(score.mean, 'auroc')}, from films alone "  # a list of versions shows it unrendered
        f"{with_interval(report.score('image').mean, 'auroc')}: {subtitle_of(report)}\n",
        "| Pathology | AUROC (95 % interval) | Average precision | Positives |",
        "|:---|:---|:---|:---|",
    ]
    for name, found in score.pathologies.items():
        shown = marked(name, found).replace("*", r"\*")
        auroc, precision = with_interval(found, "auroc"), number(found.average_precision)
        lines.append(f"| {shown} | {auroc} | {precision} | {found.positives:,} |")
    lines.append("\n" + support_note(score).replace("*", r"\*"))
    lines.append("All scores with intervals, figures and the model card: Artifacts, folder `evaluation`.")
    return "\n".join(line for line in lines if line)


def subtitle_of(report: Report) -> str:
    """What the headline was computed on."""
    score = report.headline
    subtitle = (
        f"{CONDITION_NAMES[score.condition].capitalize()}; {score.num_studies:,} test studies of "
        f"{score.num_patients:,} patients; protocol {score.protocol}."
    )
    return f"LEAKY. {subtitle}" if report.leaky else subtitle


def panels(predictions: pa.Table, score: Score) -> dict[str, Panel]:
    """The studies of a score by pathology."""
    table = predictions.filter(pc.equal(predictions.column("condition"), score.condition))
    labeled_S = table.column("labeled").to_numpy()
    found = {}
    for name in score.pathologies:
        states_S1 = table.column(f"label/{name}").fill_null(BLANK).to_numpy().astype(np.int8)[:, None]
        truth_S = truth_of(states_S1, labeled_S, protocol="A")[:, 0]
        known_S = truth_S != BLANK
        raw_S, probability_S = (table.column(f"{kind}/{name}").to_numpy() for kind in ("score", "probability"))
        found[name] = Panel(raw_S[known_S], probability_S[known_S], truth_S[known_S] == 1)
    return found


def _bounded(name: str, mean: Metrics, metric: Metric) -> dict[str, float]:
    value, ci = getattr(mean, metric), mean.intervals.get(metric)
    if value is None:
        return {}
    return {_named(name): value} | ({_named(f"{name}_low"): ci.low, _named(f"{name}_high"): ci.high} if ci else {})


def _prefix(report: Report) -> str:
    return "LEAKY/test" if report.leaky else "test"


def _named(name: str) -> str:
    """A name that MLflow allows."""
    return re.sub(r"[^\w\-. :/]", "_", name)
