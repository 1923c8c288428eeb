"""The order of training: global batches keyed by (seed, epoch), shared out to the processes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from torch.utils.data import DataLoader

from components.cxr.model.batch import Batch, collate
from components.train.distributed import rank, world_size
from components.train.setup import Setup

__all__ = ["batches"]


def batches(setup: Setup, *, epoch: int, skip: int = 0) -> Iterator[tuple[list[int], Batch]]:
    """This process's share of every global batch of one epoch, with the studies' indices.

    The order depends on (seed, epoch) alone; the last, incomplete batch is left out.

    Args:
        skip: global batches already done in this epoch.
    """
    config, batch_size = setup.config, setup.batch_size
    order = np.random.default_rng([config.seed, epoch]).permutation(len(setup.training)).tolist()
    starts = range(skip * batch_size, setup.steps_per_epoch * batch_size, batch_size)
    shares = [order[start : start + batch_size][rank() :: world_size()] for start in starts]
    max_tokens, size = config.architecture.max_tokens, setup.info.pixel_preset.size
    loader = DataLoader(
        setup.training,
        batch_sampler=shares,
        collate_fn=partial(collate, tokenizer=setup.tokenizer, max_tokens=max_tokens, size=size),
        num_workers=config.num_workers,
    )
    yield from zip(shares, loader, strict=True)
