"""Intervals by resampling patients: all resamples at once, the same for everything that is compared.

Shape letters: N rows (studies or images), P pathologies, R resamples, G patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from components.cxr.labels import BLANK
from components.cxr.report import Interval
from components.evaluate.ranking import ranking_of

__all__ = ["DEFINED_SHARE", "Draws", "auroc_resamples", "draw", "interval", "mean_resamples", "num_defined"]

DEFINED_SHARE = 0.9
"""Of the resamples: with fewer in which a value is defined there is no interval."""

_CHUNK = 128
"""Resamples computed at once, so that counts of a thousand positives in each stay in the cache."""


@dataclass(frozen=True)
class Draws:
    """How often each resample draws each patient, who brings all of his rows."""

    patient_N: npt.NDArray[np.int64]
    """Index of each row's patient."""
    drawn_GR: npt.NDArray[np.uint16]

    def weights(self) -> Iterator[tuple[slice, npt.NDArray[np.float64]]]:
        """Weights of the patients (G, some of R), and which resamples these are."""
        for start in range(0, self.drawn_GR.shape[1], _CHUNK):
            chunk = slice(start, min(start + _CHUNK, self.drawn_GR.shape[1]))
            yield chunk, self.drawn_GR[:, chunk].astype(np.float64, order="C")

    @property
    def num_resamples(self) -> int:
        """R."""
        return int(self.drawn_GR.shape[1])

    def once(self) -> Draws:
        """Every patient once: the test set itself as the only resample."""
        return Draws(self.patient_N, np.ones((len(self.drawn_GR), 1), dtype=np.uint16))


def draw(patients: Sequence[str], *, num_resamples: int, seed: int) -> Draws:
    """Draw as many patients as there are, with replacement, `num_resamples` times.

    Equal patients, seed and number give equal resamples, so two models' results are paired by resample.

    Args:
        patients: of each row, N.

    >>> draws = draw(["a", "a", "b"], num_resamples=1000, seed=0)
    >>> draws.patient_N.tolist(), draws.drawn_GR.shape, set(draws.drawn_GR.sum(axis=0).tolist())
    ([0, 0, 1], (2, 1000), {2})
    """
    names, patient_N = np.unique(np.asarray(patients), return_inverse=True)
    return Draws(patient_N, _drawn(len(names), num_resamples, seed))


@lru_cache(maxsize=2)  # a report's tables are over all patients or those of the common subset
def _drawn(num_patients: int, num_resamples: int, seed: int) -> npt.NDArray[np.uint16]:
    rng = np.random.default_rng(seed)
    drawn_RG = rng.multinomial(num_patients, np.full(num_patients, 1 / num_patients), size=num_resamples)
    drawn_GR = np.ascontiguousarray(drawn_RG.T.astype(np.uint16))
    drawn_GR.setflags(write=False)
    return drawn_GR


def auroc_resamples(
    score_NP: npt.NDArray[np.floating],
    truth_NP: npt.NDArray[np.int8],
    patients: Sequence[str],
    *,
    num_resamples: int,
    seed: int,
) -> npt.NDArray[np.float64]:
    """AUROC (R, P) of each pathology in each resample of the patients; NaN where a class is missing.

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
    draws = draw(patients, num_resamples=num_resamples, seed=seed)
    rankings = []
    for p in range(truth_NP.shape[1]):
        known_N = truth_NP[:, p] != BLANK
        positive_K, patient_K = truth_NP[known_N, p] == 1, draws.patient_N[known_N]
        rankings.append(ranking_of(score_NP[known_N, p], positive_K, patient_K, num_patients=len(draws.drawn_GR)))
    auroc_RP = np.full((num_resamples, len(rankings)), np.nan)
    for chunk, weight_GR in draws.weights():
        for p, ranking in enumerate(rankings):
            auroc_RP[chunk, p] = ranking.auroc(weight_GR)
    return auroc_RP


def mean_resamples(value_RP: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean (R,) over the pathologies of each resample; NaN where it is undefined for any of them.

    A mean over whichever are defined would be another quantity in every resample.
    """
    mean_R: npt.NDArray[np.float64] = value_RP.mean(axis=1)
    return mean_R


def num_defined(values_R: npt.NDArray[np.float64]) -> int:
    """Resamples in which the value is defined."""
    return int(np.isfinite(values_R).sum())


def interval(values_R: npt.NDArray[np.float64], *, patients: int | None = None) -> Interval | None:
    """The 95 % percentile interval (Efron 1981) of the defined resamples.

    None where fewer than `DEFINED_SHARE` of them are: what is left out would be those with the fewest positives.

    Args:
        patients: how many the value rests on, such as those with the rarer of two labels. Resamples of few are too
            alike: the percentiles are moved apart as Student's t is wider than the normal distribution (the expanded
            percentile interval; Hesterberg 2015). What that is worth is measured by benchmarks/statistics.py.

    >>> interval(np.array([0.6, 0.7, np.nan, 0.8]))
    >>> values_R = np.linspace(0.0, 1.0, 1001)
    >>> [round(interval(values_R, patients=n).low, 4) for n in (10, 100, 10_000)]
    [0.0086, 0.0231, 0.025]
    """
    share = 0.025
    if patients is not None:
        if patients < 2:
            return None
        share = float(norm.cdf(t.ppf(share, patients - 1) * (patients / (patients - 1)) ** 0.5))
    if len(values_R) == 0 or num_defined(values_R) < DEFINED_SHARE * len(values_R):
        return None
    low, high = np.quantile(values_R[np.isfinite(values_R)], [share, 1 - share])
    return Interval(low=float(low), high=float(high))
