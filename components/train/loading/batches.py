"""From the order of training to this process's batches, a few of them ahead."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from torch.utils.data import DataLoader

from components.cxr.model.batch import Batch
from components.cxr.model.study_batches import StudyBatches
from components.train.distributed import rank, world_size
from components.train.setup import Setup

__all__ = ["batches", "loaded"]

_AHEAD = 2
"""Batches that wait for the training."""


def batches(setup: Setup, *, epoch: int, skip: int = 0) -> Iterator[tuple[list[int], Batch]]:
    """This process's share of every global batch of one epoch, with the studies' indices.

    Args:
        skip: global batches already done in this epoch.
    """
    shares = setup.order.shares(epoch=epoch, skip=skip, process=rank(), num_processes=world_size())
    found = loaded(setup.batches, shares, num_workers=setup.config.num_workers, pin=setup.device.type == "cuda")
    yield from zip(shares, found, strict=True)


def loaded(
    batches: StudyBatches, shares: Sequence[Sequence[int]], *, num_workers: int = 0, pin: bool = False
) -> Iterator[Batch]:
    """The batches of these studies in their order, made ahead by a thread or by `num_workers` processes.

    Args:
        pin: into page-locked memory, from which a GPU copies while the host goes on.
    """
    if num_workers == 0:
        return _ahead(lambda studies: batches[studies].pin_memory() if pin else batches[studies], shares)
    found = DataLoader(
        batches,
        sampler=shares,
        batch_size=None,
        num_workers=num_workers,
        worker_init_fn=_leave_sigterm_to_the_training,
        multiprocessing_context="fork",  # a new process would have to be sent all mapped pixels
        pin_memory=pin,
    )
    return iter(found)


def _leave_sigterm_to_the_training(number: int) -> None:
    """torchrun sends it to the whole process group, and the step under way still needs its batch."""
    del number
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _ahead(make: Callable[[Sequence[int]], Batch], shares: Iterable[Sequence[int]]) -> Iterator[Batch]:
    waiting: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(1) as thread:
        for studies in shares:
            waiting.append(thread.submit(make, studies))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
