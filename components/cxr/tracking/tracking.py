"""One MLflow run a training: train creates it, evaluate and deploy join it.

When MLflow's server does not answer, work goes on and a journal file keeps the metrics.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
from pyarrow.csv import write_csv

from components.cxr.errors import UserError
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.cxr.tracking.journal import JournaledMetric, append_metrics, read_journal
from components.cxr.tracking.mlflow_server import (
    QUIET_ENVIRONMENT,
    MlflowError,
    first_line,
    tracking_uri,
    without_secret,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

__all__ = ["MlflowError", "TrackedRun", "joined_run", "tracking_uri", "with_client"]

T = TypeVar("T")

PAUSE_S = 60.0
"""Seconds without a further attempt after the server did not answer."""

TRAINING_PAGES = {"mlflow.experimentKind": "custom_model_development"}
"""Lets MLflow's UI open an experiment on its pages for model training, not on those for language models."""

MAX_METRICS, MAX_PARAMS, MAX_CHARACTERS, MAX_DIGEST = 1000, 100, 6000, 36
"""MLflow's limits: metrics and parameters per request, characters of a parameter and of a data set's digest."""


class TrackedRun:
    """An MLflow run and the journal beside it.

    Attributes:
        id: the run's id; None when the server could not be reached, so that there is no run.
        journal: the file that metrics are appended to.
    """

    def __init__(self, client: MlflowClient | None, run_id: str | None, *, journal: Path | None) -> None:
        self.client, self.id, self.journal = client, run_id, journal
        self._silent_until = 0.0
        self._warned = False
        self._journaled = {(metric.name, metric.step) for metric in read_journal(journal)} if journal else set()

    def params(self, values: Mapping[str, object]) -> None:
        """Log parameters."""
        from mlflow.entities import Param

        params = [Param(name, str(value)[:MAX_CHARACTERS]) for name, value in values.items()]
        for chunk in _chunks(params, MAX_PARAMS):
            self.send("log_batch", params=chunk)

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags, replacing their former values."""
        for name, value in values.items():
            self.send("set_tag", name, value)

    def tag(self, name: str) -> str | None:
        """Value of a tag; None when it is not set or MLflow does not answer."""
        run = self.send("get_run")
        return None if run is None else run.data.tags.get(name)

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Log metrics of one step, here and in the journal; what the journal already has is not logged again."""
        fresh = {name: float(value) for name, value in values.items() if (name, step) not in self._journaled}
        if not fresh:
            return
        time_ms = int(time.time() * 1000)
        if self.journal is not None:
            append_metrics(self.journal, fresh, step=step, time_ms=time_ms)
            self._journaled |= {(name, step) for name in fresh}
        self.send_metrics(JournaledMetric(name, value, time_ms, step) for name, value in fresh.items())

    def dataset(self, loaded: LoadedManifest, context: str) -> None:
        """Log the data set as an input; its digest is the start of the manifest's hash."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        counts = loaded.manifest.counts
        entity = Dataset(
            name="cxrflow",
            digest=loaded.hash[:MAX_DIGEST],
            source_type="gs" if loaded.storage.local_path("") is None else "local",
            source=json.dumps({"uri": loaded.storage.uri}),
            profile=json.dumps({split: count.model_dump(exclude={"labels"}) for split, count in counts.items()}),
        )
        self.send("log_inputs", datasets=[DatasetInput(entity, tags=[InputTag("mlflow.data.context", context)])])

    def figure(self, figure: Figure, name: str) -> None:
        """Log a matplotlib figure as the artifact `name` (`evaluation/roc.png`)."""
        self.send("log_figure", figure, name)

    def table(self, table: pa.Table, name: str) -> None:
        """Log a table as the artifact `name` (`evaluation/pathologies.csv`), which MLflow's pages show as a table."""
        buffer = io.BytesIO()
        write_csv(table, buffer)
        self.text(buffer.getvalue().decode(), name)

    def text(self, text: str, name: str) -> None:
        """Log a text file as the artifact `name`."""
        self.send("log_text", text, name)

    def artifact(self, path: Path) -> None:
        """Log a file as an artifact under its own name."""
        self.send("log_artifact", str(path))

    def send_metrics(self, metrics: Iterable[JournaledMetric]) -> None:
        """Log metrics past the journal."""
        from mlflow.entities import Metric

        for chunk in _chunks([Metric(*metric) for metric in metrics], MAX_METRICS):
            self.send("log_batch", metrics=chunk)

    def send(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of MLflow's client on this run; see attempt."""
        return self.attempt(lambda client, run_id: getattr(client, method)(run_id, *args, **kwargs))

    def attempt(self, call: Callable[[MlflowClient, str], T]) -> T | None:
        """Call MLflow with its client and the run's id.

        None when there is no run or MLflow does not answer, which warns once and pauses all calls for PAUSE_S.
        """
        if self.client is None or self.id is None or time.monotonic() < self._silent_until:
            return None
        try:
            with _mlflow_errors():
                return call(self.client, self.id)
        except MlflowError as error:
            self._silent_until = time.monotonic() + PAUSE_S
            if not self._warned:
                self._warned = True
                _warn(f"MLflow refused or did not answer ({error}); going on without it")
            return None


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
    """Join the run `run_id`, else MLFLOW_RUN_ID, else create one; it ends FINISHED, or FAILED after an exception.

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
        _warn(f"MLflow does not answer at {place}; going on without it")
        tracked = TrackedRun(None, None, journal=journal)
    monitor = _start_monitor(tracked.id, uri) if system_metrics and tracked.id else None
    status = "FAILED"
    try:
        yield tracked
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        if monitor is not None:
            with _quiet():
                monitor.finish()
        tracked.send("set_terminated", status)


def with_client(root: Root, call: Callable[[MlflowClient], T]) -> T:
    """Call MLflow's tracking server and model registry.

    Raises:
        MlflowError: it refused or did not answer.
        UserError: see tracking_uri.
    """
    uri = tracking_uri(root)
    with _mlflow_errors():
        from mlflow import MlflowClient

        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        return call(MlflowClient(tracking_uri=uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI") or uri))


def _join(
    client: MlflowClient, root: Root, experiment: str, run_id: str | None, run_name: str | None, journal: Path | None
) -> TrackedRun:
    run = _find_run(client, run_id) if run_id else None
    if run is None:
        if run_id:
            _warn(f"MLflow has no run {run_id}; a new one takes its place")
        run = client.create_run(_experiment_id(client, root, experiment), run_name=run_name)
    else:
        client.update_run(run.info.run_id, status="RUNNING")
    return TrackedRun(client, run.info.run_id, journal=journal)


def _find_run(client: MlflowClient, run_id: str) -> Any:
    """The run, or None when it does not exist or was deleted."""
    try:
        with _mlflow_errors():
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
    return str(client.create_experiment(name, artifact_location=location, tags=TRAINING_PAGES))


def _start_monitor(run_id: str, uri: str) -> Any:
    with _quiet():
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(run_id, sampling_interval=5, resume_logging=True, tracking_uri=uri)
        monitor.start()
    return monitor


@contextlib.contextmanager
def _mlflow_errors() -> Iterator[None]:
    """MLflow's and the network's errors as MlflowError, without MLflow's own noise."""
    with _quiet():
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            refused, unknown = error.get_http_status_code() < 500, error.error_code == "RESOURCE_DOES_NOT_EXIST"
            raise MlflowError(first_line(error), refused=refused, unknown=unknown) from error
        except OSError as error:
            raise MlflowError(first_line(error), refused=False, unknown=False) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """MLflow without its notes on migrations, git and web addresses, and quick to give up on a server."""
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow  # noqa: F401 - its import sets the level of its loggers

        loggers = [logging.getLogger(name) for name in ("mlflow", "alembic", "urllib3", "git")]
        levels = [logger.level for logger in loggers]
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)  # errors arrive as exceptions
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _chunks(items: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)
