"""One ROC curve and one confusion matrix over all pathologies of the headline, for KFP's UI.

Every pair of a study and a pathology counts once (micro-average), by its calibrated probability.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.metrics import confusion_matrix, roc_curve

from components.cxr.labels import BLANK, truth_of
from components.cxr.report import Report

__all__ = ["CATEGORIES", "Pooled", "pooled"]

CATEGORIES = ("absent", "present")
MAX_POINTS = 200
"""Of the curve: KFP keeps it in the artifact's metadata."""


class Pooled(NamedTuple):
    """Plain numbers that JSON can hold."""

    false_rates: list[float]
    """Empty, like the other two, where only one of absent and present occurs."""
    true_rates: list[float]
    thresholds: list[float]
    """Probabilities from 1 down to 0."""
    confusion: list[list[int]]
    """Row: what is true; column: what the model says at each pathology's threshold; in the order of CATEGORIES."""


def pooled(report: Report, predictions: pa.Table) -> Pooled:
    """Pool the headline's pathologies: every modality, protocol A, by study.

    Args:
        predictions: as write_predictions documents.
    """
    rows = predictions.filter(pc.equal(predictions["condition"], report.headline.condition))
    names = report.headline.mean.pathologies
    labels = [rows[f"label/{name}"].fill_null(BLANK).to_numpy() for name in names]
    if not labels:
        return Pooled([], [], [], [[0, 0], [0, 0]])
    labeled = rows["labeled"].to_numpy()
    truth_SP = truth_of(np.stack(labels, axis=1), labeled, protocol="A")
    probability_SP = np.stack([rows[f"probability/{name}"].to_numpy() for name in names], axis=1)
    thresholds_P = np.array([report.headline.pathologies[name].threshold for name in names])
    known_SP = truth_SP != BLANK
    truth, probability = truth_SP[known_SP] == 1, probability_SP[known_SP]
    answers = (probability_SP >= thresholds_P)[known_SP]
    confusion = confusion_matrix(truth, answers, labels=[False, True]).tolist()
    if truth.all() or not truth.any():
        return Pooled([], [], [], confusion)
    false_rates, true_rates, thresholds = roc_curve(truth, probability)
    thresholds[0] = 1.0  # scikit-learn's first is infinite, which JSON cannot say
    along = false_rates + true_rates  # evenly along the curve
    chosen = np.unique(np.searchsorted(along, np.linspace(0, 2, MAX_POINTS)).clip(max=len(along) - 1))
    return Pooled(false_rates[chosen].tolist(), true_rates[chosen].tolist(), thresholds[chosen].tolist(), confusion)
