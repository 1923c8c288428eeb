"""Studies through worker processes, in order and with bounded memory."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future
from dataclasses import dataclass

from components.cxr.films.isolated import FilmReader
from components.cxr.films.limits import DecodeLimits
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.ids import IdKey
from components.cxr.processes import processes
from components.cxr.text.text import SectionReader
from components.preprocess.read_study import StudyReader, StudyRows
from components.preprocess.records import Folder, SourceStudy

__all__ = ["ReaderSpec", "read_studies"]

_CHUNK = 4
"""Studies a task holds: enough to hide the cost of a task, few enough to keep workers equally busy."""
_AHEAD = 4
"""Tasks per worker that are queued or done and not yet taken: what the workers do while a shard is uploaded."""

_spec: ReaderSpec | None = None
_reader: StudyReader | None = None


@dataclass(frozen=True)
class ReaderSpec:
    """A StudyReader before its storage is open, so that it can travel to another process."""

    films: Folder
    pathologies: tuple[str, ...]
    preset: PixelPreset
    limits: DecodeLimits
    ids: IdKey
    section_reader: SectionReader

    def open(self) -> StudyReader:
        """The reader in this process."""
        reader = FilmReader(self.limits)
        return StudyReader(self.films.open(), self.pathologies, self.preset, reader, self.ids, self.section_reader)


def read_studies(studies: Iterable[SourceStudy], *, spec: ReaderSpec, num_workers: int | None) -> Generator[StudyRows]:
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
        with reader.reader:
            yield from map(reader, studies)
        return
    window: deque[Future[list[StudyRows]]] = deque()
    remaining = iter(studies)
    with processes(num_workers, _set_spec, spec) as pool:
        while chunk := list(itertools.islice(remaining, _CHUNK)):
            window.append(pool.submit(_read_chunk, chunk))
            if len(window) >= _AHEAD * num_workers:
                yield from window.popleft().result()
        while window:
            yield from window.popleft().result()


def _set_spec(spec: ReaderSpec) -> None:
    global _spec
    _spec = spec


def _read_chunk(studies: Iterable[SourceStudy]) -> list[StudyRows]:
    global _reader
    if _reader is None:  # not in _set_spec, whose errors the parent would not see
        assert _spec is not None
        _reader = _spec.open()
    return [_reader(study) for study in studies]
