"""The exponential moving average of the weights: teacher while training, and the model that is exported."""

from __future__ import annotations

import copy

import torch

from components.cxr.model.network import CxrModel

__all__ = ["Ema"]


class Ema:
    """Keeps `model`, the average; updated once an optimizer step.

    The decay warms up as min(decay, (1 + n) / (10 + n)) after n updates, so early averages are not the random start.
    Buffers are copied, not averaged.
    """

    def __init__(self, model: CxrModel, *, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.num_updates = 0

    @property
    def current_decay(self) -> float:
        """The decay of the next update."""
        return min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))

    @torch.no_grad()
    def update(self, model: CxrModel) -> None:
        """Move the average toward the weights of `model`."""
        averages: list[torch.Tensor] = list(self.model.parameters())
        weights: list[torch.Tensor] = list(model.parameters())
        torch._foreach_lerp_(averages, weights, 1.0 - self.current_decay)
        for average, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(buffer)
        self.num_updates += 1
