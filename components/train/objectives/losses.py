"""The losses, exact however a batch is divided among processes and within one.

Each is a local sum over a count of the *whole* batch of the optimizer step, times the number of processes:
DistributedDataParallel averages gradients over the processes, gradients of a process's parts are added up, and the
result is that of one process with the whole batch at once.

Shape letters: E experts, B studies of this part, P pathologies.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from components.cxr.model.network import positive_score
from components.train.distributed import world_size

__all__ = ["pseudo_label_loss", "supervised_loss"]


def supervised_loss(logits_EBP3: Tensor, target_BP3: Tensor, weight_EBP: Tensor, count_E: Tensor) -> Tensor:
    """Weighted 3-way cross-entropy over entries with a target, summed over the experts (scalar, nats).

    Args:
        target_BP3: float32 chances of negative, uncertain, positive; all 0 where there is no target.
        weight_EBP: float32 in [0, 1], 0 where there is no target.
        count_E: the whole batch's sum of weights.
    """
    entropy_EBP = -(target_BP3 * logits_EBP3.log_softmax(dim=3)).sum(dim=3)
    return _mean(entropy_EBP * weight_EBP, count_E)


def pseudo_label_loss(logits_EBP3: Tensor, pseudo_BP: Tensor, mask_EBP: Tensor, count_E: Tensor) -> Tensor:
    """Cross-entropy of q = p1 / (p0 + p1) toward pseudo-labels, summed over the experts (scalar, nats).

    Unlike that of a squared distance its gradient does not vanish where q is near 0, as it is for most pathologies.

    Args:
        pseudo_BP: float32 in [0, 1], anything where it does not count.
        mask_EBP: bool, entries that count. The uncertain logit takes no part.
        count_E: the whole batch's number of them.
    """
    score_EBP = positive_score(logits_EBP3)
    target_EBP = pseudo_BP.nan_to_num(0.0).expand_as(score_EBP)
    entropy_EBP = F.binary_cross_entropy_with_logits(score_EBP, target_EBP, reduction="none")
    return _mean(entropy_EBP * mask_EBP, count_E)


def _mean(value_EBP: Tensor, count_E: Tensor) -> Tensor:
    return (value_EBP.sum(dim=(1, 2)) / count_E.clamp(min=1e-8)).sum() * world_size()
