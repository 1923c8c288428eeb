"""Scores of one pathology and their means; undefined is None, never 0.

Shape letters: N rows (studies or images), P pathologies, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    precision_score,
    recall_score,
)

from components.cxr.auroc import auroc
from components.cxr.labels import BLANK
from components.cxr.operating_points import OperatingPoint
from components.cxr.report import MeanScore, PathologyScore
from components.evaluate.bootstrap import interval, mean_resamples, num_defined
from components.evaluate.calibration import calibrate

__all__ = ["NUM_BINS", "bins_of", "expected_calibration_error", "mean_score", "pathology_score"]

NUM_BINS = 10
"""Equal-width bins of the calibrated probability."""


def pathology_score(
    score_N: npt.NDArray[np.floating],
    truth_N: npt.NDArray[np.int8],
    point: OperatingPoint,
    *,
    patients: Sequence[str],
    auroc_R: npt.NDArray[np.float64],
) -> PathologyScore:
    """All numbers of one pathology.

    Args:
        score_N: z1 - z0.
        truth_N: 1, 0, or BLANK for a row that the protocol leaves out.
        point: calibration and threshold from validation.
        patients: of each row.
        auroc_R: AUROC in each resample.
    """
    known_N = truth_N != BLANK
    positive = truth_N[known_N] == 1
    probability = calibrate(score_N[known_N], point.calibration)
    answer = probability >= point.threshold
    num_positives, num_negatives = int(positive.sum()), int((~positive).sum())
    patient_K = np.asarray(patients)[known_N]
    both = num_positives > 0 and num_negatives > 0
    return PathologyScore(
        auroc=auroc(score_N, truth_N),
        auroc_ci=interval(auroc_R) if both else None,
        average_precision=float(average_precision_score(positive, score_N[known_N])) if both else None,
        accuracy=float(accuracy_score(positive, answer)) if len(positive) else None,
        precision=_defined(precision_score(positive, answer, zero_division=np.nan)) if len(positive) else None,
        recall=_defined(recall_score(positive, answer, zero_division=np.nan)) if len(positive) else None,
        f1=_defined(f1_score(positive, answer, zero_division=np.nan)) if num_positives else None,
        ece=expected_calibration_error(probability, positive) if len(positive) else None,
        threshold=point.threshold,
        positives=num_positives,
        negatives=num_negatives,
        unknown=int((~known_N).sum()),
        positive_patients=len(np.unique(patient_K[positive])),
        negative_patients=len(np.unique(patient_K[~positive])),
        auroc_resamples=num_defined(auroc_R),
    )


def mean_score(
    scores: dict[str, PathologyScore],
    *,
    headline: Sequence[str],
    pathologies: Sequence[str],
    auroc_RP: npt.NDArray[np.float64],
) -> MeanScore:
    """Means over the headline's pathologies whose AUROC is defined; the interval is over the same resamples."""
    defined = tuple(name for name in headline if scores[name].auroc is not None)
    columns = [list(pathologies).index(name) for name in defined]
    mean_R = mean_resamples(auroc_RP[:, columns]) if defined else np.array([])

    def mean(field: str) -> float | None:
        values = [value for name in defined if (value := getattr(scores[name], field)) is not None]
        return float(np.mean(values)) if values else None

    return MeanScore(
        pathologies=defined,
        auroc=mean("auroc"),
        auroc_ci=interval(mean_R),
        auroc_resamples=num_defined(mean_R),
        average_precision=mean("average_precision"),
        accuracy=mean("accuracy"),
        precision=mean("precision"),
        recall=mean("recall"),
        f1=mean("f1"),
        ece=mean("ece"),
    )


def expected_calibration_error(probability: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> float:
    """Mean distance of confidence and frequency over the bins, weighted by size (Naeini et al. 2015), in [0, 1].

    >>> expected_calibration_error(np.array([0.9, 0.9]), np.array([True, False]))
    0.4
    """
    bins = bins_of(probability)
    gaps = np.bincount(bins, weights=probability - positive, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / len(probability))


def bins_of(probability: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Bin index 0..NUM_BINS-1 of each probability; 1.0 belongs to the last.

    >>> bins_of(np.array([0.0, 0.55, 1.0])).tolist()
    [0, 5, 9]
    """
    return np.minimum((probability * NUM_BINS).astype(np.int64), NUM_BINS - 1)


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
