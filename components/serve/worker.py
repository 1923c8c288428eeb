"""The threads that read films and run the model, so that the event loop never waits for them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

__all__ = ["Batcher", "Worker"]

T = TypeVar("T")
Item = TypeVar("Item")


class Worker:
    """Runs functions in the order they come, `number` at a time."""

    def __init__(self, number: int) -> None:
        self._pool = ThreadPoolExecutor(max_workers=number, thread_name_prefix="model")
        self._overdue: set[Future[Any]] = set()

    @property
    def stuck(self) -> bool:
        """Whether a function that has timed out is still running."""
        return bool(self._overdue)

    async def run(self, function: Callable[[], T], *, timeout_s: float) -> T:
        """The function's result.

        Raises:
            TimeoutError: no result in time. A function that waits is dropped; one that runs goes on, its result unused.
        """
        return await self._result(self._pool.submit(function), timeout_s)

    def close(self) -> None:
        """Take no more functions."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _result(self, job: Future[T], timeout_s: float) -> T:
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.wrap_future(job)
        except TimeoutError:
            if job.running():
                self._overdue.add(job)
                job.add_done_callback(self._overdue.discard)
            raise


class Batcher(Worker, Generic[Item, T]):
    """Runs one function on all that wait, together.

    Nothing waits for company: whoever comes while the function is idle is answered at once and alone, and whoever comes
    while it runs is in the next batch, or in a later one only when `most` before it fill that. So what a busy server
    adds to an answer's time is at most the batch under way and those before its own.

    Args:
        function: from items to as many results in their order.
        size_of: of an item, in the unit of `most`.
        most: size of a batch; a larger item is a batch of its own.
    """

    def __init__(
        self, function: Callable[[list[Item]], Sequence[T]], *, size_of: Callable[[Item], int], most: int
    ) -> None:
        super().__init__(1)
        self._function, self._size_of, self._most = function, size_of, most
        self._waiting: deque[tuple[Item, Future[T]]] = deque()

    async def answer(self, item: Item, *, timeout_s: float) -> T:
        """The function's result for one item.

        Raises:
            TimeoutError: as run.
        """
        job: Future[T] = Future()
        self._waiting.append((item, job))
        self._pool.submit(self._answer_waiting)  # it finds nothing where an earlier one took this item along
        return await self._result(job, timeout_s)

    def _answer_waiting(self) -> None:
        size = 0
        batch: list[tuple[Item, Future[T]]] = []
        while self._waiting:
            item, job = self._waiting[0]
            size += self._size_of(item)
            if batch and size > self._most:
                break
            self._waiting.popleft()
            if job.set_running_or_notify_cancel():
                batch.append((item, job))
        if batch:
            self._answer(batch)

    def _answer(self, batch: list[tuple[Item, Future[T]]]) -> None:
        try:
            results = self._function([item for item, _ in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
            else:  # each alone, so that one does not spoil the others' answers
                for one in batch:
                    self._answer([one])
        else:
            for (_, job), result in zip(batch, results, strict=True):
                job.set_result(result)
