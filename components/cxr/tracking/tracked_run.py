"""One MLflow run; when its server does not answer, work goes on and a journal file keeps the metrics."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pyarrow as pa
from pyarrow.csv import write_csv

from components.cxr.config import content_hash
from components.cxr.shards import LoadedManifest
from components.cxr.tracking.journal import JournaledMetric, append_metrics, read_journal
from components.cxr.tracking.mlflow_server import MlflowError, mlflow_errors, warn

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

__all__ = ["CLOSED", "TrackedRun", "replay"]

T = TypeVar("T")

CLOSED = ("FINISHED", "FAILED", "KILLED")
"""How a run ended."""
CONTEXTS = {"train": "training", "validate": "validation", "test": "test"}
"""What MLflow calls the use of a split."""
PAUSE_S = 60.0
"""Seconds without a further attempt after the server did not answer."""

TRAINING_METRICS = ("train/", "validate/")
"""How the names of metrics start that training logs."""

MAX_METRICS, MAX_PARAMS, MAX_CHARACTERS = 1000, 100, 6000
"""MLflow's limits: metrics and parameters per request, characters of a parameter."""


class Keeper(Protocol):
    """What is used of Outbox."""

    def add(self, kind: str, payload: Any, data: bytes | None = None) -> None: ...


class TrackedRun:
    """An MLflow run and the journal beside it.

    Attributes:
        id: the run's id; None when the server could not be reached, so that there is no run.
        journal: the file that metrics are appended to.
        link: its page; None where no server shows it.
        parent_id: the run that it is nested in: of a pipeline, under Kubeflow's MLflow plugin.
        of_a_task: whether that plugin made it, which closes it too.
        outbox: what keeps parameters, tags, scores, inputs and artifacts that MLflow missed; metrics have the journal.
        missed: whether MLflow failed to answer at least once.
    """

    def __init__(
        self,
        client: MlflowClient | None,
        run_id: str | None,
        *,
        journal: Path | None,
        link: str | None = None,
        parent_id: str | None = None,
        of_a_task: bool = False,
    ) -> None:
        self.client, self.id, self.journal = client, run_id, journal
        self.outbox: Keeper | None = None
        self.link, self.parent_id, self.of_a_task = link, parent_id, of_a_task
        self._silent_until = 0.0
        self._warned = self.missed = False
        self._sent: set[tuple[str, int]] = set()
        self._journaled = {(metric.name, metric.step) for metric in read_journal(journal)} if journal else set()

    def params(self, values: Mapping[str, object]) -> None:
        """Log parameters."""
        from mlflow.entities import Param

        shown = {name: str(value)[:MAX_CHARACTERS] for name, value in values.items()}
        with self._kept("params", {"values": shown}):
            for chunk in _chunks([Param(name, value) for name, value in shown.items()], MAX_PARAMS):
                self.send("log_batch", params=chunk)

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags, replacing their former values."""
        with self._kept("tags", {"values": dict(values)}):
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
        sent = self._sent
        self.send_metrics(
            JournaledMetric(name, value, time_ms, step) for name, value in fresh.items() if (name, step) not in sent
        )

    def dataset(self, loaded: LoadedManifest, split: str, *, name: str) -> tuple[str, str]:
        """Log a split of the data set as an input of the run; returns MLflow's name and digest of it.

        The digest is of the split's shards: the same wherever they lie, and another for another split.

        Args:
            name: of the data set, for people.
        """
        shards = [shard.sha256 for shard in loaded.manifest.shards_of(split)]
        values = {
            "name": f"{name} {split}",
            "digest": content_hash(*shards),
            "source_type": "gs" if loaded.storage.local_path("") is None else "local",
            "source": json.dumps({"uri": loaded.storage.uri}),
            "profile": json.dumps(loaded.manifest.counts[split].model_dump(exclude={"labels"})),
        }
        self.input(values, CONTEXTS.get(split, split))
        return values["name"], values["digest"]

    def input(self, values: dict[str, str], context: str) -> None:
        """Log a data set by MLflow's own fields of it."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        logged = DatasetInput(Dataset(**values), tags=[InputTag("mlflow.data.context", context)])
        with self._kept("input", {"values": values, "context": context}):
            self.send("log_inputs", datasets=[logged])

    def scores(self, values: Mapping[str, float], *, model_id: str | None, dataset: tuple[str, str] | None) -> None:
        """Log metrics of a model on a data set, at step 0; they show on the model's page and in the registry.

        Args:
            dataset: name and digest, as `dataset` returns them.
        """
        self.send_scores(dict(values), model_id, dataset, int(time.time() * 1000))

    def send_scores(
        self, values: dict[str, float], model_id: str | None, dataset: Sequence[str] | None, time_ms: int
    ) -> None:
        """The same with the time at which they were found, in ms since 1970."""
        from mlflow.entities import Metric

        name, digest = dataset or (None, None)
        metrics = [Metric(metric, value, time_ms, 0, model_id, name, digest) for metric, value in values.items()]
        kept = {"values": values, "model_id": model_id, "dataset": dataset, "time_ms": time_ms}
        with self._kept("scores", kept):
            for chunk in _chunks(metrics, MAX_METRICS):
                self.send("log_batch", metrics=chunk)

    def figure(self, figure: Figure, name: str) -> None:
        """Log a matplotlib figure as the artifact `name` (`evaluation/roc.png`)."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        self.file(buffer.getvalue(), name)

    def table(self, table: pa.Table, name: str) -> None:
        """Log a table as the artifact `name` (`evaluation/pathologies.csv`), which MLflow's pages show as a table."""
        buffer = io.BytesIO()
        write_csv(table, buffer)
        self.text(buffer.getvalue().decode(), name)

    def text(self, text: str, name: str) -> None:
        """Log a text file as the artifact `name`."""
        self.file(text.encode(), name)

    def artifact(self, path: Path) -> None:
        """Log a file as an artifact under its own name."""
        self.send("log_artifact", str(path))

    def file(self, data: bytes, name: str) -> None:
        """Log bytes as the artifact `name` (`evaluation/predictions.parquet`)."""
        folder, _, file = name.rpartition("/")
        with tempfile.TemporaryDirectory() as temporary:
            Path(temporary, file).write_bytes(data)
            with self._kept("file", {"name": name}, data):
                self.send("log_artifact", f"{temporary}/{file}", folder or None)

    @property
    def parent(self) -> TrackedRun | None:
        """The pipeline's run; None without one, when it is closed, or when MLflow does not answer."""
        if self.parent_id is None or self.client is None:
            return None
        parent = TrackedRun(self.client, self.parent_id, journal=None)
        run = parent.send("get_run")
        return parent if run is not None and run.info.status not in CLOSED else None

    def send_metrics(self, metrics: Iterable[JournaledMetric]) -> None:
        """Log metrics past the journal."""
        from mlflow.entities import Metric

        for chunk in _chunks([Metric(*metric) for metric in metrics], MAX_METRICS):
            self.send("log_batch", metrics=chunk)

    def end(self, status: str) -> None:
        """Say how the run ended: FINISHED, FAILED or KILLED."""
        self.ask_again()
        self.send("set_terminated", status)

    def ask_again(self) -> None:
        """Let the next call try, even if MLflow did not answer a moment ago."""
        self._silent_until = 0.0

    def known(self, names: Iterable[str]) -> set[tuple[str, int]] | None:
        """Which (name, step) of these metrics, and of all of training's, MLflow has; it gets none of them again.

        None when MLflow does not answer.
        """
        run = self.send("get_run")
        if run is None:
            return None
        for name in {*names, *(name for name in run.data.metrics if name.startswith(TRAINING_METRICS))}:
            history = self.send("get_metric_history", name)
            if history is None:
                return None
            self._sent |= {(name, found.step) for found in history}
        return self._sent

    @contextlib.contextmanager
    def _kept(self, kind: str, payload: Any, data: bytes | None = None) -> Iterator[None]:
        """What is sent within goes into the outbox if MLflow misses any of it."""
        before, self.missed = self.missed, False
        yield
        missed, self.missed = self.missed, self.missed or before
        if missed and self.outbox is not None:
            self.outbox.add(kind, payload, data)

    def send(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of MLflow's client on this run; see attempt."""
        return self.attempt(lambda client, run_id: getattr(client, method)(run_id, *args, **kwargs))

    def attempt(self, call: Callable[[MlflowClient, str], T]) -> T | None:
        """Call MLflow with its client and the run's id.

        None when there is no run or MLflow does not answer, which warns once and pauses all calls for PAUSE_S, or for
        twenty times as long as that took: waiting for a server that is away takes a twentieth of a step's time at most.
        """
        if self.client is None or self.id is None:
            self.missed = True
            return None
        if time.monotonic() < self._silent_until:
            self.missed = True
            return None
        asked = time.monotonic()
        try:
            with mlflow_errors():
                return call(self.client, self.id)
        except MlflowError as error:
            now = time.monotonic()
            self.missed, self._silent_until = True, now + max(PAUSE_S, 20 * (now - asked))
            if not self._warned:
                self._warned = True
                warn(f"MLflow refused or did not answer ({error}); going on without it")
            return None


def replay(journal: Path, run: TrackedRun, *, of: str | None = None) -> int:
    """Log what the journal has and MLflow lacks; returns the number of metric values.

    Args:
        of: the run that the journal is of, where it is another one, maybe closed: what that lacks is logged here.
    """
    metrics = read_journal(journal)
    own = run if of in (None, run.id) else TrackedRun(run.client, of, journal=None)
    known = own.known({metric.name for metric in metrics})
    if known is None:
        return 0
    missing = [metric for metric in metrics if (metric.name, metric.step) not in known]
    run.send_metrics(missing)
    return len(missing)


def _chunks(items: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
