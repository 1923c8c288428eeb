"""The trials of a sweep, kept by Optuna in a file under the root or in a database; machines may share either."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import optuna
import psutil
from optuna.trial import FrozenTrial, TrialState

from components.cxr.config import content_hash
from components.cxr.errors import UserError
from components.cxr.storage.storage import Root
from components.train.config import TrainConfig
from components.train.key import training_key
from pipeline.sweep.space import Space

__all__ = [
    "ENDED", "GONE_S", "OWNER", "SIGN_S", "STORAGE_VARIABLE", "LostTrials",
    "check_storage", "drawn_values", "give_back", "opened_study", "sign", "study_key", "under_way",
]  # fmt: skip

STORAGE_VARIABLE = "CXRFLOW_SWEEP_STORAGE"
"""Environment variable: address of the database of the trials."""
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
    """16 hex digits over what is swept: the same command goes on with the same trials.

    Those of other code, of other pretrained weights or of another bundle to start from are of another study.

    Raises:
        UserError: as training_key.
    """
    told = {name: dimension.model_dump(mode="json") for name, dimension in space.items()}
    trained = training_key(TrainConfig.parse(train, where="train"), manifest_hash)
    return content_hash("sweep 1", json.dumps([train, told], sort_keys=True), manifest_hash, trained)


@contextlib.contextmanager
def opened_study(root: Root, key: str, *, storage: str | None, seed: int, prune: bool) -> Iterator[optuna.Study]:
    """Create the study or go on with it; trials of processes that have ended are queued again.

    Args:
        storage: a database's address as SQLAlchemy has it; None for a file under the root.

    Raises:
        UserError: as check_storage, or no such database.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = root.at(f"sweeps/{key}").folder
    with contextlib.ExitStack() as stack:
        kept: optuna.storages.BaseStorage
        if storage is not None:
            kept = database = _database(storage)
            stack.callback(database.engine.dispose)
            stack.callback(database.remove_session)
        else:
            check_storage(root, None)
            assert folder is not None
            folder.mkdir(parents=True, exist_ok=True)
            # Writers take turns by a symbolic link, which network file systems have, too.
            backend = optuna.storages.journal.JournalFileBackend(str(folder / "trials.log"))
            kept = optuna.storages.JournalStorage(backend)
        pruner = optuna.pruners.MedianPruner(STARTUP_TRIALS) if prune else optuna.pruners.NopPruner()
        study = optuna.create_study(
            study_name=f"cxrflow-{key}", storage=kept, direction="maximize", load_if_exists=True, pruner=pruner
        )
        LostTrials(study).queue_again()
        # A sampler that began with the same seed again would draw the first trials again.
        study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=STARTUP_TRIALS, seed=(seed + 7919 * len(study.trials)) % 2**32
        )
        if under_way(study):  # two machines with one seed would draw the same
            study.sampler.reseed_rng()
        yield study


def drawn_values(trial: FrozenTrial, space: Space) -> dict[str, Any]:
    """A trial's values by dotted name."""
    return {name: space[name].value(drawn) for name, drawn in trial.params.items()}


def sign(trial: optuna.Trial) -> None:
    """Say in the trial that this process works on it; nothing where another one has taken it back."""
    found = [socket.gethostname(), os.getpid(), psutil.Process().create_time(), time.time()]
    with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
        trial.set_user_attr(OWNER, found)


def under_way(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that some process has said to work on."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [trial for trial in running if OWNER in trial.user_attrs]


def give_back(study: optuna.Study, trial: FrozenTrial | optuna.Trial) -> None:
    """Queue a trial again with its values, for whoever comes next; nothing where that was done already."""
    try:
        study.tell(trial.number, state=TrialState.FAIL)
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):  # another process was quicker
        return
    study.enqueue_trial(trial.params)


class LostTrials:
    """Trials whose process has ended or whose machine is silent, as they are seen from here."""

    def __init__(self, study: optuna.Study) -> None:
        self._study, self._nobodys = study, set[int]()

    def queue_again(self) -> None:
        """Queue them for all machines; called again after SIGN_S, it takes those of which nobody ever said a word.

        Whoever draws a trial says so at once. When it was drawn is not asked: that is told in the time of its zone.
        """
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        nobodys = {trial.number for trial in running if OWNER not in trial.user_attrs}
        for trial in running:
            if trial.number in nobodys & self._nobodys or (OWNER in trial.user_attrs and _is_gone(trial)):
                give_back(self._study, trial)
        self._nobodys = nobodys


def _is_gone(trial: FrozenTrial) -> bool:
    host, pid, started, seen = trial.user_attrs[OWNER]
    if host != socket.gethostname():
        return bool(time.time() - seen > GONE_S)
    try:
        return bool(psutil.Process(pid).create_time() != started)
    except psutil.NoSuchProcess:
        return True


def check_storage(root: Root, storage: str | None) -> None:
    """Raise UserError where the trials have no place: a root in a bucket without a database, or one that fails."""
    if storage is not None:
        database = _database(storage)
        database.remove_session()
        database.engine.dispose()
    elif root.storage.folder is None:
        raise UserError(
            "no-sweep-storage", "a bucket cannot hold the trials", where=root.uri,
            remedy="Add --storage postgresql://USER:PASSWORD@HOST/DATABASE, or set CXRFLOW_SWEEP_STORAGE.",
        )  # fmt: skip


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
