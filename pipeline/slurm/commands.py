"""Slurm's own commands: sbatch, scancel, squeue and scontrol, and what they say."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from components.cxr.errors import UserError

__all__ = ["State", "cancel", "describe", "states", "submit", "uninterrupted"]

TIMEOUT_S = 120.0
ENDED_WELL = "COMPLETED"
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT")


class State(NamedTuple):
    """How a job or an element of an array is."""

    id: str
    """Such as 12, or 12_3 of an array."""
    name: str
    """Slurm's word, such as PENDING."""
    nodes: str
    reason: str

    @property
    def waits(self) -> bool:
        """Whether it has not begun, or waits to begin again."""
        return self.name in WAITING

    @property
    def runs(self) -> bool:
        """Whether nodes are at work for it."""
        return self.name in RUNNING

    @property
    def done(self) -> bool:
        """Whether it has succeeded."""
        return self.name == ENDED_WELL

    @property
    def failed(self) -> bool:
        """Whether it is over without success."""
        return not (self.waits or self.runs or self.done)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back: an sbatch whose job's id gets lost would leave a job to nobody."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})  # the command inherits it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def submit(script: Path, *, after: Sequence[str] = ()) -> str:
    """Queue a batch script and return the job's id; it never starts when one of the jobs before it fails.

    Raises:
        UserError: there is no Slurm here, or it refuses the job.
    """
    command = ["sbatch", "--parsable"]
    if after:
        command += [f"--dependency=afterok:{':'.join(after)}", "--kill-on-invalid-dep=yes"]
    return _run([*command, str(script)], where=f"job {script.stem}").strip().split(";")[0]


def cancel(ids: Iterable[str]) -> None:
    """End jobs, whether they wait or run; those that are over are left. What cannot be canceled is told, not raised."""
    if ids := list(ids):
        try:
            with uninterrupted():
                _run(["scancel", *ids])
        except UserError as error:
            print(f"slurm: jobs may be left ({error}); scancel {' '.join(ids)}", file=sys.stderr, flush=True)


def states(ids: Iterable[str]) -> list[State]:
    """How jobs are, an entry an element of an array; Slurm forgets a job some minutes after its end.

    Raises:
        UserError: Slurm does not answer.
    """
    try:
        said = _run(
            ["squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(ids)}", "--format=%i|%T|%N|%r"]
        )
    except UserError as error:
        if "Invalid job id" in str(error):  # all are forgotten
            return []
        raise
    return [State(*line.split("|", 3)) for line in said.splitlines()]


def describe(id: str) -> dict[str, str]:
    """What `scontrol show job` tells of one job or element, by its own words such as ExitCode; empty once forgotten."""
    try:
        said = _run(["scontrol", "show", "job", "--oneliner", id])
    except UserError:
        return {}
    return dict(re.findall(r"(?:^|\s)(\w+)=(\S*)", said.splitlines()[0])) if said else {}


def _run(command: list[str], *, where: object = None) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except FileNotFoundError:
        raise UserError(
            "no-slurm", "Slurm is not installed here", where=command[0], remedy="Run it on a login node of the cluster."
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError("slurm-silent", "Slurm does not answer", where=command[0], found=f"{TIMEOUT_S:.0f} s") from None
    if done.returncode != 0:
        said = (
            [line for line in done.stderr.splitlines() if "error:" in line] or done.stderr.splitlines() or ["nothing"]
        )
        reason = said[-1].partition("error: ")[2] or said[-1]
        raise UserError(
            "slurm-refuses",
            f"{command[0]} failed",
            where=where,
            found=reason,
            remedy="See platform.slurm in docs/slurm.md.",
        )
    return done.stdout
