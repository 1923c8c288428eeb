"""The two losses, both exact on any number of processes.

Each is a local sum over a *global* count, times the number of processes: DistributedDataParallel then averages
gradients over the processes and the result is that of one process with the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from components.cxr.model.network import positive_score
from components.train.distributed import all_reduce_sum, world_size

__all__ = ["consistency_loss", "supervised_loss"]


def supervised_loss(logits_BP3: Tensor, target_BP: Tensor, weight_BP: Tensor) -> Tensor:
    """Weighted 3-way cross-entropy over entries with a target (scalar, nats).

    Args:
        target_BP: int64 class 0 negative, 1 uncertain, 2 positive, -1 none.
        weight_BP: float32 in [0, 1], 0 where there is no target.
    """
    entropy_BP = F.cross_entropy(logits_BP3.transpose(1, 2), target_BP, ignore_index=-1, reduction="none")
    return _global_mean(entropy_BP * weight_BP, weight_BP.sum())


def consistency_loss(student_BP3: Tensor, teacher_BP3: Tensor, mask_BP: Tensor) -> Tensor:
    """Mean squared difference of q = p1 / (p0 + p1) between student and teacher (Tarvainen and Valpola 2017).

    Scalar in [0, 1].

    Args:
        teacher_BP3: without gradient.
        mask_BP: bool, entries that count. The uncertain logit takes no part.
    """
    difference_BP = positive_score(student_BP3).sigmoid() - positive_score(teacher_BP3).sigmoid()
    return _global_mean(difference_BP.square() * mask_BP, mask_BP.sum())


def _global_mean(value_BP: Tensor, count: Tensor) -> Tensor:
    total = all_reduce_sum(count.detach().to(torch.float32))
    return value_BP.sum() * world_size() / total.clamp(min=1e-8)
