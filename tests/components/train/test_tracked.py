"""A training's run and journal through kills, deletions and servers that are away; MLflow and the bucket are real."""

from __future__ import annotations

import getpass
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from components.cxr.bundle import load_bundle
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root, Storage
from components.cxr.tracking.journal import DESCRIPTION, JOURNAL
from components.cxr.tracking.mlflow_server import with_client
from components.train.checkpoint import Progress
from components.train.config import TrainConfig
from components.train.key import training_key
from components.train.lease import LEASE
from components.train.setup import Setup
from components.train.tracked import RUN, tracked_training
from components.train.train import train


@pytest.fixture
def setup(tiny_data: LoadedManifest, tiny_config: TrainConfig) -> Setup:
    return Setup(tiny_config, tiny_data, device=torch.device("cpu"))


def start(config: TrainConfig, root: Root, data: LoadedManifest, folder: Path) -> subprocess.Popen[bytes]:
    file = folder / "train.yaml"
    file.write_text(yaml.safe_dump({"root": root.uri, "train": config.model_dump(mode="json")}))
    command = [sys.executable, "-m", "components.train", "--config", str(file), "--manifest", data.storage.uri]
    return subprocess.Popen(command, start_new_session=True)


def wait_for(storage: Storage, name: str, process: subprocess.Popen[bytes]) -> None:
    while not storage.exists(name):
        assert process.poll() is None
        time.sleep(0.02)


def run_of(root: Root, run_id: str | None) -> Any:
    return with_client(root, lambda client: client.get_run(run_id))


def steps_of(root: Root, run_id: str | None, name: str) -> list[int]:
    return with_client(root, lambda client: sorted(m.step for m in client.get_metric_history(run_id, name)))


def journaled(storage: Storage) -> list[int]:
    rows = map(json.loads, storage.read(JOURNAL).data.decode().splitlines())
    return [row["step"] for row in rows if "train/supervised_loss" in row]


@pytest.fixture
def long_config(tiny_config: TrainConfig) -> TrainConfig:
    """Long enough to be interrupted; 4 steps per epoch."""
    return tiny_config.model_copy(update={"epochs": 12})


def test_the_journal_in_a_bucket_survives_a_kill(
    gcs_bucket: str, tiny_data: LoadedManifest, long_config: TrainConfig, tmp_path: Path
) -> None:
    root = Root(f"{gcs_bucket}/root")
    checkpoints = root.checkpoints(training_key(long_config, tiny_data.hash))
    process = start(long_config, root, tiny_data, tmp_path)
    wait_for(checkpoints, "step-00000008.pt", process)
    while json.loads(checkpoints.read("latest.json").data)["checkpoint"] < "step-00000008.pt":
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = journaled(checkpoints)
    assert before[:4] == [2, 4, 6, 8], "the journal covers the checkpoint"
    train(long_config, loaded=tiny_data, root=root)
    steps = list(range(2, 49, 2))
    assert journaled(checkpoints) == steps
    run_id = load_bundle(root.bundle(training_key(long_config, tiny_data.hash))).info.mlflow_run_id
    assert steps_of(root, run_id, "train/supervised_loss") == steps
    assert run_of(root, run_id).info.status == "FINISHED"


def test_sigterm_leaves_a_killed_run_that_a_rerun_finishes(
    tiny_data: LoadedManifest, long_config: TrainConfig, tmp_path: Path
) -> None:
    root = Root(tmp_path / "root")
    checkpoints = root.checkpoints(training_key(long_config, tiny_data.hash))
    process = start(long_config, root, tiny_data, tmp_path)
    wait_for(checkpoints, "step-00000003.pt", process)
    process.terminate()
    assert process.wait(60) == 143
    run_id = json.loads(checkpoints.read(RUN).data)["run_id"]
    assert run_of(root, run_id).info.status == "KILLED"
    assert not checkpoints.exists(LEASE)
    train(long_config, loaded=tiny_data, root=root)
    assert load_bundle(root.bundle(training_key(long_config, tiny_data.hash))).info.mlflow_run_id == run_id
    assert run_of(root, run_id).info.status == "FINISHED"
    assert steps_of(root, run_id, "train/supervised_loss") == list(range(2, 49, 2))


def test_a_kill_before_the_first_checkpoint_leaves_one_run(
    setup: Setup, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    root, checkpoints = Root(tmp_path), Root(tmp_path).checkpoints("1")
    first, second = Progress(), Progress()
    with tracked_training(root, setup, tiny_data, first, checkpoints):
        pass
    with tracked_training(root, setup, tiny_data, second, checkpoints):
        pass
    assert first.run_id == second.run_id is not None


def test_a_deleted_run_is_replaced_by_a_whole_one(
    tiny_data: LoadedManifest, tiny_config: TrainConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = Root(tmp_path)
    train(tiny_config, loaded=tiny_data, root=root, stop_after=7)
    checkpoints = root.checkpoints(training_key(tiny_config, tiny_data.hash))
    deleted = json.loads(checkpoints.read(RUN).data)["run_id"]
    with_client(root, lambda client: client.delete_run(deleted))
    train(tiny_config, loaded=tiny_data, root=root)
    run_id = load_bundle(root.bundle(training_key(tiny_config, tiny_data.hash))).info.mlflow_run_id
    assert run_id != deleted
    found = run_of(root, run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params["train.batch_size"] == "13"
    assert found.data.tags["manifest_hash"] == tiny_data.hash
    assert len(found.inputs.dataset_inputs) == 2
    assert steps_of(root, run_id, "train/supervised_loss") == list(range(2, 25, 2))
    assert json.loads(checkpoints.read(RUN).data)["run_id"] == run_id
    assert f"MLflow has no run {deleted}" in capfd.readouterr().err


def test_a_server_that_was_away_at_the_start_gets_the_whole_run(
    setup: Setup, tiny_data: LoadedManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    there, progress, root = os.environ["MLFLOW_TRACKING_URI"], Progress(), Root(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with tracked_training(root, setup, tiny_data, progress, root.checkpoints("1")) as tracked:
        assert tracked is not None
        assert tracked.id is None
        tracked.metrics({"train/supervised_loss": 1.0}, step=2)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", there)
    found = run_of(root, progress.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params["train.batch_size"] == "13"
    assert steps_of(root, progress.run_id, "train/supervised_loss") == [2]


def test_a_training_that_mlflow_never_heard_of_leaves_its_description(
    setup: Setup, tiny_data: LoadedManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    progress, root = Progress(), Root(tmp_path)
    with tracked_training(root, setup, tiny_data, progress, root.checkpoints("1")):
        pass
    assert progress.run_id is None
    described = json.loads(root.checkpoints("1").read(DESCRIPTION).data)
    assert described["params"]["train.batch_size"] == 13
    assert described["tags"]["manifest_hash"] == tiny_data.hash


class MlflowServer:
    """`mlflow server` on a fixed port, which can go away and come back with what it knew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        command += ["--artifacts-destination", str(self.folder / "files")]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        deadline = time.monotonic() + 300
        while True:
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline
            try:
                with urllib.request.urlopen(f"{self.url}/health") as answer:
                    assert answer.status == 200
                return
            except OSError:
                time.sleep(0.2)

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(60)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowServer]:
    made = MlflowServer(tmp_path)
    made.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.url)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    yield made
    made.stop()


def test_a_run_says_what_was_trained_on_what_by_whom(
    setup: Setup, tiny_data: LoadedManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXRFLOW_PIPELINE_RUN", "run-7")
    monkeypatch.setenv("CXRFLOW_IMAGE", "registry/train@sha256:abc")
    monkeypatch.setenv("CXRFLOW_REVISION", "0123abc")
    root, progress = Root(tmp_path / "clinic"), Progress()
    with tracked_training(root, setup, tiny_data, progress, root.checkpoints("1")):
        pass
    found = run_of(root, progress.run_id)
    assert re.fullmatch(r"clinic, resnet 32 px, supervised, 20\d\d-\d\d-\d\d \d\d:\d\d", found.info.run_name)
    tags, params = found.data.tags, found.data.params
    assert tags["manifest_hash"] == tiny_data.hash
    assert (tags["pipeline_run"], tags["image"]) == ("run-7", "registry/train@sha256:abc")
    assert (tags["git_revision"], tags["mlflow.source.git.commit"]) == ("0123abc", "0123abc")
    assert (tags["mlflow.user"], tags["mlflow.source.name"]) == (getpass.getuser(), "components.train")
    assert (tags["text_sections"], tags["leaky"]) == ("indication", "false")
    assert "LEAKY" not in tags
    assert tags["mlflow.note.content"].startswith("**clinic, resnet 32 px, supervised**: 60 training studies")
    assert params["architecture.vision.model_type"] == "resnet"
    assert params["pixels.size"] == "32"
    assert (params["data.num_training_studies"], params["train.labels.blank"]) == ("60", "negative")
    assert not {"None", "", "[]"} & set(params.values())


def test_a_run_says_how_much_teachers_labeled(setup: Setup, tiny_data: LoadedManifest, tmp_path: Path) -> None:
    setup.pseudo_SP = torch.full((60, 4), torch.nan)
    setup.pseudo_SP[:15, 0], setup.pseudo_SP[15:30, 0] = 0.2, 0.6
    root, progress = Root(tmp_path), Progress()
    with tracked_training(root, setup, tiny_data, progress, root.checkpoints("1")):
        pass
    metrics = run_of(root, progress.run_id).data.metrics
    assert metrics["train/pseudo_label_share"] == pytest.approx(30 / 240)
    assert metrics["train/pseudo_label_rate"] == pytest.approx(0.4)


@pytest.mark.slow
def test_a_server_that_was_away_in_the_middle_misses_nothing(
    server: MlflowServer, setup: Setup, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    root, progress = Root(tmp_path / "root"), Progress()
    with tracked_training(root, setup, tiny_data, progress, root.checkpoints("1")) as tracked:
        assert tracked is not None
        tracked.metrics({"train/supervised_loss": 4.0}, step=2)
        server.stop()
        tracked.metrics({"train/supervised_loss": 3.0}, step=4)
        server.start()
        tracked.metrics({"train/supervised_loss": 2.0}, step=6)  # not asked again yet
    assert steps_of(root, progress.run_id, "train/supervised_loss") == [2, 4, 6]
    assert run_of(root, progress.run_id).info.status == "FINISHED"


@pytest.mark.slow
def test_first_trainings_at_once_share_a_servers_experiment(server: MlflowServer, tmp_path: Path) -> None:
    assert _experiments_of_many_at_once(tmp_path, server.url) == Counter({"1": 4})


def test_first_trainings_at_once_share_a_new_database(tmp_path: Path) -> None:
    """Each with a temporary folder of its own, as containers have: MLflow's own lock lies there."""
    assert _experiments_of_many_at_once(tmp_path, f"sqlite:///{tmp_path}/new/mlflow.db") == Counter({"1": 4})


def _experiments_of_many_at_once(folder: Path, uri: str) -> Counter[str]:
    script = (
        "import sys\n"
        "from components.cxr.storage.storage import Root\n"
        "from components.cxr.tracking.tracking import joined_run\n"
        "import mlflow\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "with joined_run(Root(sys.argv[1]), experiment='new') as run:\n"
        "    print(run.client.get_run(run.id).info.experiment_id)\n"
    )
    running = []
    for i in range(4):
        (folder / f"tmp{i}").mkdir()
        environment = os.environ | {"MLFLOW_TRACKING_URI": uri, "TMPDIR": str(folder / f"tmp{i}")}
        command = [sys.executable, "-c", script, str(folder / "root")]
        running.append(
            subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    found = Counter(process.communicate(timeout=300)[0].strip() for process in running)
    assert [process.returncode for process in running] == [0] * 4
    return found
