"""How much worse the calibration of one model is than another's, with an interval over patients.

Shape letters: S studies, P pathologies, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from components.cxr.report import Difference
from components.evaluate.bootstrap import Draws, draw, interval, mean_resamples
from components.evaluate.metrics import pathology_score

__all__ = ["ece_difference"]


def ece_difference(
    one_SP: npt.NDArray[np.floating],
    other_SP: npt.NDArray[np.floating],
    truth_SP: npt.NDArray[np.int8],
    patients: Sequence[str],
    *,
    num_resamples: int,
    seed: int,
) -> Difference:
    """Mean expected calibration error of `one` minus `other`, over the pathologies, both in the same resamples.

    Args:
        one_SP, other_SP: calibrated probabilities in [0, 1].
        truth_SP: 1, 0, or BLANK for an entry that does not count.
        patients: of each study.

    >>> truth_SP = np.array([[1], [0], [1], [0]], dtype=np.int8)
    >>> sure_SP, right_SP = np.full((4, 1), 0.9), np.full((4, 1), 0.5)
    >>> found = ece_difference(sure_SP, right_SP, truth_SP, ["a", "a", "b", "b"], num_resamples=100, seed=0)
    >>> round(found.difference, 3), round(found.ci.low, 3), round(found.ci.high, 3)
    (0.4, 0.4, 0.4)
    """
    draws = draw(patients, num_resamples=num_resamples, seed=seed)
    one_R, other_R = (
        np.concatenate([_mean(values_SP, truth_SP, each) for each in (draws.once(), draws)])
        for values_SP in (one_SP, other_SP)
    )
    difference_R = one_R - other_R
    return Difference(difference=float(difference_R[0]), ci=interval(difference_R[1:]), p_value=None)


def _mean(
    probability_SP: npt.NDArray[np.floating], truth_SP: npt.NDArray[np.int8], draws: Draws
) -> npt.NDArray[np.float64]:
    unranked_S = np.zeros(len(truth_SP))  # one score for all costs nothing, and a ranking is not asked for
    scored = [
        pathology_score(unranked_S, truth_S, draws=draws, probability_N=probability_S)
        for probability_S, truth_S in zip(probability_SP.T, truth_SP.T, strict=True)
    ]
    return mean_resamples(np.stack([each.resamples["ece"] for each in scored], axis=1))
