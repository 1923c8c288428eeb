"""How the weights are moved: the optimizer's groups of parameters and the course of their learning rates."""

from __future__ import annotations

import math

import torch
from torch import nn

from components.cxr.model.network import CxrModel
from components.train.config import TrainConfig

__all__ = ["build_optimizer", "learning_rate_factor"]


def build_optimizer(model: CxrModel, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019); each group keeps its peak in `peak`.

    epsilon is 1e-6: parameters whose true gradient is 0 (keys' biases) would otherwise turn rounding into steps, and
    two processes would drift from one.
    """
    architecture = config.architecture
    groups = []
    for module, peak in (
        (model.vision, config.pretrained_learning_rate if architecture.vision.pretrained else config.learning_rate),
        (model.text, config.pretrained_learning_rate if architecture.text.pretrained else config.learning_rate),
        (None, config.learning_rate),
    ):
        encoders = {id(p) for encoder in (model.vision, model.text) for p in encoder.parameters()}
        parameters = module.parameters() if module else (p for p in model.parameters() if id(p) not in encoders)
        decayed, plain = _split_by_decay(list(parameters), model)
        groups += [
            {"params": decayed, "weight_decay": config.weight_decay, "peak": peak},
            {"params": plain, "weight_decay": 0.0, "peak": peak},
        ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.learning_rate, eps=1e-6)


def learning_rate_factor(step: int, *, num_steps: int, warm_up: float) -> float:
    """Fraction of the peak at `step` (from 0): linear warm-up, then cosine to 0 (Loshchilov and Hutter 2017).

    >>> [round(learning_rate_factor(step, num_steps=10, warm_up=0.2), 2) for step in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.04]
    """
    warm_steps = max(1, round(warm_up * num_steps))
    if step < warm_steps:
        return (step + 1) / warm_steps
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm_steps) / max(1, num_steps - warm_steps)))


def _split_by_decay(parameters: list[nn.Parameter], model: CxrModel) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)} | {id(model.queries.queries_PD)}
    decayed = [p for p in parameters if p.dim() >= 2 and id(p) not in embeddings]
    chosen = {id(p) for p in decayed}
    return decayed, [p for p in parameters if id(p) not in chosen]
