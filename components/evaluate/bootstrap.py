"""Intervals by resampling patients: AUROC under all resamples at once, and paired differences of two models.

Shape letters: N rows (studies or images), P pathologies, R resamples, G patients.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from components.cxr.labels import BLANK
from components.cxr.report import Interval

__all__ = ["DEFINED_SHARE", "auroc_resamples", "interval", "mean_resamples", "num_defined", "weighted_auroc"]

DEFINED_SHARE = 0.9
"""Of the resamples: with fewer in which a value is defined there is no interval."""

_CHUNK = 2_000_000
"""Weights (resamples x rows) held at once: 8 MB of float32, so that they stay in the cache."""


def weighted_auroc(
    score_N: npt.NDArray[np.floating], positive_N: npt.NDArray[np.bool_], weight_NR: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """AUROC (R,) under each of R weightings of the rows, NaN where a class has no weight.

    The probability that a positive outscores a negative, ties counting half (Hanley and McNeil 1982), where a row with
    weight k stands for k equal rows. Weights are whole numbers; float32 adds them exactly up to 16 million rows.

    >>> once_N1 = np.ones((4, 1), dtype=np.float32)
    >>> weighted_auroc(np.array([0.1, 0.4, 0.3, 0.9]), np.array([False, False, True, True]), once_N1).tolist()
    [0.75]
    """
    order_K = np.flatnonzero(~positive_N)[np.argsort(score_N[~positive_N], kind="stable")]
    negative_K = score_N[order_K]
    cumulated_KR = np.zeros((len(order_K) + 1, weight_NR.shape[1]), dtype=np.float32)
    np.cumsum(weight_NR[order_K], axis=0, out=cumulated_KR[1:])
    below_M = np.searchsorted(negative_K, score_N[positive_N], side="left")
    not_above_M = np.searchsorted(negative_K, score_N[positive_N], side="right")
    weight_MR = weight_NR[positive_N]
    beaten_MR = cumulated_KR[below_M] + cumulated_KR[not_above_M]
    won_R = np.einsum("mr,mr->r", beaten_MR, weight_MR, dtype=np.float64) / 2
    pairs_R = weight_MR.sum(axis=0, dtype=np.float64) * cumulated_KR[-1]
    auroc_R: npt.NDArray[np.float64] = np.divide(won_R, pairs_R, out=np.full_like(won_R, np.nan), where=pairs_R > 0)
    return auroc_R


def auroc_resamples(
    score_NP: npt.NDArray[np.floating],
    truth_NP: npt.NDArray[np.int8],
    patients: Sequence[str],
    *,
    num_resamples: int,
    seed: int,
) -> npt.NDArray[np.float64]:
    """AUROC (R, P) of each pathology in each resample of the patients; NaN where a class is missing.

    Equal patients, seed and number give equal resamples, so two models' results are paired by row.

    Args:
        truth_NP: 1, 0, or BLANK for a row that is left out of a pathology.
        patients: of each row, N; a drawn patient brings all of his rows.

    >>> truth_NP = np.arange(200, dtype=np.int8).reshape(200, 1) % 2
    >>> score_NP = truth_NP + np.random.default_rng(0).standard_normal((200, 1))
    >>> patients = [f"patient {row // 2}" for row in range(200)]
    >>> auroc_RP = auroc_resamples(score_NP, truth_NP, patients, num_resamples=1000, seed=0)
    >>> auroc_RP.shape, interval(auroc_RP[:, 0])
    ((1000, 1), Interval(low=0.7504875, high=0.860105))
    """
    names, patient_N = np.unique(np.asarray(patients), return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn_RG = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=num_resamples)
    auroc_RP = np.full((num_resamples, truth_NP.shape[1]), np.nan)
    step = max(1, _CHUNK // len(patient_N))
    for start in range(0, num_resamples, step):
        weight_NR = drawn_RG[start : start + step].astype(np.float32).T[patient_N]
        for p in range(truth_NP.shape[1]):
            known_N = truth_NP[:, p] != BLANK
            positive_N = truth_NP[known_N, p] == 1
            auroc_RP[start : start + step, p] = weighted_auroc(score_NP[known_N, p], positive_N, weight_NR[known_N])
    return auroc_RP


def mean_resamples(auroc_RP: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean AUROC (R,) over the pathologies of each resample; NaN where any of them lacks a class.

    A mean over whichever are defined would be another quantity in every resample.
    """
    mean_R: npt.NDArray[np.float64] = auroc_RP.mean(axis=1)
    return mean_R


def num_defined(values_R: npt.NDArray[np.float64]) -> int:
    """Resamples in which the value is defined."""
    return int(np.isfinite(values_R).sum())


def interval(values_R: npt.NDArray[np.float64]) -> Interval | None:
    """The 95 % percentile interval (Efron 1981) of the defined resamples.

    None where fewer than `DEFINED_SHARE` of them are: what is left out would be those with the fewest positives.

    >>> interval(np.array([0.6, 0.7, np.nan, 0.8]))
    """
    if len(values_R) == 0 or num_defined(values_R) < DEFINED_SHARE * len(values_R):
        return None
    low, high = np.percentile(values_R[np.isfinite(values_R)], [2.5, 97.5])
    return Interval(low=float(low), high=float(high))
