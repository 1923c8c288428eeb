"""Which weights go out: the EMA weights of the epoch that validated best, else the last EMA weights.

The last ones too where validation has next to no positive labels: five studies once picked the first of twelve epochs
(docs/learning.md).
"""

from __future__ import annotations

from torch import Tensor

from components.cxr.model.network import CxrModel
from components.train.checkpoint import Progress
from components.train.validation import Validated

__all__ = ["keep_best", "weights_to_export"]


def keep_best(progress: Progress, found: Validated, *, epoch: int, average: CxrModel) -> bool:
    """Note an epoch (from 0, -1 for before the first) and a copy of its EMA weights if its network beats every earlier
    one, whatever the expert of patches makes of it.

    Of equals the first stays.
    """
    if progress.best_network is not None and found.network <= progress.best_network:
        return False
    progress.best_network, progress.best_auroc, progress.best_epoch = found.network, found.auroc, epoch + 1
    progress.best_weights = {name: value.detach().cpu().clone() for name, value in average.state_dict().items()}
    return True


def weights_to_export(progress: Progress, average: CxrModel) -> dict[str, Tensor]:
    """By name, on the host."""
    if progress.best_weights is not None:
        return progress.best_weights
    return {name: value.detach().cpu() for name, value in average.state_dict().items()}
