"""How the weights are moved: the optimizer's groups of parameters and the course of their learning rates."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import nn

from components.cxr.model.network import CxrModel
from components.train.config import TrainConfig
from components.train.tuning import layer_depths

__all__ = ["build_optimizer", "learning_rate_factor", "set_learning_rates"]

_PRETRAINED_LEARNING_RATE = 1e-4
"""Peak for pretrained encoders without a learning rate of their own."""


def build_optimizer(model: CxrModel, config: TrainConfig, *, own: Iterable[nn.Parameter] = ()) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019); each group keeps its peak in `peak` and its first epoch in `from_epoch`.

    Frozen weights are in it too, so that a checkpoint fits before and after: without a gradient nothing moves.

    epsilon is 1e-6: parameters whose true gradient is 0 (keys' biases) would otherwise turn rounding into steps, and
    two processes would drift from one.

    Args:
        own: what objectives learn for themselves.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)} | {id(model.queries.queries_PD)}
    groups: dict[tuple[float, float, int], list[nn.Parameter]] = defaultdict(list)

    def add(parameter: nn.Parameter, peak: float, from_epoch: int) -> None:
        decayed = parameter.dim() >= 2 and id(parameter) not in embeddings
        groups[config.weight_decay if decayed else 0.0, peak, from_epoch].append(parameter)

    in_encoders: set[int] = set()
    for name in ("vision", "text"):
        encoder, tuning = getattr(model, name), getattr(config.tuning, name)
        is_new = getattr(config.architecture, name).pretrained is None or tuning.lora is not None
        peak = tuning.learning_rate or (config.learning_rate if is_new else _PRETRAINED_LEARNING_RATE)
        depths = layer_depths(encoder)
        last = max(depths.values())
        for parameter in encoder.parameters():
            in_encoders.add(id(parameter))
            add(parameter, peak * tuning.layer_decay ** (last - depths[parameter]), tuning.unfreeze_after or 0)
    for parameter in model.parameters():
        if id(parameter) not in in_encoders:
            add(parameter, config.learning_rate, 0)
    for parameter in own:
        add(parameter, config.learning_rate, 0)
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": decay, "peak": peak, "from_epoch": from_epoch}
            for (decay, peak, from_epoch), parameters in groups.items()
        ],
        lr=config.learning_rate,
        eps=1e-6,
        fused=True,
    )


def set_learning_rates(
    optimizer: torch.optim.Optimizer, *, step: int, num_steps: int, steps_per_epoch: int, warm_up: float
) -> float:
    """Give every group its learning rate for `step` (from 0); returns the fraction of the peak of what is new."""
    for group in optimizer.param_groups:
        start = group["from_epoch"] * steps_per_epoch
        factor = learning_rate_factor(step, num_steps=num_steps, warm_up=warm_up, start=start)
        group["lr"] = factor * group["peak"]
    return learning_rate_factor(step, num_steps=num_steps, warm_up=warm_up)


def learning_rate_factor(step: int, *, num_steps: int, warm_up: float, start: int = 0) -> float:
    """Fraction of the peak at `step` (from 0): linear warm-up, then cosine to 0 (Loshchilov and Hutter 2017).

    What is unfrozen later warms up from there, below the same cosine.

    >>> [round(learning_rate_factor(step, num_steps=10, warm_up=0.2), 2) for step in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.04]
    >>> [round(learning_rate_factor(step, num_steps=10, warm_up=0.2, start=6), 2) for step in (5, 6, 7)]
    [0.0, 0.25, 0.31]

    Args:
        start: the first step.
    """
    warm_steps = max(1, round(warm_up * num_steps))
    rise = min(1.0, max(0, step + 1 - start) / warm_steps)
    fallen = max(0, step - warm_steps) / max(1, num_steps - warm_steps)
    return rise * 0.5 * (1.0 + math.cos(math.pi * fallen))
