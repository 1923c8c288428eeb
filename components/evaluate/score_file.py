"""`python -m components.evaluate score FILE` and `compare FILE FILE`: from tables alone, without model or films."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table
from rich.text import Text

from components.cxr.errors import UserError
from components.cxr.report import LOW_SUPPORT, METRICS, Difference, Interval, MeanScore, PathologyScore
from components.cxr.storage.storage import file_at
from components.evaluate.bootstrap import draw
from components.evaluate.gains import paired
from components.evaluate.metrics import mean_score, pathology_score
from components.evaluate.scored_file import Blank, ScoredFile, read_scored
from components.evaluate.table import print_whole, table_console

__all__ = ["compare", "compared", "score", "scored"]

_TITLES = {
    "auroc": "AUROC",
    "average_precision": "AP",
    "sensitivity_at_90_specificity": "Sens. at 90",
    "sensitivity_at_95_specificity": "Sens. at 95",
    "specificity_at_90_sensitivity": "Spec. at 90",
    "specificity_at_95_sensitivity": "Spec. at 95",
    "f1": "F1",
    "ppv": "PPV",
    "npv": "NPV",
    "ece": "ECE",
}

PatientOption = Annotated[str, typer.Option(metavar="COLUMN", help="Rows of one patient are resampled together.")]
StudyOption = Annotated[str, typer.Option(metavar="COLUMN", help="One row each.")]
ConditionOption = Annotated[
    str, typer.Option(help="Rows of predictions.parquet: all, image, image+meta, text or meta.")
]
BlankOption = Annotated[
    Blank | None,
    typer.Option(
        help="What blank and uncertain labels count as; negative where the file says which rows were labeled, as "
        "predictions.parquet does, else unknown.",
        show_default=False,
    ),
]
MetricOption = Annotated[
    list[str] | None,
    typer.Option("--metric", metavar="NAME", help="Print these; --json has all.", show_default=False),
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        help="Probability (or score, where scores leave 0 to 1) from which the answer is yes; without one an "
        "evaluation's own, or no accuracy, precision, recall, specificity, F1, PPV and NPV.",
        show_default=False,
    ),
]
BootstrapOption = Annotated[int, typer.Option(min=100, help="Resamples of the patients.")]
JsonOption = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the numbers there too, local or gs://.")
]


def score(
    file: Annotated[str, typer.Argument(help="predictions.parquet, or a CSV; local or gs://.", show_default=False)],
    patient: PatientOption = "patient_id",
    study: StudyOption = "study_id",
    condition: ConditionOption = "all",
    blank: BlankOption = None,
    metric: MetricOption = None,
    threshold: ThresholdOption = None,
    bootstrap: BootstrapOption = 1000,
    json_file: JsonOption = None,
) -> None:
    """Scores of every finding in a table of scores and labels, with intervals over patients."""
    for name in metric or ():
        if name not in METRICS:
            raise UserError(
                "unknown-metric", "no such metric", where="--metric", found=name, expected=", ".join(METRICS)
            )
    read = read_scored(file, patient=patient, study=study, condition=condition)
    found = scored(read, blank=blank, threshold=threshold, num_bootstrap=bootstrap)
    shown = metric or ["auroc", "average_precision"]
    table = _table(f"{len(read.studies):,} rows of {len(set(read.patients)):,} patients")
    titles = [title for name in shown for title in (_TITLES.get(name, name.capitalize()), "95 % interval")]
    for title in (*titles, "Pos.", "Neg.", "Unknown"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, row in found["findings"].items():
        counts = (f"{row[key]:,}" for key in ("positives", "negatives", "unknown"))
        table.add_row(name + (" *" if row["low_support"] else ""), *_cells(row, shown), *counts)
    table.add_section()
    mean = found["mean"]
    table.add_row(f"Mean of {len(mean['findings'])}", *_cells(mean, shown), style="bold")
    _print(table, found, json_file)


def compare(
    first: Annotated[str, typer.Argument(help="Table of the one model.", show_default=False)],
    second: Annotated[str, typer.Argument(help="Of the other, on the same studies.", show_default=False)],
    patient: PatientOption = "patient_id",
    study: StudyOption = "study_id",
    condition: ConditionOption = "all",
    blank: BlankOption = None,
    bootstrap: BootstrapOption = 1000,
    json_file: JsonOption = None,
) -> None:
    """AUROC of the first table minus the second, paired by study, with intervals and adjusted p-values."""
    read = [read_scored(file, patient=patient, study=study, condition=condition) for file in (first, second)]
    found = compared(*read, blank=blank, num_bootstrap=bootstrap)
    table = _table(f"First minus second, {found['rows']:,} rows of {found['patients']:,} patients")
    for name in ("AUROC", "95 % interval", "p, adjusted"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in found["findings"].items():
        table.add_row(name, _number(row["difference"], "+.3f"), _span(row["ci"], "+.3f"), _number(row["p_value"]))
    table.add_section()
    mean = found["mean"]
    cells = (_number(mean["difference"], "+.3f"), _span(mean["ci"], "+.3f"), "")
    table.add_row(f"Mean of {len(mean['findings'])}", *cells, style="bold")
    _print(table, found, json_file)


def scored(
    read: ScoredFile, *, blank: Blank | None = None, threshold: float | None = None, num_bootstrap: int = 1000
) -> dict[str, Any]:
    """What `score` writes with --json: by finding, and the mean over those whose AUROC is defined.

    Args:
        threshold: of every finding; None for an evaluation's own.
    """
    blank = blank or _default(read)
    truth_NP = read.truth(blank)
    draws = draw(read.patients, num_resamples=num_bootstrap, seed=0)
    scores = {
        name: pathology_score(
            read.score_NP[:, p],
            truth_NP[:, p],
            draws=draws,
            threshold=read.threshold_P[p] if threshold is None else threshold,
            probability_N=None if read.probability_NP is None else read.probability_NP[:, p],
        )
        for p, name in enumerate(read.findings)
    }
    mean = mean_score(scores, headline=read.findings)
    findings = {name: _plain(each.score) | {"low_support": each.score.low_support} for name, each in scores.items()}
    counts = {"rows": len(read.studies), "patients": len(set(read.patients)), "resamples": num_bootstrap}
    return counts | {"blank": blank, "findings": findings, "mean": {"findings": mean.pathologies, **_plain(mean)}}


def compared(first: ScoredFile, second: ScoredFile, *, blank: Blank | None, num_bootstrap: int) -> dict[str, Any]:
    """What `compare` prints.

    Raises:
        UserError: the tables have other studies, findings, patients or labels.
    """
    second = _same_rows(first, second)
    if first.labeled_N is None:  # one table that says it is enough
        first = first._replace(labeled_N=second.labeled_N)
    blank = blank or _default(first)
    truth_NP = first.truth(blank)
    gain, mean = paired(
        first.score_NP,
        second.score_NP,
        truth_NP,
        first.patients,
        names=first.findings,
        headline=first.findings,
        num_resamples=num_bootstrap,
        seed=0,
    )
    defined = [name for name in first.findings if gain[name].difference is not None]
    counts = {"rows": len(first.studies), "patients": len(set(first.patients)), "resamples": num_bootstrap}
    findings = {name: _difference(each) for name, each in gain.items()}
    return counts | {"blank": blank, "findings": findings, "mean": {"findings": defined, **_difference(mean)}}


def _same_rows(first: ScoredFile, second: ScoredFile) -> ScoredFile:
    """The second table in the order of the first."""
    place = {study: n for n, study in enumerate(second.studies)}
    shared = sum(study in place for study in first.studies)
    if shared < max(len(first.studies), len(second.studies)):
        found = f"{shared:,} studies in both of {len(first.studies):,} and {len(second.studies):,}"
        raise UserError("other-studies", "the tables are not of the same studies", where=second.where, found=found)
    if set(first.findings) != set(second.findings):
        found, expected = (", ".join(file.findings) for file in (second, first))
        raise UserError(
            "other-findings", "the tables have other findings", where=second.where, found=found, expected=expected
        )
    row_N = np.array([place[study] for study in first.studies], dtype=np.int64)
    column_P = [second.findings.index(name) for name in first.findings]
    state_NP = second.state_NP[row_N][:, column_P]
    patients = [second.patients[row] for row in row_N]
    labeled_N = None if second.labeled_N is None else second.labeled_N[row_N]
    other_N = (state_NP != first.state_NP).any(axis=1) | (np.asarray(patients) != np.asarray(first.patients))
    if first.labeled_N is not None and labeled_N is not None:
        other_N |= first.labeled_N != labeled_N
    if other_N.any():
        found = f"{int(other_N.sum()):,} of {len(row_N):,} studies"
        raise UserError("other-labels", "the tables differ in labels or patients", where=second.where, found=found)
    score_NP = second.score_NP[row_N][:, column_P]
    return second._replace(
        findings=first.findings,
        score_NP=score_NP,
        state_NP=state_NP,
        patients=patients,
        studies=first.studies,
        labeled_N=labeled_N,
    )


def _default(read: ScoredFile) -> Blank:
    return "unknown" if read.labeled_N is None else "negative"


def _difference(found: Difference) -> dict[str, Any]:
    return {"difference": found.difference, "ci": _ends(found.ci), "p_value": found.p_value}


def _plain(score: PathologyScore | MeanScore) -> dict[str, Any]:
    """Values, their intervals as pairs, and counts."""
    intervals = {name: _ends(found) for name, found in score.intervals.items()}
    return score.model_dump(exclude={"pathologies"}) | {"intervals": intervals}


def _ends(found: Interval | None) -> list[float] | None:
    return None if found is None else [found.low, found.high]


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Finding", no_wrap=True)
    return table


def _print(table: Table, found: dict[str, Any], json_file: str | None) -> None:
    console = table_console()
    print_whole(console, table)
    blank = "count as negative" if found["blank"] == "negative" else "do not count"
    console.print(Text(f"Blank and uncertain labels {blank}. Intervals: 95 %, over patients."))
    if any(row.get("low_support") for row in found["findings"].values()):
        console.print(Text(f"* fewer than {LOW_SUPPORT} patients with, or without, the finding: hardly known."))
    if json_file is not None:
        storage, name = file_at(json_file)
        storage.write(name, (json.dumps(found, indent=1) + "\n").encode())


def _cells(row: dict[str, Any], shown: Sequence[str]) -> list[str]:
    return [cell for name in shown for cell in (_number(row[name]), _span(row["intervals"].get(name)))]


def _number(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else f"{value:{form}}"


def _span(ends: list[float] | None, form: str = ".3f") -> str:
    if ends is None:
        return "–"
    return f"{ends[0]:{form}} to {ends[1]:{form}}"
