"""Gradients of one optimizer step: clipped together, and their norm by part of the network.

Shape letter: G parts of the network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Clip"]


class Clip:
    """Scales the classifier's gradients so that their global norm is at most `max_norm` (Pascanu et al. 2013).

    What objectives learn for themselves is clipped apart: a report's projection must not shorten the classifier's step.

    Attributes:
        names: the parts of the network, length G.

    Args:
        network: whose `classifier` has the encoders `vision` and `text`; all else of it is `fusion`, and what lies
            outside, if anything does, `objectives`.
    """

    def __init__(self, network: nn.Module, *, max_norm: float) -> None:
        self._max_norm = max_norm
        self._parameters: dict[str, list[nn.Parameter]] = {"vision": [], "text": [], "fusion": []}
        for name, parameter in network.named_parameters():
            part = name.removeprefix("classifier.").split(".")[0]
            known = part in ("vision", "text", "objectives")
            self._parameters.setdefault(part if known else "fusion", []).append(parameter)
        self.names = list(self._parameters)

    def __call__(self) -> tuple[Tensor, Tensor]:
        """The classifier's norm before clipping (a scalar), and each part's (G,); nothing waits for the device."""
        norms_G = torch.stack([nn.utils.get_total_norm(_gradients(part)) for part in self._parameters.values()])
        norm = torch.linalg.vector_norm(norms_G[:3])
        parts = list(self._parameters.values())
        every = [parameter for part in parts[:3] for parameter in part]
        nn.utils.clip_grads_with_norm_(every, self._max_norm, norm)
        for part, own in zip(parts[3:], norms_G[3:], strict=True):
            nn.utils.clip_grads_with_norm_(part, self._max_norm, own)
        return norm, norms_G


def _gradients(parameters: list[nn.Parameter]) -> list[Tensor]:
    found = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return found or [torch.zeros(1, device=next((p.device for p in parameters), None))]
