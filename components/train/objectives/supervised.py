"""Cross-entropy toward the labels."""

from __future__ import annotations

from torch import Tensor, nn

from components.train.objectives.losses import supervised_loss
from components.train.objectives.shown import Shown

__all__ = ["Supervised"]


class Supervised(nn.Module):
    """Weighted 3-way cross-entropy over the entries with a target, of every expert alone; their sum."""

    name = "supervised"

    def weight(self, step: int) -> float:  # noqa: ARG002
        """Always 1."""
        return 1.0

    def counts(self, shown: Shown) -> Tensor:
        """Each expert's sum of weights (E,)."""
        return _weights(shown).sum(dim=(1, 2))

    def forward(self, logits_EBP3: Tensor, shown: Shown, count_E: Tensor) -> Tensor:
        """A scalar, scaled by the number of processes.

        Args:
            count_E: `counts` of the whole batch.
        """
        return supervised_loss(logits_EBP3, shown.target_BP3, _weights(shown), count_E)


def _weights(shown: Shown) -> Tensor:
    return shown.known_EB[:, :, None] * shown.weight_BP
