"""Means of the losses between two log lines, throughput, and the lines a person follows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from components.train.distributed import all_reduce_sum, is_main, world_size

__all__ = ["Meter"]

SHOW_EVERY_S = 10.0


class Meter:
    """Collects one window of steps; every process adds, the main one shows."""

    def __init__(self, *, num_steps: int, first_step: int, names: Sequence[str], device: torch.device) -> None:
        self.num_steps, self.first_step, self.names = num_steps, first_step, names
        self.device = device
        self.started = self.shown = time.monotonic()
        self.sums: Tensor
        self._reset()

    def add(self, num_studies: int, losses: Mapping[str, Tensor]) -> None:
        """One step of this process; the losses are already scaled by the number of processes.

        They are summed where they are: NCCL reduces nothing else, and a copy to the host would wait for the device.
        """
        self.num_studies += num_studies
        self.num_added += 1
        self.sums = self.sums + torch.stack([losses[name].detach() for name in self.names])

    def take(self) -> dict[str, float]:
        """Mean losses and studies per second since the last call, over all processes."""
        means = (all_reduce_sum(self.sums) / (world_size() * self.num_added)).tolist()
        seconds = max(time.monotonic() - self.window_started, 1e-9)
        rate = self.num_studies * world_size() / seconds
        self._reset()
        losses = {f"train/{name}_loss": mean for name, mean in zip(self.names, means, strict=True)}
        return losses | {"train/studies_per_second": rate}

    def show(self, metrics: dict[str, float], *, step: int) -> None:
        """A line at most every SHOW_EVERY_S seconds: step, losses, speed, time left."""
        now = time.monotonic()
        if not is_main() or now - self.shown < SHOW_EVERY_S:
            return
        self.shown = now
        left = (now - self.started) / (step - self.first_step) * (self.num_steps - step)
        losses = " + ".join(f"{metrics[f'train/{name}_loss']:.5f}" for name in self.names)
        print(
            f"train: step {step}/{self.num_steps}  loss {losses}  {metrics['train/studies_per_second']:.0f} studies/s"
            f"  {int(left // 60)}:{int(left % 60):02d} left",
            flush=True,
        )

    def _reset(self) -> None:
        self.window_started = time.monotonic()
        self.num_studies = self.num_added = 0
        self.sums = torch.zeros(len(self.names), device=self.device)
