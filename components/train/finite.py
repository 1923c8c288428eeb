"""Divergence, noticed without waiting for the device in every step."""

from __future__ import annotations

import torch
from torch import Tensor

from components.cxr.errors import UserError

__all__ = ["FiniteGuard"]


class FiniteGuard:
    """Remembers on the training device the first step whose gradient was not finite.

    Reading one number per step would have the host wait for the device. So `check` is called before anything is kept:
    metrics, checkpoints, validation. The norm is global, so every process ends at the same step.
    """

    def __init__(self, device: torch.device) -> None:
        self._first_bad = torch.full((), -1, dtype=torch.int64, device=device)

    def add(self, gradient_norm: Tensor, *, step: int) -> None:
        """Note a step (from 0)."""
        is_first = (self._first_bad < 0) & ~gradient_norm.isfinite()
        self._first_bad = torch.where(is_first, step, self._first_bad)

    def check(self) -> None:
        """Wait for the device.

        Raises:
            UserError: a gradient was not finite.
        """
        step = int(self._first_bad)
        if step >= 0:
            raise UserError(
                "training-diverged",
                "training diverged",
                where=f"step {step}",
                found="a gradient that is not finite",
                remedy="Lower train.learning_rate; the last checkpoint is kept.",
            )
