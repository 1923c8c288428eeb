"""One trial: a training in a process of its own, watched by its journal while it learns."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from components.cxr.errors import UserError
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.cxr.tracking.identity import PARENT_RUN, TRIAL
from components.cxr.tracking.journal import JOURNAL, read_journal
from components.train.config import TrainConfig

__all__ = ["StoppedError", "run_trial"]

PATIENCE_S = 300.0
"""Of a training that was asked to end: it finishes its step and writes a checkpoint."""
POLL_S = 0.5
_PR_SET_PDEATHSIG = 1
# Found before any fork, as the child of a thread may load nothing; elsewhere than on Linux there is none.
_prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


class StoppedError(Exception):
    """The sweep ends; the training has left a checkpoint and goes on another time."""


def run_trial(
    train: Mapping[str, Any],
    *,
    root: Root,
    loaded: LoadedManifest,
    parent_run: str | None,
    name: str,
    goes_on: Callable[[int, float], bool],
    stop: threading.Event,
) -> float | None:
    """Train under a configuration and return the validation mean AUROC of the weights that go out; a bundle that is
    there counts as it is.

    Args:
        train: section `train`.
        parent_run: MLflow's run that the training's is nested in.
        name: of the training's run.
        goes_on: told the epoch, from 1, and its validation mean AUROC; where it is false the training is ended.
        stop: set by another thread when the sweep ends.

    Returns:
        None where it was ended.

    Raises:
        UserError: the training's own, or too few labels to validate by.
        StoppedError: `stop` is set.
    """
    from components.train.key import training_key

    config = TrainConfig.parse(dict(train), where="train")
    checkpoints = root.checkpoints(training_key(config, loaded.hash))
    with tempfile.TemporaryDirectory(prefix="cxrflow-") as temporary:
        file, log = Path(temporary, "train.yaml"), Path(temporary, "log")
        file.write_text(yaml.safe_dump({"root": root.uri, "train": dict(train)}))
        command = [sys.executable, "-m", "components.train", "--config", str(file), "--manifest", loaded.storage.uri]
        environment = os.environ | {"OMP_NUM_THREADS": str(config.num_threads), TRIAL: name}
        environment.pop("MLFLOW_RUN_ID", None)  # the sweep's own, in which trials would overwrite each other
        if parent_run is not None:
            environment[PARENT_RUN] = parent_run
        with (
            log.open("w") as output,
            subprocess.Popen(
                command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=_end_with_parent,
            ) as process,
        ):  # fmt: skip
            told, pruned = 0, False
            while True:
                try:
                    code = process.wait(POLL_S)
                except subprocess.TimeoutExpired:
                    code = None
                validated, best = _validated(checkpoints, Path(temporary))
                while told < len(validated) and not pruned:
                    told += 1
                    pruned = not goes_on(told, validated[told - 1]) and told < config.epochs
                if code is not None:
                    break
                if pruned or stop.is_set():
                    _end(process)
        if stop.is_set():
            raise StoppedError
        if pruned:
            return None
        if code != 0:
            raise _failure(log, code)
        if best is None:
            from components.train.validation import LEAST_POSITIVES

            raise UserError(
                "nothing-to-validate-by", "the validation split has too few labels to choose by",
                where=loaded.storage.uri, expected=f"{LEAST_POSITIVES} positive ones",
                remedy="A sweep chooses by the validation mean AUROC.",
            )  # fmt: skip
        return best


def _validated(checkpoints: Any, temporary: Path) -> tuple[list[float], float | None]:
    """The validation mean AUROC of the epochs so far, each once, as a resumed training may write an epoch again; and
    at the end that of the weights that go out, if validation picked them."""
    try:
        journal = temporary / JOURNAL
        journal.write_bytes(checkpoints.read(JOURNAL).data)
    except FileNotFoundError:
        return [], None
    metrics = list(read_journal(journal))
    found = {metric.step: metric.value for metric in metrics if metric.name == "validate/auroc"}
    best = [metric.value for metric in metrics if metric.name == "validate/kept_auroc"]
    return [found[step] for step in sorted(found)], best[-1] if best else None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _failure(log: Path, code: int) -> UserError:
    lines = log.read_text(errors="replace").splitlines()
    own = [line for line in lines if line.startswith("error: ")]
    if own:
        return UserError.from_line(own[-1])
    tail = "\n".join(lines[-5:])
    return UserError("training-failed", f"a training ended with exit code {code}, its last lines:\n{tail}")


def _end_with_parent() -> None:
    """A training must not go on alone when the sweep is killed: the next sweep would find it taken."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
