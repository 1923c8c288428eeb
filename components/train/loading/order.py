"""Which studies are in which global batch: keyed by (seed, pass), the same on any number of processes."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from components.cxr.errors import UserError

__all__ = ["Order", "order_of", "position"]


class _Stream(NamedTuple):
    """Studies that come round again and again, each time in another order."""

    studies: npt.NDArray[np.int64]
    num_in_batch: int
    key: tuple[int, ...]


class Order:
    """The studies of every global batch of a training.

    Without a limit one stream holds all studies, and a pass over it is an epoch. Where the data have more unlabeled
    studies per labeled one than `unlabeled_per_labeled`, every batch has labeled studies first and unlabeled ones after
    them at that ratio; either stream begins a new pass, in another order, whenever it is through, and an epoch remains
    as many batches as all studies fill. A limit of 0 leaves unlabeled studies out, and an epoch is a pass over the
    labeled ones. What does not fill a stream's last batch of a pass is left out of that pass, so that no study is in a
    batch twice.

    >>> order = Order(np.array([True, False, True, False, False]), batch_size=2, unlabeled_per_labeled=1.0)
    >>> [len(set(order.batch(step)) & {0, 2}) for step in range(4)]
    [1, 1, 1, 1]

    Args:
        labeled_S: whether a study is labeled.
        batch_size: studies of a global batch, at most S.
        unlabeled_per_labeled: the most of them; rounded to whole studies of a batch, at least one of each kind. Where
            that asks for more labeled studies than there are, every batch has them all.

    Raises:
        UserError: a batch is too small for both kinds.
    """

    def __init__(
        self,
        labeled_S: npt.NDArray[np.bool_],
        *,
        batch_size: int,
        unlabeled_per_labeled: float = math.inf,
        seed: int = 0,
    ) -> None:
        labeled, unlabeled = np.flatnonzero(labeled_S), np.flatnonzero(~labeled_S)
        if len(unlabeled) <= unlabeled_per_labeled * len(labeled):
            streams = [_Stream(np.arange(len(labeled_S)), batch_size, ())]
        elif unlabeled_per_labeled == 0:
            streams = [_Stream(labeled, batch_size, ())]
        else:
            if batch_size < 2:
                raise UserError(
                    "batch-too-small",
                    "a batch of one cannot hold both kinds of studies",
                    where="train.batch_size",
                    found=batch_size,
                    expected="at least 2 with train.semi_supervised.unlabeled_per_labeled",
                )
            num_labeled = min(max(1, round(batch_size / (1.0 + unlabeled_per_labeled))), batch_size - 1, len(labeled))
            streams = [
                _Stream(labeled, num_labeled, (1,)),
                _Stream(unlabeled, batch_size - num_labeled, (2,)),
            ]
        self.steps_per_epoch = (len(labeled) if unlabeled_per_labeled == 0 else len(labeled_S)) // batch_size
        self._seed, self._streams = seed, streams
        self._passes: dict[tuple[int, ...], tuple[int, npt.NDArray[np.int64]]] = {}

    def batch(self, step: int) -> list[int]:
        """The studies of the global batch of one step (from 0)."""
        found: list[int] = []
        for stream in self._streams:
            turn, place = divmod(step, len(stream.studies) // stream.num_in_batch)
            number, studies = self._passes.get(stream.key, (-1, stream.studies))
            if number != turn:
                order = order_of(len(stream.studies), seed=self._seed, epoch=turn, stream=stream.key)
                studies = stream.studies[order]
                self._passes[stream.key] = (turn, studies)
            found += studies[place * stream.num_in_batch :][: stream.num_in_batch].tolist()
        return found

    def shares(self, *, epoch: int, skip: int = 0, process: int = 0, num_processes: int = 1) -> list[list[int]]:
        """One process's part of every global batch of one epoch but the first `skip`.

        >>> Order(np.ones(7, bool), batch_size=3).shares(epoch=0, skip=1, process=0, num_processes=2)
        [[6, 0]]
        """
        start = epoch * self.steps_per_epoch
        steps = range(start + skip, start + self.steps_per_epoch)
        return [self.batch(step)[process::num_processes] for step in steps]


def order_of(num_studies: int, *, seed: int, epoch: int, stream: tuple[int, ...] = ()) -> list[int]:
    """The studies' places in the order of one pass."""
    return np.random.default_rng([seed, epoch, *stream]).permutation(num_studies).tolist()  # type: ignore[no-any-return]


def position(step: int, *, steps_per_epoch: int) -> tuple[int, int]:
    """The epoch (from 0) that a training is in after `step` steps, and how many of its batches are done.

    >>> position(7, steps_per_epoch=4), position(8, steps_per_epoch=4)
    ((1, 3), (2, 0))
    """
    return divmod(step, steps_per_epoch)
