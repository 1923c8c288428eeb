"""Progress of any loop: a bar on a terminal, a line every few seconds elsewhere; used by all steps."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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
    """Yield the items unchanged and show on stderr how many are done, how many a second, and the time left.

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


def _bar(iterable: Iterable[T], total: int, label: str, size: Callable[[T], int]) -> Iterator[T]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total, rate="")
        done = 0
        for item in iterable:
            yield item
            done += size(item)
            progress.update(task, completed=done, rate=f"{_rate(done, started):.4g}/s")


def _lines(iterable: Iterable[T], total: int, what: str, unit: str, size: Callable[[T], int]) -> Iterator[T]:
    started = printed = time.monotonic()
    done = 0
    for item in iterable:
        yield item
        done += size(item)
        now = time.monotonic()
        if now - printed >= PERIOD_S or done >= total:
            printed = now
            rate = _rate(done, started)
            left = f", {_duration((total - done) / rate)} left" if rate > 0 and done < total else ""
            print(f"{what}: {done}/{total} {unit}".rstrip() + f", {rate:.4g}/s{left}", file=sys.stderr, flush=True)


def _rate(done: int, started: float) -> float:
    return done / max(time.monotonic() - started, 1e-9)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
