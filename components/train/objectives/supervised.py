"""Cross-entropy toward the labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from components.cxr.model.fusion import Expert
from components.train.objectives.losses import supervised_loss
from components.train.objectives.shown import Shown

__all__ = ["Supervised"]


class Supervised(nn.Module):
    """Weighted 3-way cross-entropy over the entries with a target, of every expert alone; their sum."""

    name = "supervised"

    def weight(self, step: int) -> float:  # noqa: ARG002
        """Always 1."""
        return 1.0

    def forward(self, experts: Sequence[Expert], shown: Shown) -> Tensor:
        """A scalar, scaled by the number of processes."""
        return torch.stack(
            [
                supervised_loss(expert.logits_BP3, shown.target_BP, shown.weight_BP * expert.known_B[:, None])
                for expert in experts
            ]
        ).sum()
