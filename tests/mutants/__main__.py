"""Plant each bug of the table in a copy of the source and run the test that must notice.

`python -m tests.mutants [--fraction 1/5] [--seed TEXT] [--jobs 2] [--list] [names…]`. A name may be a part of one. The
seed is the commit unless it is given, so that a fifth at every commit comes round to all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import queue
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from tests.mutants.mutant import REPOSITORY, Mutant, StaleMutantError, choose, copy_source, mutated, read_table
from tests.mutants.run import Outcome, Runner

T = TypeVar("T")
LIMIT = 240.0
"""Seconds a test may take."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when every chosen bug was caught, else 1; 2 for a table that does not fit the source."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="only bugs whose name contains one of these")
    parser.add_argument("--fraction", type=Fraction, default=Fraction(1), help="the share to run, such as 1/5")
    parser.add_argument("--seed", default=None, help="what chooses the share; the commit if not given")
    parser.add_argument("--jobs", type=int, default=2, help="tests at a time")
    parser.add_argument("--list", action="store_true", help="list the bugs and run nothing")
    options = parser.parse_args(arguments)
    table = [m for m in read_table() if not options.names or any(name in m.name for name in options.names)]
    seed = options.seed if options.seed is not None else _commit()
    chosen = choose(table, fraction=options.fraction, seed=seed)
    if stale := [line for mutant in chosen if (line := _staleness(mutant))]:
        print("\n".join(stale))
        return 2
    if options.list or not chosen:
        print("\n".join(f"{mutant.name}  {mutant.file}  {mutant.test}" for mutant in chosen) or "no such bug")
        return 0 if chosen else 2
    print(f"{len(chosen)} of {len(table)} planted bugs, seed {seed}, {options.jobs} at a time", flush=True)
    return run(chosen, jobs=options.jobs)


def run(chosen: Sequence[Mutant], *, jobs: int) -> int:
    """First the tests on the unchanged source, then each bug; a line as each is known."""
    start = time.monotonic()
    missed: list[str] = []
    with contextlib.ExitStack() as stack:
        unchanged = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mutants-")), "unchanged")
        copy_source(REPOSITORY, unchanged)
        runners: queue.SimpleQueue[Runner] = queue.SimpleQueue()
        for runner in [Runner() for _ in range(jobs)]:
            runners.put(stack.enter_context(runner))
        pool = stack.enter_context(ThreadPoolExecutor(jobs))

        def of_tests(tests: Sequence[str]) -> Outcome:
            with _one_of(runners) as runner:
                return runner.run_tests(tests, unchanged, limit=LIMIT)

        def of_mutant(mutant: Mutant) -> Outcome:
            with _one_of(runners) as runner:
                return runner.run_mutant(mutant, unchanged, limit=LIMIT)

        files = [list(tests) for _, tests in groupby(sorted({m.test for m in chosen}), lambda t: t.split("::")[0])]
        sound: set[str] = set()
        for outcome, tests in _each(pool, {pool.submit(of_tests, tests): tests for tests in files}):
            if outcome.verdict == "passed":
                sound |= set(tests)
            else:
                _line(outcome, f"unchanged source: {' '.join(tests)}")
                missed += [m.name for m in chosen if m.test in tests]
        print(f"{len(sound)} tests on the unchanged source: {time.monotonic() - start:.0f} s", flush=True)
        for outcome, mutant in _each(pool, {pool.submit(of_mutant, m): m for m in chosen if m.test in sound}):
            _line(outcome, mutant.name)
            if outcome.verdict != "caught":
                missed.append(mutant.name)
    seconds = round(time.monotonic() - start)
    print(f"{len(chosen) - len(missed)} of {len(chosen)} caught in {seconds // 60} min {seconds % 60} s")
    if missed:
        print("not caught: " + ", ".join(sorted(missed)))
    return 1 if missed else 0


@contextlib.contextmanager
def _one_of(runners: queue.SimpleQueue[Runner]) -> Iterator[Runner]:
    runner = runners.get()
    try:
        yield runner
    finally:
        runners.put(runner)


def _each(pool: ThreadPoolExecutor, futures: dict[Future[Outcome], T]) -> Iterator[tuple[Outcome, T]]:
    """Results as they come; what has not begun does not begin after an error or Ctrl-C."""
    try:
        for future in as_completed(futures):
            yield future.result(), futures[future]
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _line(outcome: Outcome, what: str) -> None:
    print(f"{outcome.verdict:9} {outcome.seconds:6.1f} s  {what}", flush=True)
    if outcome.verdict != "caught":
        print("".join(f"    {line}\n" for line in outcome.detail.splitlines()), end="", flush=True)


def _staleness(mutant: Mutant) -> str | None:
    try:
        mutated(mutant, REPOSITORY)
    except StaleMutantError as error:
        return str(error)
    return None


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "no commit"


if __name__ == "__main__":
    sys.exit(main())
