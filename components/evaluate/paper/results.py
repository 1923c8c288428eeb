"""The report's numbers as a paper's tables: text as people print it, with intervals and counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from components.cxr.operating_points import OperatingPoints
from components.cxr.report import CONDITIONS, GroupValue, Metric, PathologyScore, Report, Score
from components.evaluate.paper.table import PaperTable
from components.evaluate.table import CONDITION_NAMES, estimate, marked, number, support_note, with_interval

__all__ = ["result_tables"]

_DISCRIMINATION: tuple[tuple[str, Metric], ...] = (
    ("AUROC", "auroc"),
    ("Average precision", "average_precision"),
    ("Sensitivity at 90 % specificity", "sensitivity_at_90_specificity"),
    ("Specificity at 90 % sensitivity", "specificity_at_90_sensitivity"),
)
_AT_THRESHOLD: tuple[tuple[str, Metric], ...] = (
    ("Sensitivity", "recall"),
    ("Specificity", "specificity"),
    ("PPV", "ppv"),
    ("NPV", "npv"),
    ("F1", "f1"),
    ("Accuracy", "accuracy"),
)
_COUNTS: Mapping[str, Callable[[PathologyScore], str]] = {
    "Positive": lambda found: f"{found.positives:,}",
    "Negative": lambda found: f"{found.negatives:,}",
}
_PREVALENCE: Mapping[str, Callable[[PathologyScore], str]] = {"Prevalence": lambda found: number(found.prevalence)}
_CALIBRATION: tuple[tuple[str, Metric], ...] = (("Brier score", "brier"), ("Calibration error", "ece"))


def result_tables(report: Report, points: OperatingPoints) -> list[PaperTable]:
    """Discrimination, answers at the thresholds, calibration, kinds of input, subgroups, in this order."""
    score = report.headline
    unit = f"{score.num_studies:,} test studies of {score.num_patients:,} patients"
    note = " ".join(
        filter(
            None,
            [
                f"{unit}. In brackets: 95 % interval, bootstrap over patients, {report.num_bootstrap:,} resamples.",
                support_note(score),
            ],
        )
    )
    rule = f"Thresholds ({points.threshold_rule.told}) from {points.validation_studies:,} validation studies."
    rule = f"{rule} PPV and NPV are for the prevalence beside them. {note}"
    return [
        _by_pathology(score, "discrimination", "Discrimination by finding", _DISCRIMINATION, note, _COUNTS),
        _by_pathology(score, "thresholds", "Answers at the thresholds", _AT_THRESHOLD, rule, _PREVALENCE),
        _by_pathology(score, "calibration", "Calibration after Platt scaling", _CALIBRATION, note),
        _inputs(report),
        *_subgroups(report),
    ]


def _by_pathology(
    score: Score,
    name: str,
    title: str,
    metrics: Sequence[tuple[str, Metric]],
    note: str,
    more: Mapping[str, Callable[[PathologyScore], str]] | None = None,
) -> PaperTable:
    more = more or {}
    rows = []
    for pathology, found in score.pathologies.items():
        cells = [with_interval(found, metric) for _, metric in metrics]
        rows.append([marked(pathology, found), *cells, *(told(found) for told in more.values())])
    means = [with_interval(score.mean, metric) for _, metric in metrics]
    rows.append([f"Mean of {len(score.mean.pathologies)}", *means, *([""] * len(more))])
    head = ("Finding", *(title for title, _ in metrics), *more)
    return PaperTable(name, title, head, rows, note)


def _inputs(report: Report) -> PaperTable:
    rows = []
    for condition in CONDITIONS:
        cells = []
        for subset in ("all", "common"):
            found = [
                s
                for s in report.scores
                if (s.condition, s.protocol, s.unit, s.subset) == (condition, "A", "study", subset)
            ]
            cells += [f"{found[0].num_studies:,}", with_interval(found[0].mean, "auroc")] if found else ["", ""]
        rows.append([CONDITION_NAMES[condition].capitalize(), *cells])
    head = ("Input", "Studies", "Mean AUROC, all studies", "Studies", "Mean AUROC, common subset")
    note = (
        "The common subset has a film, text and metadata in every study: only there do differences between inputs "
        "compare like with like."
    )
    return PaperTable("inputs", "Mean AUROC by what the model sees", head, rows, note)


def _subgroups(report: Report) -> list[PaperTable]:
    if not report.subgroups:
        return []
    rows = []
    for group in report.subgroups:
        values = (group.auroc, group.tpr, group.fpr, group.underdiagnosis)
        cells = ["too small", "", "", ""] if group.too_small else [_with_gap(value) for value in values]
        rows.append([f"{group.attribute}: {group.group}", f"{group.studies:,}", f"{group.patients:,}", *cells])
    head = ("Group", "Studies", "Patients", "Mean AUROC", "Sensitivity", "1 - specificity", "Under-diagnosis")
    note = (
        "Value (95 % interval); gap to all other studies of which the attribute is known (95 % interval). Means over "
        "findings with ten positive and ten negative patients on both sides. Fewer than 50 studies: too small."
    )
    return [PaperTable("subgroups", "Subgroups", head, rows, note)]


def _with_gap(found: GroupValue) -> str:
    value = estimate(found.value, found.ci)
    if found.gap is None:
        return value
    bounds = f" ({found.gap_ci.low:+.3f} to {found.gap_ci.high:+.3f})" if found.gap_ci else ""
    return f"{value}; {found.gap:+.3f}{bounds}" if found.value is not None else number(None)
