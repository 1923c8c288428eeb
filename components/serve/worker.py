"""The threads that read films and run the model, so that the event loop never waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["Worker"]

T = TypeVar("T")


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
        job = self._pool.submit(function)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.wrap_future(job)
        except TimeoutError:
            if job.running():
                self._overdue.add(job)
                job.add_done_callback(self._overdue.discard)
            raise

    def close(self) -> None:
        """Take no more functions."""
        self._pool.shutdown(wait=False, cancel_futures=True)
