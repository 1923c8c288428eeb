"""Studies through worker processes, in order and with bounded memory; used by preprocess.py alone."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import Connection

import cv2

from components.cxr.errors import UserError
from components.cxr.ids import IdKey
from components.cxr.pixel_preset import PixelPreset
from components.preprocess.read_study import StudyReader, StudyRows
from components.preprocess.records import Place, Study

__all__ = ["ReaderSpec", "read_studies"]

_CHUNK = 4
"""Studies a task holds: enough to hide the cost of a task, few enough to keep workers equally busy."""
_AHEAD = 4
"""Tasks a worker that are queued or done and not yet taken: what the workers do while a shard is uploaded."""

_spec: ReaderSpec | None = None
_reader: StudyReader | None = None


@dataclass(frozen=True)
class ReaderSpec:
    """A StudyReader before its storage is open, so that it can travel to another process."""

    films: Place
    pathologies: tuple[str, ...]
    preset: PixelPreset
    ids: IdKey

    def open(self) -> StudyReader:
        """The reader in this process."""
        return StudyReader(self.films.open(), self.pathologies, self.preset, self.ids)


def read_studies(studies: Iterable[Study], *, spec: ReaderSpec, num_workers: int | None) -> Generator[StudyRows]:
    """Read studies in their order; workers end with this process, however it ends.

    Args:
        num_workers: processes; 0 for this one, None for every core this process may use.

    Raises:
        UserError: a worker was killed.
    """
    if num_workers is None:
        num_workers = len(os.sched_getaffinity(0))
    if num_workers == 0:
        reader = spec.open()
        yield from map(reader, studies)
        return
    context = multiprocessing.get_context("spawn")  # forking a process with threads (cv2, grpc) can deadlock
    watched, lifeline = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(num_workers, mp_context=context, initializer=_start, initargs=(spec, watched))
    window: deque[Future[list[StudyRows]]] = deque()
    remaining = iter(studies)
    try:
        while chunk := list(itertools.islice(remaining, _CHUNK)):
            with _interrupts_held():
                window.append(pool.submit(_read_chunk, chunk))
            if len(window) >= _AHEAD * num_workers:
                yield from window.popleft().result()
        while window:
            yield from window.popleft().result()
        pool.shutdown()
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed",
            where="preprocess.num_workers",
            found=f"{num_workers} workers",
            remedy="Most often memory ran out: set fewer workers or give more memory, and run the same command again; "
            "finished shards are kept.",
        ) from None
    finally:
        lifeline.close()  # ends workers that are still busy
        watched.close()
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes started in here never see Ctrl-C, which a terminal sends to all: only the parent answers it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(spec: ReaderSpec, lifeline: Connection) -> None:
    global _spec
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    cv2.setNumThreads(1)
    _spec = spec


def _end_with(lifeline: Connection) -> None:
    """Leave at once when the other end of the pipe closes: the parent is gone, or does not want more."""
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv()
    os._exit(1)


def _read_chunk(studies: Iterable[Study]) -> list[StudyRows]:
    global _reader
    if _reader is None:  # not in _start, whose errors the parent would not see
        assert _spec is not None
        _reader = _spec.open()
    return [_reader(study) for study in studies]
