"""Studies through worker processes, in order and with bounded memory; used by preprocess.py alone."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass

import cv2

from components.cxr.ids import IdKey
from components.cxr.pixel_preset import PixelPreset
from components.cxr.text import SectionReader
from components.preprocess.read_study import StudyReader, StudyRows
from components.preprocess.records import Place, Study

__all__ = ["ReaderSpec", "read_studies"]

_CHUNK = 8
"""Studies a task holds: enough to hide the cost of a task, few enough to keep workers equally busy."""

_reader: StudyReader | None = None


@dataclass(frozen=True)
class ReaderSpec:
    """A StudyReader before its storage is open, so that it can travel to another process."""

    films: Place
    pathologies: tuple[str, ...]
    preset: PixelPreset
    ids: IdKey
    section_reader: SectionReader

    def open(self) -> StudyReader:
        """The reader in this process."""
        return StudyReader(self.films.open(), self.pathologies, self.preset, self.ids, self.section_reader)


def read_studies(studies: Iterable[Study], *, spec: ReaderSpec, num_workers: int | None) -> Iterator[StudyRows]:
    """Read studies in their order.

    Args:
        num_workers: processes; 0 for this one, None for every core this process may use.
    """
    if num_workers is None:
        num_workers = len(os.sched_getaffinity(0))
    if num_workers == 0:
        reader = spec.open()
        yield from map(reader, studies)
        return
    context = multiprocessing.get_context("spawn")  # forking a process with threads (cv2, grpc) can deadlock
    with ProcessPoolExecutor(num_workers, mp_context=context, initializer=_start, initargs=(spec,)) as pool:
        window: deque[Future[list[StudyRows]]] = deque()
        try:
            remaining = iter(studies)
            while chunk := list(itertools.islice(remaining, _CHUNK)):
                window.append(pool.submit(_read_chunk, chunk))
                if len(window) >= 4 * num_workers:
                    yield from window.popleft().result()
            while window:
                yield from window.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _start(spec: ReaderSpec) -> None:
    global _reader
    cv2.setNumThreads(1)
    _reader = spec.open()


def _read_chunk(studies: Iterable[Study]) -> list[StudyRows]:
    assert _reader is not None
    return [_reader(study) for study in studies]
