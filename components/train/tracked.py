"""The MLflow run of a training, and its journal beside the checkpoints."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from components.cxr.errors import UserError
from components.cxr.shards import LoadedManifest
from components.cxr.storage.pointers import pointed_at
from components.cxr.storage.storage import Root, Storage
from components.cxr.tracking.journal import JOURNAL, upload_journal
from components.cxr.tracking.mlflow_server import warn
from components.cxr.tracking.tracked_run import TrackedRun, replay
from components.cxr.tracking.tracking import joined_run
from components.train.checkpoint import Progress
from components.train.distributed import is_main
from components.train.setup import Setup

__all__ = ["RUN", "tracked_training"]

RUN = "run.json"
"""Beside the checkpoints: the run of a training that was killed before its first checkpoint."""


@contextlib.contextmanager
def tracked_training(
    root: Root, setup: Setup, loaded: LoadedManifest, progress: Progress, checkpoints: Storage
) -> Iterator[TrackedRun | None]:
    """Join or create the run, on the main process; `progress.run_id` is then the run that the bundle names.

    A resumed training joins its former run; where that was deleted, a new one gets parameters and journal. What a
    server missed that was away for a while is sent at the end, also where it was away at the start.
    """
    if not is_main():
        yield None
        return
    with contextlib.ExitStack() as stack:
        journal = checkpoints.local_path(JOURNAL)
        if journal is None:
            journal = Path(stack.enter_context(tempfile.TemporaryDirectory()), JOURNAL)
            stack.callback(upload_journal, checkpoints, journal)
            with contextlib.suppress(FileNotFoundError):
                checkpoints.download(JOURNAL, journal)
        experiment = setup.config.experiment
        known = progress.run_id = progress.run_id or _known_run(checkpoints)
        with joined_run(root, experiment=experiment, run_id=known, journal=journal, system_metrics=True) as tracked:
            _describe(tracked, setup, loaded, progress, checkpoints, known=known)
            replay(journal, tracked)
            yield tracked
            if tracked.missed:
                tracked.ask_again()
                _describe(tracked, setup, loaded, progress, checkpoints, known=None)
                replay(journal, tracked)
        if tracked.id is None:
            try:
                with joined_run(root, experiment=experiment, run_id=known, journal=journal) as late:
                    _describe(late, setup, loaded, progress, checkpoints, known=None)
                    replay(journal, late)
            except UserError as error:
                warn(f"the training is not tracked ({error})")


def _describe(
    tracked: TrackedRun,
    setup: Setup,
    loaded: LoadedManifest,
    progress: Progress,
    checkpoints: Storage,
    *,
    known: str | None,
) -> None:
    """Say what is trained, unless it is the run `known`, where that was said."""
    if tracked.id is None:
        return
    progress.run_id = tracked.id
    if tracked.id == known:
        return
    checkpoints.write(RUN, (json.dumps({"run_id": tracked.id}) + "\n").encode())
    tracked.params(_flat(setup.config.model_dump(mode="json", exclude={"architecture"})))
    tracked.params({"num_parameters": setup.info.num_parameters, "num_training_studies": len(setup.training)})
    tracked.dataset(loaded, "train")
    tracked.tags({"manifest_hash": loaded.hash, "leaky": str(setup.info.leaky).lower()})


def _known_run(checkpoints: Storage) -> str | None:
    """The run of a training that was killed before its first checkpoint."""
    with contextlib.suppress(FileNotFoundError, UserError):  # damaged: a new run takes its place
        return pointed_at(checkpoints.read(RUN).data, "run_id", where=RUN, remedy="")
    return None


def _flat(values: dict[str, object], prefix: str = "") -> dict[str, object]:
    """Nested configuration as dotted names."""
    flat: dict[str, object] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
