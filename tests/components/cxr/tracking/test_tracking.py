"""One run a training, joined again and again, whatever the server does."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from matplotlib.figure import Figure
from mlflow import MlflowClient

from components.cxr.errors import UserError
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.cxr.tracking.journal import append_metrics, read_journal
from components.cxr.tracking.mlflow_server import tracking_uri, with_client, without_secret
from components.cxr.tracking.outbox import Outbox, send_outboxes
from components.cxr.tracking.tracked_run import TrackedRun, replay
from components.cxr.tracking.tracking import joined_run

REPOSITORY = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Root:
    return Root(tmp_path_factory.mktemp("root with a space"))


def test_local_roots_have_a_database_and_buckets_need_a_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert tracking_uri(Root(tmp_path)) == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    with pytest.raises(UserError, match=r"no MLflow server: MLFLOW_TRACKING_URI.*Start `mlflow server`"):
        tracking_uri(Root("gs://bucket/prefix"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert tracking_uri(Root("gs://bucket/prefix")) == "http://tracking:5000"


@pytest.mark.parametrize("password", ["secret", "sec@ret", "sec/ret+=", "a:b/c@d"])
def test_no_part_of_a_password_is_shown(password: str) -> None:
    assert without_secret(f"no answer of postgresql://me:{password}@host:5432/mlflow") == (
        "no answer of postgresql://host:5432/mlflow"
    )


_UNTIL_SIGTERM = """
import os, signal, sys, time
from components.cxr.storage.storage import Root
from components.cxr.tracking.tracking import joined_run
with joined_run(Root(sys.argv[1]), experiment="stopped") as run:
    print(run.id, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""


def test_sigterm_leaves_a_killed_run_and_none_that_seems_to_run(root: Root) -> None:
    """What a pod gets when it is evicted; a training takes the signal itself, evaluation and deployment do not."""
    command = [sys.executable, "-c", _UNTIL_SIGTERM, root.uri]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 143, done.stderr
    run = with_client(root, lambda client: client.get_run(done.stdout.split()[-1]))
    assert run.info.status == "KILLED"


def test_a_run_is_created_finished_and_joined(
    root: Root, tiny_data: LoadedManifest, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    journal = tmp_path / "metrics.jsonl"
    with joined_run(root, experiment="one", run_name="first", journal=journal, system_metrics=True) as run:
        run.params({f"train.field_{i}": i for i in range(120)} | {"long": "x" * 7000})
        run.metrics({"train/loss": 0.5, "validate/auroc": 0.75}, step=3)
        run.dataset(tiny_data, "train", name="tiny")
        run.dataset(tiny_data, "validate", name="tiny")
        assert _status(root, run) == "RUNNING"
    assert run.id is not None
    with joined_run(root, experiment="ignored", run_id=run.id) as again:
        assert again.id == run.id
        again.tags({"leaky": "false"})
        again.text("# Card", "evaluation/card.md")
        again.table(pa.table({"pathology": ["Edema"], "auroc": [0.75]}), "evaluation/table.csv")
        again.figure(Figure(), "evaluation/figure.png")
        again.artifact(journal)
        assert again.tag("leaky") == "false"
        assert again.tag("other") is None
    found = with_client(root, lambda client: client.get_run(run.id))
    assert (found.info.status, found.info.run_name) == ("FINISHED", "first")
    assert (len(found.data.params), len(found.data.params["long"])) == (121, 6000)
    assert {"train/loss": 0.5, "validate/auroc": 0.75}.items() <= found.data.metrics.items()
    logged = {each.dataset.name: each for each in found.inputs.dataset_inputs}
    assert {name: each.tags[0].value for name, each in logged.items()} == {
        "tiny train": "training",
        "tiny validate": "validation",
    }
    assert len({each.dataset.digest for each in logged.values()}) == 2, "two splits are two data sets"
    experiment = with_client(root, lambda client: client.get_experiment(found.info.experiment_id))
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert experiment.tags["mlflow.note.content"].startswith("Chest X-ray classifiers.")
    artifacts = Path(root.uri, "mlflow", "artifacts", run.id, "artifacts")
    assert (artifacts / "evaluation" / "table.csv").read_text() == '"pathology","auroc"\n"Edema",0.75\n'
    assert {path.name for path in artifacts.rglob("*") if path.is_file()} == {
        "card.md",
        "table.csv",
        "figure.png",
        "metrics.jsonl",
    }
    assert capfd.readouterr() == ("", "")


def test_a_failure_is_a_failed_run_and_ctrl_c_a_killed_one(root: Root) -> None:
    with pytest.raises(ValueError, match="boom"), joined_run(root, experiment="one") as failed:
        raise ValueError("boom")
    with pytest.raises(KeyboardInterrupt), joined_run(root, experiment="one") as killed:
        raise KeyboardInterrupt
    assert (_status(root, failed), _status(root, killed)) == ("FAILED", "KILLED")


def test_the_environment_names_a_run(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    with joined_run(root, experiment="one") as run:
        pass
    assert run.id is not None
    monkeypatch.setenv("MLFLOW_RUN_ID", run.id)
    with joined_run(root, experiment="two") as joined:
        assert joined.id == run.id


def test_the_environments_run_goes_before_the_one_that_a_bundle_names(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Kubeflow task that evaluates must not log into the run of the task that trained, which is closed."""
    with joined_run(root, experiment="one") as training, joined_run(root, experiment="one") as own:
        pass
    assert own.id is not None
    monkeypatch.setenv("MLFLOW_RUN_ID", own.id)
    with joined_run(root, experiment="one", run_id=training.id) as joined:
        assert joined.id == own.id


def test_a_task_of_kubeflow_leaves_its_run_open_and_a_closed_one_alone(
    root: Root, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The plugin makes a nested run per task and closes it, whatever the task does; a retry may find it closed."""
    with joined_run(root, experiment="kubeflow") as pipeline:
        pass

    def nested(client: MlflowClient) -> str:
        experiment = client.get_run(pipeline.id).info.experiment_id
        return str(client.create_run(experiment, tags={"mlflow.parentRunId": pipeline.id}).info.run_id)

    task = with_client(root, nested)
    monkeypatch.setenv("MLFLOW_RUN_ID", task)
    with joined_run(root, experiment="one", source="components.train") as first:
        assert (first.id, first.parent_id, first.of_a_task) == (task, pipeline.id, True)
    assert _status(root, first) == "RUNNING"
    with_client(root, lambda client: client.set_terminated(task, "FAILED"))
    with joined_run(root, experiment="one") as again:
        assert again.id != task
        assert (again.parent_id, again.of_a_task) == (pipeline.id, False)
    assert (_status(root, first), _status(root, again)) == ("FAILED", "FINISHED")
    beside = with_client(root, lambda client: client.get_run(again.id))
    assert beside.data.tags["mlflow.parentRunId"] == pipeline.id
    assert beside.info.experiment_id == with_client(root, lambda client: client.get_run(task)).info.experiment_id
    assert "is closed; a new one beside it takes its place" in capfd.readouterr().err


def test_a_server_that_hangs_takes_a_twentieth_of_the_time_at_most(
    root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It accepts connections and never answers; the journal has everything meanwhile."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("components.cxr.tracking.tracked_run.PAUSE_S", 0.0)
    with socket.socket() as hanging:
        hanging.bind(("127.0.0.1", 0))
        hanging.listen()
        client = MlflowClient(f"http://127.0.0.1:{hanging.getsockname()[1]}")
        run = TrackedRun(client, "r" * 32, journal=tmp_path / "metrics.jsonl")
        run.metrics({"loss": 2.0}, step=1)
        began = time.monotonic()
        for step in range(2, 102):
            run.metrics({"loss": 1.0}, step=step)
        assert time.monotonic() - began < 0.95, "not one more request was waited for"
    assert run.missed
    assert len(read_journal(tmp_path / "metrics.jsonl")) == 101


def test_an_unknown_run_is_replaced(root: Root, capfd: pytest.CaptureFixture[str]) -> None:
    with joined_run(root, experiment="one", run_id="0" * 32) as run:
        pass
    assert run.id != "0" * 32
    assert _status(root, run) == "FINISHED"
    assert capfd.readouterr().err == f"warning: MLflow has no run {'0' * 32}; a new one takes its place\n"


def test_a_resumed_training_logs_no_step_twice(root: Root, tmp_path: Path) -> None:
    journal = tmp_path / "metrics.jsonl"
    with joined_run(root, experiment="one", journal=journal) as run:
        run.metrics({"loss": 3.0}, step=1)
        run.metrics({"loss": 2.0}, step=2)
    with joined_run(root, experiment="one", run_id=run.id, journal=journal) as resumed:
        resumed.metrics({"loss": 2.0}, step=2)
        resumed.metrics({"loss": 1.0, "auroc": 0.5}, step=3)
    assert _history(root, run, "loss") == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert [metric.step for metric in read_journal(journal)] == [1, 2, 3, 3]


def test_replay_logs_exactly_what_is_missing(root: Root, tmp_path: Path) -> None:
    journal = tmp_path / "metrics.jsonl"
    with joined_run(root, experiment="one", journal=journal) as run:
        run.metrics({"loss": 3.0}, step=1)
    append_metrics(journal, {"loss": 2.0, "rate": 0.1}, step=2, time_ms=1_700_000_000_000)
    with joined_run(root, experiment="one", run_id=run.id) as joined:
        assert replay(journal, joined) == 2
        assert replay(journal, joined) == 0
    assert _history(root, run, "loss") == [(1, 3.0), (2, 2.0)]
    assert _history(root, run, "rate") == [(2, 0.1)]


def test_replay_takes_each_metric_for_itself(root: Root, tmp_path: Path) -> None:
    """A server that went away between two requests knows a part of a step."""
    journal = tmp_path / "metrics.jsonl"
    with joined_run(root, experiment="one") as run:
        run.metrics({"loss": 3.0}, step=1)
    append_metrics(journal, {"loss": 3.0, "rate": 0.1}, step=1, time_ms=1_700_000_000_000)
    with joined_run(root, experiment="one", run_id=run.id) as joined:
        assert replay(journal, joined) == 1
    assert _history(root, run, "loss") == [(1, 3.0)]
    assert _history(root, run, "rate") == [(1, 0.1)]


def test_without_an_answer_the_journal_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One warning, no secret in it, and no further attempts."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    journal = tmp_path / "metrics.jsonl"
    with joined_run(Root(tmp_path), experiment="one", journal=journal, system_metrics=True) as run:
        run.params({"a": 1})
        run.metrics({"loss": 1.0}, step=1)
        run.text("text", "name")
    assert run.id is None
    assert [(metric.name, metric.step) for metric in read_journal(journal)] == [("loss", 1)]
    warning = "warning: MLflow does not answer at http://127.0.0.1:9; going on without it\n"
    assert capfd.readouterr() == ("", warning)


def test_a_server_that_goes_away_is_asked_again_later(
    root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    journal = tmp_path / "metrics.jsonl"
    with joined_run(root, experiment="one", journal=journal) as run:
        database = Path(root.uri, "mlflow", "mlflow.db")
        hidden = database.rename(tmp_path / "hidden.db")
        database.mkdir()  # SQLite cannot open a folder
        run.client._tracking_client.store.engine.dispose()
        run.metrics({"loss": 1.0}, step=1)
        run.metrics({"loss": 2.0}, step=2)
        database.rmdir()
        hidden.rename(database)
        run.metrics({"loss": 3.0}, step=3)
        assert _history(root, run, "loss") == []
        monkeypatch.setattr(run, "_silent_until", 0.0)
        run.metrics({"loss": 4.0}, step=4)
        assert replay(journal, run) == 3
    assert _history(root, run, "loss") == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    assert re.fullmatch(
        r"warning: MLflow refused or did not answer \(.*\); going on without it\n", capfd.readouterr().err
    )


def _status(root: Root, run: TrackedRun) -> str:
    return str(with_client(root, lambda client: client.get_run(run.id)).info.status)


def _history(root: Root, run: TrackedRun, name: str) -> list[tuple[int, float]]:
    found = with_client(root, lambda client: client.get_metric_history(run.id, name))
    return sorted((metric.step, metric.value) for metric in found)


def test_a_model_that_is_no_longer_there_stays_out_of_the_registry_and_stops_no_step(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = Root(tmp_path)
    box = Outbox(root, "k", experiment="late", run_name="late", source="components.evaluate")
    folders = {"bundle": f"{tmp_path}/bundles/k", "evaluation": f"{tmp_path}/evaluations/k"}
    box.add("model", {"name": "late", "files": ["seal.json"], **folders})
    box.add("tags", {"values": {"leaky": "false"}})
    assert send_outboxes(root, "train") == {}
    assert f"warning: the model of {tmp_path}/evaluations/k is no longer there" in capfd.readouterr().err
    assert not root.storage.child("outbox").sizes()
    (run,) = with_client(root, lambda client: client.search_runs(["1"]))
    assert run.data.tags["leaky"] == "false"


def test_two_steps_may_send_one_outbox_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the other has sent and deleted meanwhile is passed over."""
    root = Root(tmp_path)
    box = Outbox(root, "k", experiment="late", run_name="late", source="components.evaluate")
    for name in "abc":
        box.add("tags", {"values": {name: name}})
    tags = TrackedRun.tags

    def other_step(run: TrackedRun, values: dict[str, str]) -> None:
        tags(run, values)
        root.storage.child("outbox/k").delete_all()

    monkeypatch.setattr(TrackedRun, "tags", other_step)
    assert send_outboxes(root, "train") == {}
    assert not root.storage.child("outbox").sizes()


def test_an_experiment_that_was_deleted_is_told_with_how_it_comes_back(tmp_path: Path) -> None:
    root = Root(tmp_path)
    with joined_run(root, experiment="gone"):
        pass
    with_client(root, lambda client: client.delete_experiment("1"))
    with (
        pytest.raises(
            UserError, match=r"deleted in MLflow.*: gone\. Run `mlflow experiments restore -x 1` with MLFLOW"
        ),
        joined_run(root, experiment="gone"),
    ):
        pass
    with_client(root, lambda client: client.restore_experiment("1"))
    with joined_run(root, experiment="gone") as run:
        assert run.id is not None
