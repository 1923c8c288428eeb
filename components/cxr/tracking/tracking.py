"""One MLflow run per training: train creates it, evaluate and deploy join it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.cxr.errors import UserError
from components.cxr.storage.storage import Root
from components.cxr.termination import sigterm_raises
from components.cxr.tracking.identity import DESCRIPTION, NOTE, PARENT, made_by, run_link
from components.cxr.tracking.mlflow_server import (
    MlflowError,
    mlflow_errors,
    quiet_mlflow,
    tracking_uri,
    warn,
    with_client,
    without_secret,
)
from components.cxr.tracking.tracked_run import CLOSED, TrackedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["joined_run", "tag_run"]

TRAINING_PAGES = {"mlflow.experimentKind": "custom_model_development"}
"""What kind of experiment it is. MLflow 3.17 opens one on its pages for language models all the same: see run_link."""


@contextlib.contextmanager
def joined_run(
    root: Root,
    *,
    experiment: str,
    run_id: str | None = None,
    is_given: bool | None = None,
    run_name: str | None = None,
    source: str = "",
    journal: Path | None = None,
    system_metrics: bool = False,
) -> Iterator[TrackedRun]:
    """Join the run MLFLOW_RUN_ID, else `run_id`, else create one; it ends FINISHED, FAILED after an
    exception, or KILLED by Ctrl-C or SIGTERM.

    A run that the server does not know is replaced by a new one. When the server does not answer, the run has no id and
    only the journal is written. A nested run of MLFLOW_RUN_ID is a task's under Kubeflow's MLflow plugin, which closes
    it; one that it has closed is left as it is, and a new one beside it takes its place.

    Args:
        experiment: of a new run, where MLFLOW_EXPERIMENT_ID names none.
        is_given: whether `run_id` is what MLFLOW_RUN_ID said once; the variable of today does not count then. None
            where it does.
        run_name: of a new run.
        source: the module that runs, such as components.train, for a new run's tags.
        journal: file to which metrics are appended as well.
        system_metrics: sample CPU, memory, disk, network and GPU every 5 s.

    Raises:
        UserError: no place to track, the server refuses (wrong address, no permission), or the experiment was deleted.
    """
    given = os.environ.get("MLFLOW_RUN_ID") if is_given is None else run_id if is_given else None
    uri = tracking_uri(root)
    try:
        tracked = with_client(
            root, lambda client: _join(client, root, experiment, run_id, given, run_name, source, journal)
        )
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
        if not tracked.of_a_task:
            tracked.end(status)


def _join(
    client: MlflowClient,
    root: Root,
    experiment: str,
    run_id: str | None,
    given: str | None,
    run_name: str | None,
    source: str,
    journal: Path | None,
) -> TrackedRun:
    wanted = given or run_id
    run, parent = _find_run(client, wanted) if wanted else None, None
    if wanted and run is None:
        warn(f"MLflow has no run {wanted}; a new one takes its place")
    if run is not None:
        parent = run.data.tags.get(PARENT) if given else None
        if parent and run.info.status in CLOSED:
            warn(f"MLflow's run {wanted} is closed; a new one beside it takes its place")
            experiment_id, run = run.info.experiment_id, None
        elif given:
            for name, value in made_by(source).items():
                client.set_tag(wanted, name, value)
    if run is None:
        experiment_id = experiment_id if parent else _experiment_id(client, root, experiment)
        tags = made_by(source) | ({PARENT: parent} if parent else {})
        run = client.create_run(experiment_id, run_name=run_name, tags=tags)
        of_a_task = False
    else:
        of_a_task = parent is not None
        client.update_run(run.info.run_id, status="RUNNING")
    link = run_link(client.tracking_uri, run.info.experiment_id, run.info.run_id)
    return TrackedRun(
        client,
        run.info.run_id,
        journal=journal,
        link=without_secret(link) if client.tracking_uri.startswith("http") else None,
        parent_id=parent,
        of_a_task=of_a_task,
    )


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
    """The experiment's id, MLFLOW_EXPERIMENT_ID if set; a new one under SQLite keeps its artifacts under the root."""
    if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return given
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            raise UserError(
                "deleted-experiment",
                "the experiment was deleted in MLflow, which keeps its name",
                where=name,
                remedy=f"Run `mlflow experiments restore -x {found.experiment_id}` with "
                f"MLFLOW_TRACKING_URI={without_secret(client.tracking_uri)}, or set train.experiment.",
            )
        if NOTE not in found.tags:
            client.set_experiment_tag(found.experiment_id, NOTE, DESCRIPTION)
        return str(found.experiment_id)
    folder = root.storage.local_path("mlflow/artifacts")
    location = folder.as_uri() if folder is not None and client.tracking_uri.startswith("sqlite:") else None
    try:
        with mlflow_errors():
            return str(
                client.create_experiment(name, artifact_location=location, tags=TRAINING_PAGES | {NOTE: DESCRIPTION})
            )
    except MlflowError:
        found = client.get_experiment_by_name(name)  # another training was first
        if found is None:
            raise
        return str(found.experiment_id)


def tag_run(root: Root, run_id: str | None, tags: Mapping[str, str]) -> None:
    """Set tags of a run; under Kubeflow's MLflow plugin of this task's and the pipeline's, as the others are closed.

    Raises:
        MlflowError: MLflow refuses or does not answer.
        UserError: no place to track.
    """

    def tag(client: MlflowClient) -> None:
        run = client.get_run(os.environ.get("MLFLOW_RUN_ID") or run_id)
        tagged = [run.info.run_id]
        if (parent := run.data.tags.get(PARENT)) and client.get_run(parent).info.status not in CLOSED:
            tagged.append(parent)
        for each in tagged:
            for name, value in tags.items():
                client.set_tag(each, name, value)

    if run_id or os.environ.get("MLFLOW_RUN_ID"):
        with_client(root, tag)


def _start_monitor(run_id: str, uri: str) -> Any:
    with quiet_mlflow():
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(run_id, sampling_interval=5, resume_logging=True, tracking_uri=uri)
        monitor.start()
    return monitor
