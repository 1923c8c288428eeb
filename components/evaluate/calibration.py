"""Calibration and thresholds from validation: what turns a score into a probability and a probability into an answer.

Shape letters: S studies, P pathologies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from components.cxr.labels import BLANK
from components.cxr.operating_points import Calibration, OperatingPoint
from components.cxr.report import ThresholdRule

__all__ = ["DEFAULT_THRESHOLD", "calibrate", "choose_threshold", "fit_calibration", "operating_points", "tenths"]

DEFAULT_THRESHOLD = 0.5
SMALLEST_SLOPE = 1e-3
_ROUNDING = 1e-9
"""Of a share of a count: nine in ten of 30 are 27."""

_Floats = npt.NDArray[np.floating]


def operating_points(
    score_SP: _Floats,
    truth_SP: npt.NDArray[np.int8],
    *,
    pathologies: Sequence[str],
    rule: ThresholdRule,
) -> dict[str, OperatingPoint]:
    """Calibration and threshold of every pathology from validation studies.

    Args:
        score_SP: z1 - z0.
        truth_SP: 1, 0, or BLANK for a study that is left out.
    """
    points = {}
    for p, name in enumerate(pathologies):
        known_S = truth_SP[:, p] != BLANK
        score_S, positive_S = score_SP[known_S, p], truth_SP[known_S, p] == 1
        calibration = fit_calibration(score_S, positive_S)
        probability_S = calibrate(score_S, calibration)
        threshold = choose_threshold(probability_S, positive_S, rule=rule)
        edges, shares = tenths(probability_S)
        positives = int(positive_S.sum())
        counts = {"positives": positives, "negatives": len(positive_S) - positives}
        points[name] = OperatingPoint(
            threshold=threshold, calibration=calibration, edges=edges, shares=shares, **counts
        )
    return points


def tenths(probability_S: _Floats) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Edges that part probabilities into tenths, and the share in each part; of equal edges one is kept.

    >>> tenths(np.array([0.1, 0.2, 0.3, 0.4]))[0][:2]
    (0.13, 0.16)
    >>> tenths(np.array([0.5, 0.5, 0.5]))
    ((0.5,), (0.0, 1.0))
    """
    if len(probability_S) == 0:
        return (), ()
    edges = np.unique(np.quantile(probability_S, np.arange(1, 10) / 10).round(6))
    counts = np.bincount(np.searchsorted(edges, probability_S.round(6), side="right"), minlength=len(edges) + 1)
    return tuple(edges.tolist()), tuple((counts / len(probability_S)).round(6).tolist())


def fit_calibration(score_S: _Floats, positive_S: npt.NDArray[np.bool_]) -> Calibration:
    """Platt scaling (Platt 1999) with unit normal priors around slope 1 and intercept 0; the slope stays positive.

    Without a positive or without a negative it is the identity.
    """
    if len(np.unique(positive_S)) < 2:
        return Calibration()
    score_S = score_S.astype(np.float64)

    def loss(parameters: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        slope, intercept = parameters
        logit_S = slope * score_S + intercept
        error_S = _sigmoid(logit_S) - positive_S
        value = np.logaddexp(0.0, np.where(positive_S, -logit_S, logit_S)).sum()
        prior = ((slope - 1.0) ** 2 + intercept**2) / 2
        gradient = np.array([error_S @ score_S + slope - 1.0, error_S.sum() + intercept])
        return float(value + prior), gradient

    found = minimize(loss, x0=[1.0, 0.0], jac=True, method="L-BFGS-B", bounds=[(SMALLEST_SLOPE, None), (None, None)])
    return Calibration(slope=float(found.x[0]), intercept=float(found.x[1]))


def calibrate(score: _Floats, calibration: Calibration) -> npt.NDArray[np.float64]:
    """Calibrated probabilities in [0, 1], any shape.

    >>> calibrate(np.array([-2.0, 0.0, 2.0]), Calibration(slope=0.5, intercept=0.0)).round(3).tolist()
    [0.269, 0.5, 0.731]
    """
    return _sigmoid(calibration.slope * score.astype(np.float64) + calibration.intercept)


def choose_threshold(probability_S: _Floats, positive_S: npt.NDArray[np.bool_], *, rule: ThresholdRule) -> float:
    """The probability from which the answer is positive.

    A cut between two neighboring probabilities, at their middle, so that rounding does not flip an answer; of equally
    good cuts the highest. 0.5 where a class is missing, or no cut has a better J or F1 than the answer "always yes".

    >>> probability_S, positive_S = np.array([0.1, 0.3, 0.5, 0.7]), np.array([False, True, False, True])
    >>> rules = [ThresholdRule(), ThresholdRule(rule="sensitivity", level=0.9)]
    >>> [round(choose_threshold(probability_S, positive_S, rule=rule), 2) for rule in rules]
    [0.6, 0.2]
    """
    num_positives, num_negatives = int(positive_S.sum()), int((~positive_S).sum())
    if num_positives == 0 or num_negatives == 0:
        return DEFAULT_THRESHOLD
    values_K, group_S = np.unique(probability_S, return_inverse=True)
    # true and false positives of the cut below each value, from the lowest (everything is positive) up
    true_K = num_positives - np.concatenate([[0], np.cumsum(np.bincount(group_S, weights=positive_S))[:-1]])
    false_K = num_negatives - np.concatenate([[0], np.cumsum(np.bincount(group_S, weights=~positive_S))[:-1]])
    if rule.level is not None:
        if rule.rule == "sensitivity":
            best = int(np.count_nonzero(true_K >= rule.level * num_positives - _ROUNDING)) - 1
        else:
            best = int(np.count_nonzero(num_negatives - false_K < rule.level * num_negatives - _ROUNDING))
        below, above = np.append(0.0, values_K), np.append(values_K, 1.0)
        return float((below[best] + above[best]) / 2)
    if rule.rule == "youden":
        gain_K = true_K / num_positives - false_K / num_negatives
    else:
        gain_K = 2 * true_K / (true_K + false_K + num_positives)
    best = len(gain_K) - 1 - int(np.argmax(np.round(gain_K[::-1], 12)))
    if best == 0:
        return DEFAULT_THRESHOLD
    return float((values_K[best - 1] + values_K[best]) / 2)


def _sigmoid(logit: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.exp(-np.logaddexp(0.0, -logit))
