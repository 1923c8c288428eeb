"""One MLflow run per training: train creates it, evaluate and deploy join it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.cxr.errors import UserError
from components.cxr.storage.storage import Root
from components.cxr.termination import sigterm_raises
from components.cxr.tracking.mlflow_server import (
    MlflowError,
    mlflow_errors,
    quiet_mlflow,
    tracking_uri,
    warn,
    with_client,
    without_secret,
)
from components.cxr.tracking.tracked_run import TrackedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["joined_run"]

TRAINING_PAGES = {"mlflow.experimentKind": "custom_model_development"}
"""Lets MLflow's UI open an experiment on its pages for model training, not on those for language models."""


@contextlib.contextmanager
def joined_run(
    root: Root,
    *,
    experiment: str,
    run_id: str | None = None,
    run_name: str | None = None,
    journal: Path | None = None,
    system_metrics: bool = False,
) -> Iterator[TrackedRun]:
    """Join the run `run_id`, else MLFLOW_RUN_ID, else create one; it ends FINISHED, FAILED after an
    exception, or KILLED by Ctrl-C or SIGTERM.

    A run that the server does not know is replaced by a new one. When the server does not answer, the run has no id and
    only the journal is written.

    Args:
        journal: file to which metrics are appended as well.
        system_metrics: sample CPU, memory, disk, network and GPU every 5 s.

    Raises:
        UserError: no place to track, or the server refuses (wrong address, no permission).
    """
    uri = tracking_uri(root)
    try:
        wanted = run_id or os.environ.get("MLFLOW_RUN_ID")
        tracked = with_client(root, lambda client: _join(client, root, experiment, wanted, run_name, journal))
    except MlflowError as error:
        place = without_secret(uri)
        if error.refused:
            remedy = "Check MLFLOW_TRACKING_URI and the server's --allowed-hosts."
            raise UserError("mlflow-refuses", "MLflow refuses", where=place, found=str(error), remedy=remedy) from None
        warn(f"MLflow does not answer at {place}; going on without it")
        tracked = TrackedRun(None, None, journal=journal)
    monitor = _start_monitor(tracked.id, uri) if system_metrics and tracked.id else None
    status = "FAILED"
    try:
        with sigterm_raises():
            yield tracked
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        if monitor is not None:
            with quiet_mlflow():
                monitor.finish()
        tracked.end(status)


def _join(
    client: MlflowClient, root: Root, experiment: str, run_id: str | None, run_name: str | None, journal: Path | None
) -> TrackedRun:
    run = _find_run(client, run_id) if run_id else None
    if run is None:
        if run_id:
            warn(f"MLflow has no run {run_id}; a new one takes its place")
        run = client.create_run(_experiment_id(client, root, experiment), run_name=run_name)
    else:
        client.update_run(run.info.run_id, status="RUNNING")
    return TrackedRun(client, run.info.run_id, journal=journal)


def _find_run(client: MlflowClient, run_id: str) -> Any:
    """The run, or None when it does not exist or was deleted."""
    try:
        with mlflow_errors():
            run = client.get_run(run_id)
    except MlflowError as error:
        if error.unknown:
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def _experiment_id(client: MlflowClient, root: Root, name: str) -> str:
    """The experiment's id; a new one under SQLite keeps its artifacts under the root."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    folder = root.storage.local_path("mlflow/artifacts")
    location = folder.as_uri() if folder is not None and client.tracking_uri.startswith("sqlite:") else None
    try:
        with mlflow_errors():
            return str(client.create_experiment(name, artifact_location=location, tags=TRAINING_PAGES))
    except MlflowError:
        found = client.get_experiment_by_name(name)  # another training was first
        if found is None:
            raise
        return str(found.experiment_id)


def _start_monitor(run_id: str, uri: str) -> Any:
    with quiet_mlflow():
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(run_id, sampling_interval=5, resume_logging=True, tracking_uri=uri)
        monitor.start()
    return monitor
