"""Worker processes that end with their parent, however it ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import ParamSpec, TypeVar

import cv2

from components.cxr.errors import UserError
from components.cxr.storage.atomic import discard_partials

__all__ = ["Processes", "processes"]

P = ParamSpec("P")
T = TypeVar("T")


class Processes:
    """A ProcessPoolExecutor whose processes never see Ctrl-C: a terminal sends it to all, and the parent answers it."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call a function of a module in one of the processes, which are started here as they are needed."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a process inherits the mask
        try:
            return self._pool.submit(function, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def processes(
    number: int,
    initializer: Callable[..., None] | None = None,
    *args: object,
    where: str = "preprocess",
    option: str = "preprocess.num_workers",
) -> Iterator[Processes]:
    """Processes for the length of a block; when it ends with an error, they end at once with what they do.

    Args:
        where: whose they are, and `option` says how many there are, for the error.

    Raises:
        UserError: one was killed.
    """
    context = multiprocessing.get_context("spawn")  # forking a process with threads (cv2, grpc) can deadlock
    watched, lifeline = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(number, mp_context=context, initializer=_start, initargs=(watched, initializer, args))
    try:
        yield Processes(pool)
        pool.shutdown()
    except BrokenProcessPool:
        raise UserError(
            "worker-killed",
            "a worker process was killed",
            where=where,
            found=f"{number} processes",
            remedy=f"Most often memory ran out: lower {option} or give more memory, and run the same "
            "command again; what is finished is kept.",
        ) from None
    finally:
        lifeline.close()
        watched.close()
        pool.shutdown(cancel_futures=True)


def _start(watched: Connection, initializer: Callable[..., None] | None, args: tuple[object, ...]) -> None:
    threading.Thread(target=_end_with, args=(watched,), daemon=True).start()
    cv2.setNumThreads(1)
    if initializer is not None:
        initializer(*args)


def _end_with(watched: Connection) -> None:
    """Leave when the pipe's other end closes: the parent is gone, even by SIGKILL, or does not want more."""
    with contextlib.suppress(EOFError, OSError):
        watched.recv()
    discard_partials()
    os._exit(1)
