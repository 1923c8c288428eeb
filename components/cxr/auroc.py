"""The mean AUROC: what training selects by, evaluation reports and the decision compares; scikit-learn computes it.

Shape letters: N rows (studies or images), P pathologies.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from components.cxr.labels import BLANK

__all__ = ["auroc", "aurocs", "mean_auroc"]


def auroc(score_N: npt.NDArray[np.floating], truth_N: npt.NDArray[np.int8]) -> float | None:
    """Area under the ROC curve of one pathology, in [0, 1]; None where a class is missing.

    Args:
        score_N: any number that grows with the probability.
        truth_N: 1, 0, or BLANK for a row that is left out.

    >>> auroc(np.array([0.1, 0.9, 0.8, 0.7]), np.array([0, 1, 0, BLANK], dtype=np.int8))
    1.0
    """
    known_N = truth_N != BLANK
    positive_K = truth_N[known_N] == 1
    if positive_K.all() or not positive_K.any():
        return None
    return float(roc_auc_score(positive_K, score_N[known_N]))


def aurocs(score_NP: npt.NDArray[np.floating], truth_NP: npt.NDArray[np.int8]) -> list[float | None]:
    """The AUROC of every pathology, None where it is undefined."""
    return [auroc(score_NP[:, p], truth_NP[:, p]) for p in range(truth_NP.shape[1])]


def mean_auroc(score_NP: npt.NDArray[np.floating], truth_NP: npt.NDArray[np.int8]) -> float | None:
    """Mean of the AUROCs that are defined, every pathology counting alike; None without any.

    >>> score_NP = np.array([[0.1, 0.2], [0.9, 0.1], [0.8, 0.3]])
    >>> mean_auroc(score_NP, np.array([[0, 0], [1, 0], [0, 0]], dtype=np.int8))  # the second has no positive
    1.0
    """
    found = [value for value in aurocs(score_NP, truth_NP) if value is not None]
    return float(np.mean(found)) if found else None
