"""Gradients of one optimizer step, a part of the batch after the other: a large batch in the memory of a small one."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from components.train.objectives.network import TrainingNetwork
from components.train.objectives.shown import Shown

__all__ = ["add_gradients", "parts_of"]


def parts_of(num_studies: int, *, accumulate: int) -> list[slice]:
    """The studies of each part: `accumulate` parts of the same size within one, fewer where there are fewer studies.

    >>> parts_of(5, accumulate=2), parts_of(1, accumulate=2)
    ([slice(0, 2, None), slice(2, 5, None)], [slice(0, 1, None)])
    """
    count = min(accumulate, num_studies)
    return [slice(start, end) for start, end in pairwise(num_studies * part // count for part in range(count + 1))]


def add_gradients(
    network: TrainingNetwork | DistributedDataParallel, parts: Sequence[Shown], *, weights: Mapping[str, float]
) -> dict[str, Tensor]:
    """Add the gradients of all parts to the weights' own; processes exchange them once, after the last part.

    Losses are divided by counts of the whole step, so that the parts' gradients add up to those of one batch.

    Args:
        parts: of this process; another process may have more or fewer.
        weights: what each loss counts.

    Returns:
        Losses of this process's share by name, neither weighted nor with a gradient.
    """
    wrapper = network if isinstance(network, DistributedDataParallel) else None
    own: TrainingNetwork = network if wrapper is None else wrapper.module  # type: ignore[assignment]
    counts, found = own.counts(parts), []
    for number, part in enumerate(parts, start=1):
        with contextlib.nullcontext() if wrapper is None or number == len(parts) else wrapper.no_sync():
            losses = network(part, counts)
            torch.stack([weights[name] * loss for name, loss in losses.items()]).sum().backward()
        found.append({name: loss.detach() for name, loss in losses.items()})
    return {name: torch.stack([losses[name] for losses in found]).sum() for name in weights}
