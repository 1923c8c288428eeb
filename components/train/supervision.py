"""What every entry of the training split is taught: by a label, by the study's report, or by nobody.

Shape letters: S studies, P pathologies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from components.cxr.labels import POSITIVE, LabelPolicy, targets_of
from components.train.build import log_class_shares
from components.train.config import SemiSupervised
from components.train.report_labels import report_labels

__all__ = ["Supervision", "supervision_of"]


class Supervision(NamedTuple):
    """On the host."""

    target_SP3: Tensor
    """float32 chances of negative, uncertain, positive; all 0 in an entry that nobody teaches."""
    weight_SP: Tensor
    """float32 in [0, 1], 0 without a target."""
    unlabeled_SP: Tensor
    """bool, entries that a semi-supervised loss alone can teach."""
    log_share_P3: Tensor
    """Logarithm of each class's share of the labels, in nats."""
    prevalence_P: npt.NDArray[np.float64]
    """Share of positives among the labeled studies, blanks not positive."""

    def taught(self) -> npt.NDArray[np.bool_]:
        """Whether each study has a target (S,)."""
        return (self.weight_SP > 0).any(dim=1).numpy()

    def untaught(self) -> Tensor:
        """Bool, entries that pseudo-labels can teach: unlabeled ones, of a pathology whose labels are not all the same.

        >>> states_SP = np.array([[0, 1], [1, 1], [-2, -2]], dtype=np.int8)  # the third has no labels
        >>> supervision_of(states_SP, np.array([True, True, False]), policy=LabelPolicy()).untaught().tolist()
        [[False, False], [False, False], [True, False]]
        """
        return self.unlabeled_SP & torch.from_numpy((self.prevalence_P > 0.0) & (self.prevalence_P < 1.0))

    def with_pseudo(self, pseudo_SP: Tensor) -> Supervision:
        """With a target also where there is a pseudo-label, for what learns from targets alone.

        >>> states_SP = np.array([[0, 1], [1, 1], [-2, -2]], dtype=np.int8)  # the third has no labels
        >>> taught = supervision_of(states_SP, np.array([True, True, False]), policy=LabelPolicy())
        >>> pseudo_SP = torch.full((3, 2), torch.nan)
        >>> pseudo_SP[2, 0] = 0.25
        >>> taught = taught.with_pseudo(pseudo_SP)
        >>> taught.target_SP3[2].tolist(), taught.weight_SP[2].tolist()
        ([[0.75, 0.0, 0.25], [0.0, 0.0, 0.0]], [1.0, 0.0])

        Args:
            pseudo_SP: float32 q in [0, 1], NaN where there is none.
        """
        told_SP, q_SP = ~pseudo_SP.isnan(), pseudo_SP.nan_to_num()
        chance_SP3 = torch.stack([1 - q_SP, torch.zeros_like(q_SP), q_SP], dim=-1)
        target_SP3 = torch.where(told_SP[:, :, None], chance_SP3, self.target_SP3)
        weight_SP = torch.where(told_SP, 1.0, self.weight_SP)
        return self._replace(target_SP3=target_SP3, weight_SP=weight_SP, unlabeled_SP=self.unlabeled_SP & ~told_SP)

    def num_entries(self) -> tuple[int, int]:
        """How many are left that pseudo-labels can teach, and how many have a target."""
        return int(self.untaught().sum()), int((self.weight_SP > 0).sum())

    def needs_teachers(self, config: SemiSupervised) -> bool:
        """Whether enough entries are left that teachers can label."""
        num_untaught, num_taught = self.num_entries()
        return num_untaught > 0 and num_untaught >= config.least_unlabeled * num_taught


def supervision_of(
    states_SP: npt.NDArray[np.int8],
    labeled_S: npt.NDArray[np.bool_],
    *,
    policy: LabelPolicy,
    reports: Sequence[str] | None = None,
) -> Supervision:
    """Targets by the label policy, and where reports are given also from those of the unlabeled studies.

    Args:
        states_SP, labeled_S: as `targets_of` takes them.
        reports: what was written of each study, "" where nothing was.
    """
    targets = targets_of(states_SP, labeled_S, policy=policy)
    class_SP, weight_SP = torch.from_numpy(targets.target_BP), torch.from_numpy(targets.weight_BP)
    labeled_SP, unlabeled_SP = class_SP >= 0, torch.from_numpy(targets.unlabeled_BP)
    target_SP3 = F.one_hot(class_SP.clamp(min=0), 3).float() * labeled_SP[:, :, None]
    log_share_P3 = log_class_shares(class_SP, weight_SP)
    if reports is not None:
        told = report_labels(reports, targets, labeled_S)
        known_SP = torch.from_numpy(told.known_SP)
        target_SP3 += torch.from_numpy(told.chance_SP3)
        weight_SP, unlabeled_SP = weight_SP + known_SP, unlabeled_SP & ~known_SP
    return Supervision(
        target_SP3=target_SP3,
        weight_SP=weight_SP,
        unlabeled_SP=unlabeled_SP,
        log_share_P3=log_share_P3,
        prevalence_P=(states_SP[labeled_S] == POSITIVE).sum(axis=0) / max(1, labeled_S.sum()),
    )
