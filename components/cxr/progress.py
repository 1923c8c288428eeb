"""Progress of any loop: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

__all__ = ["track"]

T = TypeVar("T")

PERIOD_S = 5.0
"""Seconds between two lines where there is no terminal."""


def track(
    iterable: Iterable[T],
    *,
    total: int,
    what: str,
    unit: str = "",
    size: Callable[[T], int] = lambda _: 1,
) -> Iterator[T]:
    """Yield the items unchanged and show on stderr how many are done, how many per second, and the time left.

    Args:
        total: sum of the items' sizes, not their number.
        what: the line's first word, e.g. "preprocess".
        unit: what is counted, e.g. "films".
        size: how much one item counts.
    """
    if total <= 0:
        yield from iterable
        return
    if sys.stderr.isatty():
        yield from _bar(iterable, total, f"{what} {unit}".strip(), size)
    else:
        yield from _lines(iterable, total, what, unit, size)


class _Meter:
    """Counts items; its rate leaves out what came before the first item, such as the start of worker processes."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = self._first = 0
        self._started = self._first_at = time.monotonic()

    def add(self, size: int) -> None:
        if not self.done:
            self._first, self._first_at = size, time.monotonic()
        self.done += size

    @property
    def rate(self) -> float:
        """Units per second."""
        now = time.monotonic()
        if self.done > self._first:
            return (self.done - self._first) / max(now - self._first_at, 1e-9)
        return self.done / max(now - self._started, 1e-9)

    @property
    def left(self) -> str:
        """Time left, once two items give a rate."""
        return _duration((self.total - self.done) / self.rate) if self.total > self.done > self._first else ""


def _bar(iterable: Iterable[T], total: int, label: str, size: Callable[[T], int]) -> Iterator[T]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.4g}/s {task.fields[left]}"),
    )
    meter = _Meter(total)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total, rate=0.0, left="")
        for item in iterable:
            yield item
            meter.add(size(item))
            left = meter.left and f"{meter.left} left"
            progress.update(task, completed=meter.done, rate=meter.rate, left=left)


def _lines(iterable: Iterable[T], total: int, what: str, unit: str, size: Callable[[T], int]) -> Iterator[T]:
    printed = time.monotonic()
    meter = _Meter(total)
    for item in iterable:
        yield item
        meter.add(size(item))
        now = time.monotonic()
        if now - printed >= PERIOD_S or meter.done >= total:
            printed = now
            left = meter.left and f", {meter.left} left"
            print(
                f"{what}: {meter.done}/{total} {unit}".rstrip() + f", {meter.rate:.4g}/s{left}",
                file=sys.stderr,
                flush=True,
            )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
