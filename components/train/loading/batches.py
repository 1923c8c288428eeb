"""The order of training: global batches keyed by (seed, epoch), shared out to the processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from torch.utils.data import DataLoader

from components.cxr.model.batch import Batch, collate
from components.train.distributed import rank, world_size
from components.train.setup import Setup

__all__ = ["batches", "order_of", "position", "shares_of"]


def batches(setup: Setup, *, epoch: int, skip: int = 0) -> Iterator[tuple[list[int], Batch]]:
    """This process's share of every global batch of one epoch, with the studies' indices.

    The order depends on (seed, epoch) alone; the last, incomplete batch is left out.

    Args:
        skip: global batches already done in this epoch.
    """
    config = setup.config
    order = order_of(len(setup.training), seed=config.seed, epoch=epoch)
    shares = shares_of(order, batch_size=setup.batch_size, skip=skip, process=rank(), num_processes=world_size())
    max_tokens, size = config.architecture.max_tokens, setup.info.pixel_preset.size
    loader = DataLoader(
        setup.training,
        batch_sampler=shares,
        collate_fn=partial(collate, tokenizer=setup.tokenizer, max_tokens=max_tokens, size=size),
        num_workers=config.num_workers,
    )
    yield from zip(shares, loader, strict=True)


def order_of(num_studies: int, *, seed: int, epoch: int) -> list[int]:
    """The studies' indices in the order of one epoch."""
    return np.random.default_rng([seed, epoch]).permutation(num_studies).tolist()  # type: ignore[no-any-return]


def shares_of(order: Sequence[int], *, batch_size: int, skip: int, process: int, num_processes: int) -> list[list[int]]:
    """One process's part of every whole batch of `order` but the first `skip`.

    >>> shares_of([5, 3, 1, 0, 4, 2, 6], batch_size=3, skip=1, process=0, num_processes=2)
    [[0, 2]]
    """
    starts = range(skip * batch_size, len(order) // batch_size * batch_size, batch_size)
    return [list(order[start : start + batch_size][process::num_processes]) for start in starts]


def position(step: int, *, steps_per_epoch: int) -> tuple[int, int]:
    """The epoch (from 0) that a training is in after `step` steps, and how many of its batches are done.

    >>> position(7, steps_per_epoch=4), position(8, steps_per_epoch=4)
    ((1, 3), (2, 0))
    """
    return divmod(step, steps_per_epoch)
