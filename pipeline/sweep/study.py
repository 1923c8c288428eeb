"""The trials of a sweep, kept by Optuna: in a file under the root, or in a database that several machines share."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import optuna
import psutil
from optuna.trial import FrozenTrial, TrialState

from components.cxr.config import content_hash
from components.cxr.errors import UserError
from components.cxr.storage.storage import Root
from pipeline.sweep.space import Space

__all__ = ["ENDED", "GONE_S", "OWNER", "SIGN_S", "drawn_values", "opened_study", "sign", "study_key", "take_back"]

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of trials that count; one that failed is told and another one drawn."""
STARTUP_TRIALS = 10
"""Drawn at random before the tree-structured Parzen estimator (Bergstra et al. 2011) draws, and pruning begins."""
OWNER = "owner"
"""Of a trial: machine and process, and when that process last gave a sign of life."""
SIGN_S = 60.0
"""Between two signs of life."""
GONE_S = 900.0
"""After as long without a sign another machine's trial is lost. Machines' clocks may differ by minutes."""


def study_key(train: dict[str, Any], space: Space, manifest_hash: str) -> str:
    """16 hex digits over what is swept: the same command goes on with the same trials."""
    told = {name: dimension.model_dump(mode="json") for name, dimension in space.items()}
    return content_hash("sweep 1", json.dumps([train, told], sort_keys=True), manifest_hash)


@contextlib.contextmanager
def opened_study(root: Root, key: str, *, storage: str | None, seed: int, prune: bool) -> Iterator[optuna.Study]:
    """Create the study or go on with it; a trial that a killed sweep left half done is queued again.

    Args:
        storage: a database's address as SQLAlchemy has it, which several machines may share; None for a file under the
            root, which one sweep at a time uses.

    Raises:
        UserError: a root in a bucket without a database, another sweep that uses the file, or no such database.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = root.at(f"sweeps/{key}").folder
    with contextlib.ExitStack() as stack:
        kept: optuna.storages.BaseStorage
        if storage is not None:
            kept = database = _database(storage)
            stack.callback(database.engine.dispose)
            stack.callback(database.remove_session)
        elif folder is None:
            raise UserError(
                "no-sweep-storage", "a bucket cannot hold the trials", where=root.uri,
                remedy="Add --storage postgresql://USER:PASSWORD@HOST/DATABASE.",
            )  # fmt: skip
        else:
            folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((folder / "lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    "sweep-is-running", "another process runs this sweep", where=folder,
                    remedy="Wait for it, use --workers, or share a database by --storage.",
                ) from None  # fmt: skip
            backend = optuna.storages.journal.JournalFileBackend(str(folder / "trials.log"))
            kept = optuna.storages.JournalStorage(backend)
        pruner = optuna.pruners.MedianPruner(STARTUP_TRIALS) if prune else optuna.pruners.NopPruner()
        study = optuna.create_study(
            study_name=f"cxrflow-{key}", storage=kept, direction="maximize", load_if_exists=True, pruner=pruner
        )
        take_back(study, alone=storage is None)  # whoever has the file's lock is alone
        # A sampler that began with the same seed again would draw the first trials again.
        study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=STARTUP_TRIALS, seed=(seed + 7919 * len(study.trials)) % 2**32
        )
        yield study


def drawn_values(trial: FrozenTrial, space: Space) -> dict[str, Any]:
    """A trial's values by dotted name."""
    return {name: space[name].value(drawn) for name, drawn in trial.params.items()}


def sign(trial: optuna.Trial) -> None:
    """Say in the trial that this process works on it; nothing where another one has taken it back."""
    found = [socket.gethostname(), os.getpid(), psutil.Process().create_time(), time.time()]
    with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
        trial.set_user_attr(OWNER, found)


def take_back(study: optuna.Study, *, alone: bool = False) -> None:
    """Queue the trials again whose process has ended or whose machine is silent.

    Args:
        alone: no other process has trials of this study.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if alone or _is_gone(trial):
            try:
                study.tell(trial.number, state=TrialState.FAIL)
            except (ValueError, optuna.exceptions.UpdateFinishedTrialError):  # another process was quicker
                continue
            study.enqueue_trial(trial.params)


def _is_gone(trial: FrozenTrial) -> bool:
    found = trial.user_attrs.get(OWNER)
    if found is None:  # whoever has just drawn it is about to say so
        drawn = trial.datetime_start
        return drawn is not None and (datetime.now() - drawn).total_seconds() > GONE_S
    host, pid, started, seen = found
    if host != socket.gethostname():
        return bool(time.time() - seen > GONE_S)
    try:
        return bool(psutil.Process(pid).create_time() != started)
    except psutil.NoSuchProcess:
        return True


def _database(storage: str) -> optuna.storages.RDBStorage:
    import sqlalchemy.exc

    if storage.startswith("postgresql://"):  # SQLAlchemy 2.1 takes this for psycopg 3
        storage = storage.replace("://", "+psycopg2://", 1)
    try:
        return optuna.storages.RDBStorage(storage)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, ValueError) as error:
        raise UserError(
            "no-sweep-storage", "the database for the trials cannot be used", where="--storage",
            found=type(error).__name__, remedy="Check its address, name and password, and that it is running.",
        ) from None  # fmt: skip
