"""What the order of the scores decides, under many weightings of the patients at once.

AUROC, average precision, sensitivity at a specificity and the reverse. Shape letters: N rows (studies or images),
G patients, R weightings, M different scores of positives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from components.cxr.report import Metric

__all__ = ["RANKING_METRICS", "Ranking", "ranking_of"]

_Floats = npt.NDArray[np.float64]

_AT_SPECIFICITY: tuple[tuple[Metric, int], ...] = (
    ("sensitivity_at_90_specificity", 90),
    ("sensitivity_at_95_specificity", 95),
)
_AT_SENSITIVITY: tuple[tuple[Metric, int], ...] = (
    ("specificity_at_90_sensitivity", 90),
    ("specificity_at_95_sensitivity", 95),
)
RANKING_METRICS: tuple[Metric, ...] = (
    "auroc", "average_precision",
    *(name for name, _ in _AT_SPECIFICITY), *(name for name, _ in _AT_SENSITIVITY),
)  # fmt: skip


@dataclass(frozen=True)
class Ranking:
    """The rows from the highest score down, summed up by patient at the places where sensitivity rises.

    Those are the M different scores of positives: a pathology of few positives is quick whatever the number of rows,
    and no weight per row is ever written down.
    """

    positive_MG: csr_matrix
    """Positives with exactly this score."""
    negative_MG: csr_matrix
    """Negatives with this score or above it, and below the positives' next higher one."""
    tied_MG: csr_matrix | None
    """Of them, those with exactly this score; None where there is none at any."""
    negative_G: _Floats
    """All negatives."""

    def metrics(self, weight_GR: _Floats) -> dict[Metric, _Floats]:
        """Every one of RANKING_METRICS (R,) in [0, 1], NaN where a class has no weight.

        A row with weight k counts as k equal rows. AUROC is the probability that a positive outscores a negative, ties
        counting half (Hanley and McNeil 1982); average precision is the sum over the thresholds of the precision times
        the rise in sensitivity. Both are scikit-learn's with `sample_weight`. The sensitivity at a specificity is the
        highest of all thresholds with at least that specificity on these very rows, and the reverse.
        """
        counts = self._counts(weight_GR)
        gained_MR, false_MR, negatives_R = counts
        if len(gained_MR) == 0:
            return {name: np.full(len(negatives_R), np.nan) for name in RANKING_METRICS}
        true_MR = np.cumsum(gained_MR, axis=0)
        positives_R = true_MR[-1]
        defined_R = (positives_R > 0) & (negatives_R > 0)

        def share(part_R: _Floats, whole_R: _Floats) -> _Floats:
            share_R: _Floats = np.divide(part_R, whole_R, out=np.full(len(part_R), np.nan), where=defined_R)
            return share_R

        positive_answers_MR = true_MR + false_MR
        precision_MR = np.divide(true_MR, positive_answers_MR, out=positive_answers_MR, where=positive_answers_MR > 0)
        found: dict[Metric, _Floats] = {
            "auroc": share(self._pairs_won(weight_GR, *counts), positives_R * negatives_R),
            "average_precision": share(np.einsum("mr,mr->r", gained_MR, precision_MR), positives_R),
        }
        column_R = np.arange(len(negatives_R))
        for name, percent in _AT_SPECIFICITY:
            num_allowed_R = np.count_nonzero(false_MR <= (100 - percent) * negatives_R / 100, axis=0)
            true_R = np.where(num_allowed_R > 0, true_MR[num_allowed_R - 1, column_R], 0.0)
            found[name] = share(true_R, positives_R)
        for name, percent in _AT_SENSITIVITY:
            num_short_R = np.count_nonzero(true_MR < percent * positives_R / 100, axis=0)
            found[name] = share(negatives_R - false_MR[num_short_R, column_R], negatives_R)
        return found

    def auroc(self, weight_GR: _Floats) -> _Floats:
        """The AUROC (R,) alone."""
        counts = self._counts(weight_GR)
        gained_MR, _, negatives_R = counts
        pairs_R = gained_MR.sum(axis=0) * negatives_R
        won_R = self._pairs_won(weight_GR, *counts)
        auroc_R: _Floats = np.divide(won_R, pairs_R, out=np.full(len(pairs_R), np.nan), where=pairs_R > 0)
        return auroc_R

    def _counts(self, weight_GR: _Floats) -> tuple[_Floats, _Floats, _Floats]:
        """Positives at each score, negatives at it and above, all negatives."""
        false_MR = self.negative_MG @ weight_GR
        np.cumsum(false_MR, axis=0, out=false_MR)
        return self.positive_MG @ weight_GR, false_MR, self.negative_G @ weight_GR

    def _pairs_won(self, weight_GR: _Floats, gained_MR: _Floats, false_MR: _Floats, negatives_R: _Floats) -> _Floats:
        """Pairs in which the positive scores higher than the negative, ties counting half; exact below 2^53."""
        won_R: _Floats = gained_MR.sum(axis=0) * negatives_R - np.einsum("mr,mr->r", gained_MR, false_MR)
        if self.tied_MG is not None:
            won_R += np.einsum("mr,mr->r", gained_MR, self.tied_MG @ weight_GR) / 2
        return won_R


def ranking_of(
    score_N: npt.NDArray[np.floating],
    positive_N: npt.NDArray[np.bool_],
    patient_N: npt.NDArray[np.integer],
    *,
    num_patients: int,
) -> Ranking:
    """Sort the rows once, for any number of weightings.

    Args:
        patient_N: index of each row's patient, below `num_patients`; a row has the weight of its patient.

    >>> score_N, positive_N = np.array([0.1, 0.4, 0.3, 0.9]), np.array([False, False, True, True])
    >>> found = ranking_of(score_N, positive_N, np.arange(4), num_patients=4)
    >>> weight_GR = np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    >>> found.auroc(weight_GR).tolist(), found.metrics(weight_GR)["sensitivity_at_90_specificity"].tolist()
    ([0.75, 1.0], [0.5, 1.0])
    """
    level_M, place_I = np.unique(score_N[positive_N], return_inverse=True)
    size = len(level_M)
    patient_I, patient_J = patient_N[positive_N], patient_N[~positive_N]
    under_J = np.searchsorted(level_M, score_N[~positive_N], side="right")  # levels that the negative reaches

    def summed(rank_K: npt.NDArray[np.integer], patient_K: npt.NDArray[np.integer]) -> csr_matrix:
        return csr_matrix((np.ones(len(rank_K)), (rank_K, patient_K)), shape=(size, num_patients))

    reaches_J = under_J > 0
    rank_J, ranked_patient_J = size - under_J[reaches_J], patient_J[reaches_J]
    tied_J = level_M[under_J[reaches_J] - 1] == score_N[~positive_N][reaches_J]
    return Ranking(
        positive_MG=summed(size - 1 - place_I, patient_I),
        negative_MG=summed(rank_J, ranked_patient_J),
        tied_MG=summed(rank_J[tied_J], ranked_patient_J[tied_J]) if tied_J.any() else None,
        negative_G=np.bincount(patient_J, minlength=num_patients).astype(np.float64),
    )
