"""Divergence, noticed without waiting for the device in every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from components.cxr.errors import UserError
from components.train.distributed import is_main

__all__ = ["FiniteGuard"]


class FiniteGuard:
    """Remembers on the training device the first step whose gradient was not finite, with its norms and losses.

    Reading one number per step would have the host wait for the device. So `check` is called before anything is kept:
    metrics, checkpoints, validation. The norm is global, so every process ends at the same step.

    Args:
        parts: names of the network's parts, whose norms are told.
        losses: names of the losses.
        save: called on the main process with the step; saves its batch, and says where that is and what is in it.
    """

    def __init__(
        self, device: torch.device, *, parts: Sequence[str], losses: Sequence[str], save: Callable[[int], str]
    ) -> None:
        self._names = [f"gradient norm of {part}" for part in parts] + [f"{name} loss" for name in losses]
        self._losses, self._save = list(losses), save
        self._first_bad = torch.full((), -1, dtype=torch.int64, device=device)
        self._values = torch.zeros(len(self._names), device=device)

    def add(self, gradient_norm: Tensor, norms_G: Tensor, losses: Mapping[str, Tensor], *, step: int) -> None:
        """Note a step (from 0)."""
        is_first = (self._first_bad < 0) & ~gradient_norm.isfinite()
        values = torch.cat([norms_G, torch.stack([losses[name].detach() for name in self._losses])])
        self._values = torch.where(is_first, values.float(), self._values)
        self._first_bad = torch.where(is_first, step, self._first_bad)

    def check(self) -> None:
        """Wait for the device.

        Raises:
            UserError: a gradient was not finite.
        """
        step = int(self._first_bad)
        if step < 0:
            return
        told = ", ".join(f"{name} {value:.3g}" for name, value in zip(self._names, self._values.tolist(), strict=True))
        saved = f" {self._save(step)}" if is_main() else ""
        raise UserError(
            "training-diverged",
            "training diverged",
            where=f"step {step}",
            found=f"a gradient that is not finite ({told})",
            remedy=f"Lower train.learning_rate; the last checkpoint is kept.{saved}",
        )
