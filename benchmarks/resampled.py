"""AUROC over resampled patients and seeds, for the benchmarks that compare trainings.

Shape letters: S studies, P pathologies, R seeds, N samples, G groups of studies with one score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from components.cxr.labels import BLANK

__all__ = ["Scores", "high", "low", "mean_auroc", "ranked_pairs", "redrawn", "resampled"]

NUM_BOOTSTRAP = 1000

Scores = npt.NDArray[np.float64]


def resampled(
    arms: Mapping[str, Sequence[Scores]], labels_SP: npt.NDArray[np.int8], patient_S: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Mean AUROC of each arm: over all patients and seeds in row 0, then over resamples of both."""
    num_seeds = len(next(iter(arms.values())))
    rng = np.random.default_rng(0)
    every, which_S = np.unique(patient_S, return_inverse=True)
    weight_NS = redrawn(len(every), rng, num=NUM_BOOTSTRAP)[:, which_S.ravel()]
    share_NR = redrawn(num_seeds, rng, num=NUM_BOOTSTRAP) / num_seeds
    means = [np.stack([mean_auroc(run, labels_SP, weight_NS) for run in runs], axis=1) for runs in arms.values()]
    return np.stack([(mean_NR * share_NR).sum(axis=1) for mean_NR in means], axis=1)


def redrawn(count: int, rng: np.random.Generator, *, num: int) -> npt.NDArray[np.float64]:
    """How often each of `count` is drawn in each of `num` resamples; once each in row 0."""
    drawn = [np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(num)]
    return np.array([np.ones(count), *drawn])


def mean_auroc(
    scores_SP: Scores, labels_SP: npt.NDArray[np.int8], weight_NS: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Over pathologies, for each row of weights: scikit-learn would take an hour for what sorting once does."""
    found = []
    for scores_S, labels_S in zip(scores_SP.T, labels_SP.T, strict=True):
        known_S = labels_S != BLANK
        right_N, all_N = ranked_pairs(scores_S[known_S], labels_S[known_S] == 1, weight_NS[:, known_S])
        found.append(right_N / all_N)
    return np.asarray(np.mean(found, axis=0))


def ranked_pairs(
    scores_S: Scores, positive_S: npt.NDArray[np.bool_], weight_NS: npt.NDArray[np.float64]
) -> tuple[Scores, Scores]:
    """Pairs of a positive and a negative that are ranked right, and all pairs, for each row of weights (N,) each."""
    order = np.argsort(scores_S, kind="stable")
    ranked, positive = scores_S[order], positive_S[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))  # ties count half
    weight = weight_NS[:, order]
    positive_NG = np.add.reduceat(weight * positive, starts, axis=1)
    negative_NG = np.add.reduceat(weight * ~positive, starts, axis=1)
    below_NG = negative_NG.cumsum(axis=1) - negative_NG / 2
    return (positive_NG * below_NG).sum(axis=1), positive_NG.sum(axis=1) * negative_NG.sum(axis=1)


def low(values: npt.NDArray[np.float64]) -> float:
    """Lower end of the 95 % interval."""
    return float(np.percentile(values, 2.5))


def high(values: npt.NDArray[np.float64]) -> float:
    """Upper end of the 95 % interval."""
    return float(np.percentile(values, 97.5))
