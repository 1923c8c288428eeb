"""Cross-entropy toward the labels."""

from __future__ import annotations

from torch import Tensor, nn

from components.train.objectives.losses import supervised_loss
from components.train.objectives.shown import Shown

__all__ = ["Supervised"]


class Supervised(nn.Module):
    """Weighted 3-way cross-entropy over the entries with a target."""

    name = "supervised"

    def weight(self, step: int) -> float:  # noqa: ARG002
        """Always 1."""
        return 1.0

    def forward(self, logits_BP3: Tensor, shown: Shown) -> Tensor:
        """A scalar, scaled by the number of processes."""
        return supervised_loss(logits_BP3, shown.target_BP, shown.weight_BP)
