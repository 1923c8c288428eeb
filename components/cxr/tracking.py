"""One MLflow run a training and one registered model a bundle; train, evaluate and deploy go through here.

When MLflow's server does not answer, work goes on and a journal file keeps the metrics.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from components.cxr.errors import UserError
from components.cxr.shards import LoadedManifest
from components.cxr.storage import Root

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

T = TypeVar("T")

__all__ = ["TrackedRun", "client_of", "joined_run", "read_journal", "replay", "tracking_uri"]

PAUSE_S = 60.0
"""Seconds without a further attempt after the server did not answer."""

MAX_METRICS, MAX_PARAMS, MAX_DIGEST = 1000, 100, 36
"""MLflow's limits: metrics and parameters a request, characters of a data set's digest."""

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Defaults that keep MLflow quiet and quick to give up; the user's own settings win."""


class TrackedRun:
    """An MLflow run and the journal beside it.

    Attributes:
        id: the run's id; None when the server could not be reached, so that there is no run.
        experiment_id: likewise.
        journal: file with one JSON object a line: step, time_ms and the metrics by name.
    """

    def __init__(
        self,
        client: MlflowClient | None,
        run_id: str | None,
        *,
        experiment_id: str | None,
        journal: Path | None,
    ) -> None:
        self.client, self.id, self.experiment_id, self.journal = client, run_id, experiment_id, journal
        self._silent_until = 0.0
        self._warned = False
        self._journaled = {(name, row["step"]) for row in read_journal(journal) for name in _metrics_in(row)}

    def params(self, values: Mapping[str, object]) -> None:
        """Log parameters; a value that is already there stays."""
        from mlflow.entities import Param

        params = [Param(name, str(value)[:6000]) for name, value in values.items()]
        for chunk in _chunks(params, MAX_PARAMS):
            self.send(lambda client, run_id, chunk=chunk: client.log_batch(run_id, params=chunk))

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags, replacing their former values."""
        for name, value in values.items():
            self.send(lambda client, run_id, name=name, value=value: client.set_tag(run_id, name, value))

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Log metrics of one step, here and in the journal; what the journal has is not logged twice."""
        fresh = {name: float(value) for name, value in values.items() if (name, step) not in self._journaled}
        if not fresh:
            return
        time_ms = int(time.time() * 1000)
        if self.journal is not None:
            self._journaled |= {(name, step) for name in fresh}
            _append_line(self.journal, json.dumps({"step": step, "time_ms": time_ms, **fresh}))
        self.send_metrics([(name, value, time_ms, step) for name, value in fresh.items()])

    def dataset(self, loaded: LoadedManifest, context: str) -> None:
        """Log the data set as an input; its digest starts with the manifest's hash."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        counts = {
            split: count.model_dump(exclude={"labels"}) for split, count in loaded.manifest.counts.items()
        }
        entity = Dataset(
            name="cxrflow",
            digest=loaded.hash[:MAX_DIGEST],
            source_type="local" if loaded.storage.local_path("") else "gs",
            source=json.dumps({"uri": loaded.storage.uri}),
            profile=json.dumps(counts),
        )
        entry = DatasetInput(entity, tags=[InputTag("mlflow.data.context", context)])
        self.send(lambda client, run_id: client.log_inputs(run_id, datasets=[entry]))

    def figure(self, figure: Figure, name: str) -> None:
        """Log a matplotlib figure as the artifact `name` (`figures/roc.png`)."""
        self.send(lambda client, run_id: client.log_figure(run_id, figure, name))

    def table(self, frame: pd.DataFrame, name: str) -> None:
        """Log a table as the artifact `name` (`pathologies.csv`), which MLflow's pages show as a table."""
        self.text(frame.to_csv(index=False), name)

    def text(self, text: str, name: str) -> None:
        """Log a text file as the artifact `name`."""
        self.send(lambda client, run_id: client.log_text(run_id, text, name))

    def artifact(self, path: Path) -> None:
        """Log a file as an artifact under its own name."""
        self.send(lambda client, run_id: client.log_artifact(run_id, str(path)))

    def send_metrics(self, rows: Iterable[tuple[str, float, int, int]]) -> None:
        """Log (name, value, time in ms, step) past the journal."""
        from mlflow.entities import Metric

        metrics = [Metric(name, value, time_ms, step) for name, value, time_ms, step in rows]
        for chunk in _chunks(metrics, MAX_METRICS):
            self.send(lambda client, run_id, chunk=chunk: client.log_batch(run_id, metrics=chunk))

    def send(self, call: Callable[[MlflowClient, str], T]) -> T | None:
        """Call MLflow; None when it does not answer, which warns once and pauses all calls for PAUSE_S."""
        from mlflow.exceptions import MlflowException

        if self.client is None or self.id is None or time.monotonic() < self._silent_until:
            return None
        try:
            with _quiet():
                return call(self.client, self.id)
        except (MlflowException, OSError) as error:
            self._silent_until = time.monotonic() + PAUSE_S
            if not self._warned:
                self._warned = True
                _warn(f"MLflow refused or did not answer ({_first_line(error)}); going on without it")
            return None


def tracking_uri(root: Root) -> str:
    """MLFLOW_TRACKING_URI, else an SQLite file under a local root.

    Raises:
        UserError: a gs:// root without MLFLOW_TRACKING_URI.
    """
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return uri
    folder = root.storage.local_path("mlflow")
    if folder is None:
        raise UserError(
            "no MLflow server",
            where="MLFLOW_TRACKING_URI",
            expected="a server's address, because the root is in a bucket",
            remedy="Start `mlflow server` and set MLFLOW_TRACKING_URI.",
        )
    return f"sqlite:///{folder}/mlflow.db"


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

    A run that the server does not know is replaced by a new one. Without an answer the run has no id and only the
    journal is written.

    Args:
        journal: file to which metrics are appended as well.
        system_metrics: sample CPU, memory, disk, network and GPU every 5 s.

    Raises:
        UserError: no place to track, or the server refuses (wrong address, no permission).
    """
    uri = tracking_uri(root)
    with _quiet():
        tracked = _join(root, uri, experiment, run_id or os.environ.get("MLFLOW_RUN_ID"), run_name, journal)
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
        tracked.send(lambda client, run_id: client.set_terminated(run_id, status))


def read_journal(journal: Path | None) -> list[dict[str, Any]]:
    """The journal's rows; a line that a kill cut off is left out."""
    if journal is None or not journal.exists():
        return []
    rows = []
    for line in journal.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows


def replay(journal: Path, run: TrackedRun) -> int:
    """Log what the journal has and the run lacks; returns the number of metric values."""
    journaled = read_journal(journal)
    rows = [(name, row[name], row["time_ms"], row["step"]) for row in journaled for name in _metrics_in(row)]
    known: set[tuple[str, int]] = set()
    for name in {row[0] for row in rows}:
        history = run.send(lambda client, run_id, name=name: client.get_metric_history(run_id, name))
        if history is None:
            return 0
        known |= {(name, metric.step) for metric in history}
    missing = [row for row in rows if (row[0], row[3]) not in known]
    run.send_metrics(missing)
    return len(missing)


def client_of(root: Root) -> MlflowClient:
    """An MLflow client for the root's tracking server and model registry."""
    uri = tracking_uri(root)
    with _quiet():
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI") or uri)


def _join(
    root: Root, uri: str, experiment: str, run_id: str | None, run_name: str | None, journal: Path | None
) -> TrackedRun:
    from mlflow.exceptions import MlflowException

    client = None
    try:
        client = client_of(root)
        run = _find_run(client, run_id) if run_id else None
        if run is None:
            if run_id:
                _warn(f"MLflow has no run {run_id}; a new one takes its place")
            run = client.create_run(_experiment_id(client, root, uri, experiment), run_name=run_name)
        else:
            client.update_run(run.info.run_id, status="RUNNING")
    except (MlflowException, OSError) as error:
        if isinstance(error, MlflowException) and error.get_http_status_code() < 500:
            raise UserError(
                "MLflow refuses",
                where=_without_secret(uri),
                found=_first_line(error),
                remedy="Check MLFLOW_TRACKING_URI and the server's --allowed-hosts.",
            ) from None
        _warn(f"MLflow does not answer at {_without_secret(uri)}; going on without it")
        return TrackedRun(None, None, experiment_id=None, journal=journal)
    return TrackedRun(client, run.info.run_id, experiment_id=run.info.experiment_id, journal=journal)


def _find_run(client: MlflowClient, run_id: str) -> Any:
    """The run, or None when it does not exist or was deleted."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return run if run.info.lifecycle_stage == "active" else None


def _experiment_id(client: MlflowClient, root: Root, uri: str, name: str) -> str:
    """The experiment's id; a new one under SQLite keeps its artifacts under the root."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    folder = root.storage.local_path("mlflow/artifacts")
    location = folder.as_uri() if folder is not None and uri.startswith("sqlite:") else None
    return str(client.create_experiment(name, artifact_location=location))


def _start_monitor(run_id: str, uri: str) -> Any:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, sampling_interval=5, resume_logging=True, tracking_uri=uri)
    monitor.start()
    return monitor


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """MLflow without its notes on migrations, git, telemetry and web addresses; quick to give up on a server."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic", "urllib3", "git")]
    levels = [logger.level for logger in loggers]
    import mlflow  # noqa: F401 - its import sets the level of its loggers

    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _append_line(path: Path, line: str) -> None:
    """Append a line, after ending the one that a kill cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else f"\n{line}"
        file.write(f"{line}\n".encode())


def _metrics_in(row: Mapping[str, Any]) -> list[str]:
    return [name for name in row if name not in ("step", "time_ms")]


def _chunks(items: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _without_secret(uri: str) -> str:
    """The address without user and password."""
    return re.sub(r"//[^/@]*@", "//", uri)


def _first_line(error: Exception) -> str:
    return _without_secret(str(error).splitlines()[0] if str(error) else type(error).__name__)[:160]


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)
