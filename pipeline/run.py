"""The compiled pipeline on this machine, in processes or containers: kfp's local runners, their noise in a log file."""

from __future__ import annotations

import builtins
import contextlib
import fcntl
import io
import json
import os
import re
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TextIO

import psutil

from components.cxr.cli import Terminated
from components.cxr.errors import UserError
from components.cxr.storage.storage import Storage, open_storage
from pipeline.config import PipelineConfig

if TYPE_CHECKING:
    from kfp.local.config import DockerRunner, SubprocessRunner

__all__ = ["Runner", "ending_steps", "run_locally"]

Runner = AbstractContextManager["SubprocessRunner | DockerRunner"]
"""What runs the tasks, ready inside `with`."""

_OURS = re.compile(r"^\s*((?:preprocess|train|evaluate|serve|warning|error): .*)")
_KFPS = re.compile(r"^\s*(-+|\d\d:\d\d:\d\d\.\d+ - .*)?\s*$")
_LAST_LINES = 15
QUIET_S = 1.0
"""Without a new step after SIGTERM."""


def run_locally(config: PipelineConfig, *, log: Path, runner: Runner | None = None) -> Storage:
    """Compile the pipeline, run it here and return the evaluation's folder.

    Args:
        runner: what runs the tasks; by default every task is a process.
        log: file for everything that kfp and the steps print; the steps' own lines go to stdout as well.

    Raises:
        UserError: a step failed, or one that should have run left no result; no log can be written there, or another
            run writes it.
    """
    from kfp import components, local

    from pipeline.compile import compile_pipeline

    with tempfile.TemporaryDirectory(prefix="cxrflow-") as temporary, _opened(log) as file:
        compiled, pointers = Path(temporary, "cxr_pipeline.yaml"), Path(temporary, "pointers")
        output = _StepLines(sys.stdout, file)
        workspace = Path(temporary, "workspace")
        for folder in (pointers, workspace):  # a folder that Docker has to make for a mount belongs to root
            folder.mkdir()
        with _quiet_kfp(output), runner or _processes() as tasks:
            compile_pipeline(config, compiled)
            pipeline = components.load_component_from_file(str(compiled))
            local.init(tasks, pipeline_root=str(pointers), workspace_root=str(workspace))
            try:
                pipeline(**config.arguments)
            except RuntimeError as error:
                raise _failure(error, output, log) from None
            except (KeyError, OSError, TypeError, ValueError):  # a task took what another should have left
                _evaluation(pointers, config.platform.partitions, log=log)
                raise
        return _evaluation(pointers, config.platform.partitions, log=log)


def _opened(log: Path) -> TextIO:
    """The log, emptied; for one run at a time, as another would empty it and write over what this one wrote."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = log.open("a")
        if log.is_file():  # a device is nobody's
            _take(file, log)
            file.truncate(0)
    except OSError as error:
        raise UserError(
            "cannot-write",
            "cannot write the log",
            where=log,
            found=error.strerror,
            remedy="Set --log to another file.",
        ) from None
    return file


def _take(file: TextIO, log: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UserError(
            "log-in-use", "another run writes this log", where=log, remedy="Set --log to another file."
        ) from None
    except OSError:  # a file system without locks
        return


def _evaluation(pointers: Path, num_partitions: int, *, log: Path) -> Storage:
    """The evaluation's folder, after checking that every task that should have run left its output."""
    done = [path.parent for path in pointers.rglob("executor_output.json")]
    names = [folder.name for folder in done]
    expected = ["preprocess"] * num_partitions + ["collect", "train", "evaluate"]
    evaluate = next((folder for folder in done if folder.name == "evaluate"), None)
    if evaluate and json.loads((evaluate / "executor_output.json").read_text())["parameterValues"]["Output"]:
        expected.append("deploy")
    if evaluate is None or sorted(names) != sorted(expected):
        found, wanted = ", ".join(sorted(names)), ", ".join(sorted(expected))
        raise UserError("step-without-result", "a step left no result", where=log, found=found, expected=wanted)
    return open_storage(json.loads((evaluate / "evaluation").read_text())["uri"])


def _failure(error: RuntimeError, output: _StepLines, log: Path) -> UserError:
    """The step's own error line when it has one, else the last lines of the log."""
    if output.own_errors:
        return UserError.from_line(output.own_errors[-1])
    tasks = re.findall(r"'([^']+)'", re.sub(r"\x1b\[\d+m", "", str(error)))
    lines = [line for line in log.read_text(errors="replace").splitlines() if not _KFPS.match(line)]
    tail = "\n".join(lines[-_LAST_LINES:])
    return UserError(
        "step-failed", f"step {tasks[1] if len(tasks) > 1 else '?'} failed; everything is in {log}, its end:\n{tail}"
    )


class _StepLines(io.TextIOBase):
    """Writes everything to a log file, and the steps' own lines to the terminal."""

    def __init__(self, terminal: TextIO, log: TextIO) -> None:
        self.terminal, self.log = terminal, log
        self.pending = ""
        self.own_errors: list[str] = []
        self.started = time.monotonic()

    def write(self, text: str) -> int:
        self.log.write(text)
        self.log.flush()
        *lines, self.pending = (self.pending + text).split("\n")
        for line in lines:
            if found := _OURS.search(line):
                if found[1].startswith("error: "):
                    self.own_errors.append(found[1])
                else:
                    seconds = int(time.monotonic() - self.started)
                    self.terminal.write(f"{seconds // 60:2d}:{seconds % 60:02d}  {found[1]}\n")
                    self.terminal.flush()
        return len(text)


@contextlib.contextmanager
def _processes() -> Iterator[SubprocessRunner]:
    """Tasks as processes. Ctrl-C reaches them by itself."""
    from kfp.local import SubprocessRunner

    with ending_steps(_end_processes, on=[signal.SIGTERM]):
        yield SubprocessRunner(use_venv=False)


def _end_processes() -> bool:
    ended = False
    with contextlib.suppress(psutil.NoSuchProcess):
        for step in (step for shell in psutil.Process().children() for step in shell.children()):
            step.terminate()
            psutil.wait_procs([step])
            ended = True
    return ended


@contextlib.contextmanager
def ending_steps(end_steps: Callable[[], bool], *, on: Sequence[signal.Signals]) -> Iterator[None]:
    """Signals end the steps, and then this process as Ctrl-C does; by itself kfp would leave them.

    A step is asked as a pod is: training writes a checkpoint first.

    Args:
        end_steps: ends the steps that run, and says whether there was one.
        on: SIGTERM, SIGINT or both.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        for each in on:
            signal.signal(each, lambda *_: None)  # steps that begin from now on would inherit that it is ignored
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < QUIET_S:  # kfp's threads begin with the partitions that are left
            if end_steps():
                quiet_since = time.monotonic()
            time.sleep(0.05)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    before = {each: signal.signal(each, end) for each in on}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextlib.contextmanager
def _quiet_kfp(output: _StepLines) -> Iterator[None]:
    """Send what kfp prints, logs and warns through `output`; the steps import from this source and write at once."""
    source = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    before, original_print = dict(os.environ), builtins.print
    os.environ.update({"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"})
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin starve each other on a busy machine
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        builtins.print = original_print  # kfp's indenting print outlives parallel tasks that end out of order
