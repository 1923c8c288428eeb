"""Which weights go out: the EMA weights of the latest epoch that validation does not show to be worse than the best.

Shown is a difference of more than one standard error (the rule of Breiman et al. 1984, "Classification and regression
trees", 3.4.3). A few dozen labeled studies cannot tell neighboring epochs apart, and picked hardly trained ones
(docs/learning.md). Where validation has next to no positive labels, the last weights go out.

Shape letters: S validation studies, P pathologies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from components.cxr.delong import mean_difference
from components.cxr.model.network import CxrModel
from components.train.checkpoint import Progress
from components.train.validation import Validated

__all__ = ["keep_unless_worse", "weights_to_export"]


def keep_unless_worse(
    progress: Progress,
    found: Validated,
    *,
    truth_SP: npt.NDArray[np.int8],
    patients: Sequence[str],
    epoch: int,
    average: CxrModel,
) -> bool:
    """Note an epoch and a copy of its EMA weights, unless its network is shown to be worse than that of the best.

    Judged are networks alone, whatever the expert of patches makes of them. The bundle that training started from
    stays until an epoch beats it.

    Args:
        truth_SP: 1, 0, or BLANK where validation has no label.
        patients: of each study.
        epoch: from 0; -1 for before the first.
    """
    if progress.best_network is None or found.network > progress.best_network:
        progress.best_network, progress.best_score_SP = found.network, torch.from_numpy(found.score_SP)
    elif progress.kept_epoch == 0 or _shown_worse(progress, found, truth_SP, patients):
        return False
    progress.kept_auroc, progress.kept_epoch = found.auroc, epoch + 1
    progress.kept_weights = {name: value.detach().cpu().clone() for name, value in average.state_dict().items()}
    return True


def weights_to_export(progress: Progress, average: CxrModel) -> dict[str, Tensor]:
    """By name, on the host."""
    if progress.kept_weights is not None:
        return progress.kept_weights
    return {name: value.detach().cpu() for name, value in average.state_dict().items()}


def _shown_worse(progress: Progress, found: Validated, truth_SP: npt.NDArray[np.int8], patients: Sequence[str]) -> bool:
    """Than the best, by more than one standard error of the difference (DeLong's, over patients)."""
    assert progress.best_score_SP is not None
    lost = mean_difference(progress.best_score_SP.numpy(), found.score_SP, truth_SP, patients)
    return lost is not None and lost[0] > lost[1]
