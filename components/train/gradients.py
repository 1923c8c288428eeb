"""Gradients of one optimizer step: clipped together, and their norm by part of the network.

Shape letter: G parts of the network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Clip"]


class Clip:
    """Scales all gradients so that their global norm is at most `max_norm` (Pascanu et al. 2013).

    Attributes:
        names: the parts of the network, length G.

    Args:
        network: whose `classifier` has the encoders `vision` and `text`; all else is `fusion`.
    """

    def __init__(self, network: nn.Module, *, max_norm: float) -> None:
        self._max_norm = max_norm
        self._parameters: dict[str, list[nn.Parameter]] = {"vision": [], "text": [], "fusion": []}
        for name, parameter in network.named_parameters():
            part = name.removeprefix("classifier.").split(".")[0]
            self._parameters[part if part in ("vision", "text") else "fusion"].append(parameter)
        self.names = list(self._parameters)

    def __call__(self) -> tuple[Tensor, Tensor]:
        """The norm before clipping (a scalar), and of each part (G,); nothing waits for the device."""
        norms_G = torch.stack([nn.utils.get_total_norm(_gradients(part)) for part in self._parameters.values()])
        norm = torch.linalg.vector_norm(norms_G)
        every = [parameter for part in self._parameters.values() for parameter in part]
        nn.utils.clip_grads_with_norm_(every, self._max_norm, norm)
        return norm, norms_G


def _gradients(parameters: list[nn.Parameter]) -> list[Tensor]:
    found = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return found or [torch.zeros(1, device=next((p.device for p in parameters), None))]
