"""Self-training: a student learns what teachers say of the entries without supervision (Xie et al. 2020).

The teachers learned from the labels alone, each from other initial weights. Their mean knows more than any of them,
the student sees their answers on far more films than there are labels, and it is one network. docs/learning.md has
what that is worth.

Shape letters: E experts, B studies of this part, S studies of the training split, P pathologies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit
from torch import Tensor, nn

from components.train.objectives.losses import pseudo_label_loss
from components.train.objectives.shown import Shown

__all__ = ["SelfTraining", "pseudo_labels"]


class SelfTraining(nn.Module):
    """Cross-entropy of every expert toward the pseudo-labels."""

    name = "pseudo_label"

    def __init__(self, weight: float) -> None:
        super().__init__()
        self._weight = weight

    def weight(self, step: int) -> float:  # noqa: ARG002
        """The same in every step: the teachers are through before the first."""
        return self._weight

    def counts(self, shown: Shown) -> Tensor:
        """Each expert's number of entries (E,)."""
        return _mask(shown).sum(dim=(1, 2)).float()

    def forward(self, logits_EBP3: Tensor, shown: Shown, count_E: Tensor) -> Tensor:
        """A scalar, scaled by the number of processes.

        Args:
            count_E: `counts` of the whole batch.
        """
        assert shown.pseudo_BP is not None
        return pseudo_label_loss(logits_EBP3, shown.pseudo_BP, _mask(shown), count_E)


def pseudo_labels(
    score_SP: npt.NDArray[np.floating[Any]], unlabeled_SP: npt.NDArray[np.bool_], prevalence_P: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """What the student is taught: q in [0, 1] where unlabeled, NaN elsewhere.

    A handful of labels leaves the teachers with a prevalence of their own; their scores are shifted so that the mean
    over the unlabeled studies is that of the labels (distribution alignment; Berthelot et al. 2020). A pathology whose
    labels are all the same gets no pseudo-labels.

    >>> found_SP = pseudo_labels(np.array([[0.0], [2.0], [5.0]]), np.array([[1], [1], [0]], bool), np.array([0.3]))
    >>> found_SP.astype(float).round(2).tolist()
    [[0.11], [0.49], [nan]]

    Args:
        score_SP: mean z1 - z0 of the teachers.
        prevalence_P: share of positives among the labeled studies, blanks not positive; 0 or 1 where all are the same.
    """
    pseudo_SP = np.full(score_SP.shape, np.nan, dtype=np.float32)
    for p, prevalence in enumerate(prevalence_P):
        score_U = score_SP[unlabeled_SP[:, p], p].astype(np.float64)
        if len(score_U) == 0 or not 0.0 < prevalence < 1.0:
            continue
        reach = np.abs(score_U).max() + 20.0
        shift = brentq(lambda shift, x=score_U, mean=prevalence: expit(x + shift).mean() - mean, -reach, reach)
        pseudo_SP[unlabeled_SP[:, p], p] = expit(score_U + shift)
    return pseudo_SP


def _mask(shown: Shown) -> Tensor:
    assert shown.pseudo_BP is not None
    return shown.known_EB[:, :, None] & ~shown.pseudo_BP.isnan()
