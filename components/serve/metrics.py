"""What the evaluation found of the served model: read beside the operating points, told with answers."""

from __future__ import annotations

from components.cxr.errors import UserError
from components.cxr.operating_points import OperatingPoints
from components.cxr.report import REPORT, Condition, Estimate, Metric, Metrics, PathologyScore, load_report
from components.cxr.storage.storage import Storage
from components.serve.schemas import ConditionMetrics, PathologyMetrics

__all__ = ["load_metrics"]

TOLD: tuple[Metric, ...] = ("auroc", "average_precision", "recall", "specificity", "precision", "f1")


def load_metrics(storage: Storage, points: OperatingPoints) -> dict[Condition, ConditionMetrics]:
    """Scores of every input condition on all test studies (protocol A, by study), from the report in `storage`.

    Raises:
        UserError: no report here, or one of other operating points or another model.
    """
    where = f"{storage.uri}/{REPORT}"
    try:
        report = load_report(storage)
    except FileNotFoundError:
        remedy = "Run evaluate, and name its folder with --evaluation; deploy copies the report beside the model."
        raise UserError("no-evaluation", "no evaluation's report here", where=where, remedy=remedy) from None
    found, expected = (report.bundle_hash, report.operating_points_hash), (points.bundle_hash, points.hash)
    if found != expected:
        raise UserError(
            "other-operating-points",
            "operating points and report are of two evaluations",
            where=where,
            found=" ".join(value[:16] for value in found),
            expected=" ".join(value[:16] for value in expected),
            remedy="Delete this folder and run evaluate again.",
        )
    return {
        score.condition: ConditionMetrics(
            studies=score.num_studies,
            patients=score.num_patients,
            pathologies={name: _pathology(value) for name, value in score.pathologies.items()},
            mean_auroc=_estimate(score.mean, "auroc"),
        )
        for score in report.scores
        if (score.protocol, score.unit, score.subset) == ("A", "study", "all")
    }


def _pathology(score: PathologyScore) -> PathologyMetrics:
    return PathologyMetrics(
        metrics={name: _estimate(score, name) for name in TOLD},
        positives=score.positives,
        negatives=score.negatives,
        positive_patients=score.positive_patients,
        negative_patients=score.negative_patients,
        low_support=score.low_support,
    )


def _estimate(score: Metrics, name: Metric) -> Estimate:
    return Estimate(value=getattr(score, name), ci=score.intervals.get(name))
