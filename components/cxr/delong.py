"""AUROCs of several scores of the same rows with their covariance, by formula (DeLong et al. 1988).

Rows of one patient tell of each other; they are summed up by patient first (Obuchowski 1997), which is DeLong's formula
where every patient has one row. Against the bootstrap: no resamples, and p-values far below 1 in a thousand.

Shape letters: M models or conditions, N rows (studies or films), K rows with a label, I positive rows, J negative rows,
P pathologies, G patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from components.cxr.labels import BLANK
from components.cxr.report import Interval

__all__ = [
    "Areas", "areas", "difference_interval", "holm", "influence", "logit_interval", "mean_difference", "p_value",
]  # fmt: skip

_Z = float(norm.ppf(0.975))


class Areas(NamedTuple):
    """AUROCs and how they vary together."""

    auroc_M: npt.NDArray[np.float64]
    covariance_MM: npt.NDArray[np.float64]

    def difference(self, one: int, other: int) -> tuple[float, float]:
        """AUROC of `one` minus `other`, and its standard error."""
        contrast_M = np.zeros(len(self.auroc_M))
        contrast_M[one] += 1.0
        contrast_M[other] -= 1.0
        variance = float(contrast_M @ self.covariance_MM @ contrast_M)
        return float(contrast_M @ self.auroc_M), max(variance, 0.0) ** 0.5


def areas(
    score_MN: npt.NDArray[np.floating], positive_N: npt.NDArray[np.bool_], patients: Sequence[str]
) -> Areas | None:
    """AUROC of each of M scores; None where fewer than two patients are positive, or negative.

    The ratings of 109 scans in Hanley and McNeil (1982), whose AUROC is .8932 with a standard error of .0307:

    >>> normal, abnormal = [33, 6, 6, 11, 2], [3, 2, 2, 11, 33]
    >>> rating_N = np.repeat([1, 2, 3, 4, 5, 1, 2, 3, 4, 5], normal + abnormal)
    >>> positive_N = np.repeat([False, True], [sum(normal), sum(abnormal)])
    >>> found = areas(rating_N[None], positive_N, [str(n) for n in range(109)])
    >>> round(found.auroc_M.item(), 4), round(found.covariance_MM.item() ** 0.5, 4)
    (0.8932, 0.0307)

    Args:
        patients: of each row.
    """
    patient_N, num_patients = _numbered(patients)
    patients_of = [len(np.unique(patient_N[rows_N])) for rows_N in (positive_N, ~positive_N)]
    if min(patients_of) < 2:
        return None
    auroc_M, positive_MG, negative_MG = influence(score_MN, positive_N, patient_N, num_patients=num_patients)
    both_MM = positive_MG @ negative_MG.T
    covariance_MM = (
        positive_MG @ positive_MG.T * patients_of[0] / (patients_of[0] - 1)
        + negative_MG @ negative_MG.T * patients_of[1] / (patients_of[1] - 1)
        + (both_MM + both_MM.T) * num_patients / (num_patients - 1)
    )
    return Areas(auroc_M, covariance_MM)


def influence(
    score_MN: npt.NDArray[np.floating],
    positive_N: npt.NDArray[np.bool_],
    patient_N: npt.NDArray[np.integer],
    *,
    num_patients: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """AUROCs (M,), and how far each patient moves them by his positives and by his negatives (M, G each), summing to 0.

    Args:
        patient_N: index of each row's patient, below `num_patients`.
    """
    won_MI, won_MJ = _placements(score_MN, positive_N)
    auroc_M = won_MI.mean(axis=1)
    moved: list[npt.NDArray[np.float64]] = []
    for won_MK, patient_K in ((won_MI, patient_N[positive_N]), (won_MJ, patient_N[~positive_N])):
        apart_MK = (won_MK - auroc_M[:, None]) / len(patient_K)
        by_patient = [np.bincount(patient_K, weights=row, minlength=num_patients) for row in apart_MK]
        moved.append(np.stack(by_patient).astype(np.float64))
    return auroc_M, moved[0], moved[1]


def mean_difference(
    one_NP: npt.NDArray[np.floating],
    other_NP: npt.NDArray[np.floating],
    truth_NP: npt.NDArray[np.int8],
    patients: Sequence[str],
) -> tuple[float, float] | None:
    """Mean AUROC of `one` minus that of `other`, and its standard error, as the same patients are in all pathologies.

    Pathologies that fewer than two patients have, or have not, are left out; None where that leaves none.

    Args:
        truth_NP: 1, 0, or BLANK for a row that is left out of a pathology.
        patients: of each row.
    """
    patient_N, num_patients = _numbered(patients)
    differences, moved = [], []
    for p in range(truth_NP.shape[1]):
        known_N = truth_NP[:, p] != BLANK
        positive_K, patient_K = truth_NP[known_N, p] == 1, patient_N[known_N]
        counts = [len(np.unique(patient_K[rows_K])) for rows_K in (positive_K, ~positive_K)]
        if min(counts) < 2:
            continue
        score_2K = np.stack([one_NP[known_N, p], other_NP[known_N, p]])
        auroc_2, *parts = influence(score_2K, positive_K, patient_K, num_patients=num_patients)
        differences.append(auroc_2[0] - auroc_2[1])
        of_classes = (part_2G * (n / (n - 1)) ** 0.5 for part_2G, n in zip(parts, counts, strict=True))
        moved.append(sum(part_2G[0] - part_2G[1] for part_2G in of_classes))
    if not differences:
        return None
    return float(np.mean(differences)), float(np.linalg.norm(np.mean(moved, axis=0)))


def logit_interval(auroc: float, standard_error: float) -> Interval | None:
    """The 95 % interval on the scale of log-odds, which stays within [0, 1]; None for an AUROC of 0 or 1.

    >>> found = logit_interval(0.95, 0.03)
    >>> round(found.low, 3), round(found.high, 3)
    (0.846, 0.985)
    """
    if not 0.0 < auroc < 1.0:
        return None
    reach = _Z * standard_error / (auroc * (1.0 - auroc))
    low, high = expit(logit(auroc) - reach), expit(logit(auroc) + reach)
    return Interval(low=float(low), high=float(high))


def difference_interval(difference: float, standard_error: float) -> Interval:
    """The 95 % interval of a difference of AUROCs, by the normal distribution."""
    return Interval(low=difference - _Z * standard_error, high=difference + _Z * standard_error)


def p_value(difference: float, standard_error: float) -> float:
    """Of no difference, two-sided, by the normal distribution; 1 where both scores rank alike.

    >>> round(p_value(0.0196, 0.01), 3)
    0.05
    """
    if standard_error == 0.0:
        return 1.0 if difference == 0.0 else 0.0
    return float(2.0 * norm.sf(abs(difference) / standard_error))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted for their number, so that among true nulls not one in twenty families has any below .05 (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(np.asarray(p_values, dtype=np.float64)[order] * factors), 1.0)
    found = np.empty(len(p_values))
    found[order] = adjusted
    return [float(value) for value in found]


def _numbered(patients: Sequence[str]) -> tuple[npt.NDArray[np.integer], int]:
    """An index for each row's patient, and how many patients there are."""
    known, patient_N = np.unique(np.asarray(patients), return_inverse=True)
    return patient_N, len(known)


def _placements(
    score_MN: npt.NDArray[np.floating], positive_N: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The share of negatives that each positive outscores (M, I), and of positives that outscore each negative (M, J).

    Ties count half. From ranks, in N log N (Sun and Xu 2014).
    """
    among_all_MN = rankdata(score_MN, axis=1)
    positive_MI, negative_MJ = score_MN[:, positive_N], score_MN[:, ~positive_N]
    num_positives, num_negatives = positive_MI.shape[1], negative_MJ.shape[1]
    won_MI = (among_all_MN[:, positive_N] - rankdata(positive_MI, axis=1)) / num_negatives
    won_MJ = 1.0 - (among_all_MN[:, ~positive_N] - rankdata(negative_MJ, axis=1)) / num_positives
    return won_MI, won_MJ
