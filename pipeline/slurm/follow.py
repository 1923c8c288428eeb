"""Follows the jobs of a run: one line of how they are, and at the end what failed, where, and its last lines."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.live import Live
from rich.text import Text

from components.cxr.errors import UserError
from pipeline.slurm.commands import State, describe, states
from pipeline.slurm.plan import Job
from pipeline.slurm.prepare import SKIPPED
from pipeline.slurm.script import DONE, log_of

__all__ = ["follow"]

FIRST_POLL_S, LAST_POLL_S = 1.0, 15.0
PATIENCE_S = 600.0
"""How long Slurm's controller may be away: it is started again while jobs go on."""
LAST_LINES = 15
UNSEEN = "0:53"
"""ExitCode of a job whose node could not open its log."""
NOISE = re.compile(r"^\s*$|\[KFP Executor |^[{}\s]*$|^slurm: try ")


def follow(jobs: Sequence[Job], run: Path, ids: Mapping[str, str], *, more: Callable[[], str] = lambda: "") -> None:
    """Return once all jobs have succeeded; elements of an array that has lost one are waited for.

    Args:
        more: what else the line says.

    Raises:
        UserError: naming the first that failed, its job, node and exit state, and its log's last lines.
    """
    console, pause, shown, answered = Console(), FIRST_POLL_S, "", time.monotonic()
    known: dict[str, State] = {}
    with Live(Text(), console=console, transient=True, auto_refresh=False) as live:
        while True:
            try:
                latest = states(ids.values())
            except UserError:
                if time.monotonic() - answered > PATIENCE_S:
                    raise
                time.sleep(LAST_POLL_S)
                continue
            answered = time.monotonic()
            # Slurm forgets jobs minutes after their end, so what has ended is kept.
            known = {id: state for id, state in known.items() if state.done or state.failed}
            known |= {state.id: state for state in latest}
            found = {job: _of(job, run, ids[job.name], known) for job in jobs}
            line = "slurm: " + ", ".join(f"{job.name} {_shown(job, found[job])}" for job in jobs) + more()
            if line != shown:
                shown, pause = line, FIRST_POLL_S
                if console.is_terminal:
                    live.update(Text(line), refresh=True)
                else:
                    print(line, flush=True)
            now = [state for each in found.values() for state in each]
            if not any(state.waits or state.runs for state in now):
                break
            time.sleep(pause)
            pause = min(pause * 1.3, LAST_POLL_S)
    for job in jobs:
        for number, state in enumerate(found[job]):
            if state.failed and state.reason != "DependencyNeverSatisfied":
                _fail(job, run, state, found[job], None if job.copies is None else number)
    for job in jobs:
        for folder in job.folders(run):
            if not _has_result(job, folder):
                raise UserError(
                    "step-without-result", "a job left no result", where=folder, found=_shown(job, found[job])
                )


def _of(job: Job, run: Path, id: str, known: Mapping[str, State]) -> list[State]:
    """The job's states, one an element; what Slurm has forgotten is told by what it left."""
    names = [id] if job.copies is None else [f"{id}_{i}" for i in range(job.copies)]
    return [
        known.get(name) or State(name, "COMPLETED" if _has_result(job, folder) else "FORGOTTEN", "", "None")
        for name, folder in zip(names, job.folders(run), strict=True)
    ]


def _has_result(job: Job, folder: Path) -> bool:
    names = ("executor_output.json", SKIPPED) if job.path else (DONE,)
    return any((folder / name).exists() for name in names)


def _shown(job: Job, found: Sequence[State]) -> str:
    if job.copies is not None:
        failed, done = sum(state.failed for state in found), sum(state.done for state in found)
        return f"{done}/{job.copies}" + (f" ({failed} failed)" if failed else "")
    (state,) = found
    if state.runs:
        return f"runs on {state.nodes}"
    return "done" if state.done else "waits" if state.waits else state.name.lower()


def _fail(job: Job, run: Path, state: State, others: Sequence[State], element: int | None) -> NoReturn:
    told = describe(state.id)
    node, code = told.get("NodeList") or state.nodes or "no node", told.get("ExitCode", "unknown")
    what = f"step {job.name}" if element is None else f"step {job.name}, element {element} of {job.copies},"
    more = sum(other.failed for other in others) - 1
    what += f" failed{f' ({more} more)' if more else ''}"
    where, log = f"job {state.id} on {node}", log_of(run, job, element)
    found = f"{state.name}, exit code {code}, reason {state.reason}"
    if code == UNSEEN:
        raise UserError(
            "root-not-shared",
            what,
            where=where,
            found=f"{found}: the node cannot write {log}",
            remedy="Keep root, or platform.slurm.folder, on a file system that all nodes share.",
        )
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    tail = "\n".join([line for line in lines if not NOISE.search(line)][-LAST_LINES:])
    raise UserError("step-failed", what, where=where, found=found, remedy=f"Everything is in {log}, its end:\n{tail}")
