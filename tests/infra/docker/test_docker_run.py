"""The whole pipeline in containers: the numbers of the run in processes, and no dead container passes for a success."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker as docker_py
import pytest
import yaml

from components.cxr.errors import UserError
from components.cxr.report import load_report
from components.cxr.storage.storage import open_storage
from pipeline.config import load_pipeline_config
from pipeline.docker import containers
from pipeline.run import run_locally
from tests.infra.docker.conftest import docker, inspect

pytestmark = pytest.mark.docker
SILENT, DEAD = "cxrflow-test-silent", "cxrflow-test-dead"
PATIENT = "cxrflow-test-patient"
STEP = r'#!/bin/sh\ntrap "sleep 1; echo train: left a checkpoint; exit 143" TERM\necho train: here\nsleep 600 & wait\n'
"""Of PATIENT's python3."""


@pytest.fixture(scope="module", autouse=True)
def broken_images() -> None:
    """Images whose python3 ends at once, one says that all is well, one does not; and one with a step that goes on."""
    base = inspect("image", "cxrflow-preprocess")["Config"]["Labels"]["org.opencontainers.image.base.name"]
    commands = {name: f'ln -sf /bin/{end} "$(command -v python3)"' for name, end in ((SILENT, "true"), (DEAD, "false"))}
    for name, command in {**commands, PATIENT: f"""printf '{STEP}' > "$(command -v python3)\""""}.items():
        recipe = f"FROM {base}\nRUN {command}\n"
        docker_py.from_env().images.build(fileobj=io.BytesIO(recipe.encode()), tag=name)


def run(config: Path, *overrides: str, runner: str = "docker", code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", "run", "--config", str(config), "--runner", runner]
    command += ["--log", str(config.with_suffix(".log")), *(word for o in overrides for word in ("--set", o))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1000)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def labeled() -> set[str]:
    """Names of the containers and networks of cxrflow's runs."""
    containers_, networks = ("ps", "-a", "--format={{.Names}}"), ("network", "ls", "--format={{.Name}}")
    return {name for kind in (containers_, networks) for name in docker(*kind, "--filter=label=cxrflow").split()}


@pytest.fixture(scope="module")
def before() -> set[str]:
    """What other runs on this machine have or left."""
    return labeled()


@pytest.fixture(scope="module")
def undeployed(blob_config: Path, before: set[str]) -> tuple[Path, list[subprocess.CompletedProcess[str]]]:
    """A root in which everything but the deployment is done, and the two runs whose deployment died."""
    failed = [run(blob_config, f"platform.images.serve={image}", code=2) for image in (SILENT, DEAD)]
    return Path(yaml.safe_load(blob_config.read_text())["root"]), failed


@pytest.fixture(scope="module")
def root(blob_config: Path, undeployed: tuple[Path, object]) -> Path:
    """The same root after a whole run."""
    assert "promoted" in run(blob_config).stdout
    return undeployed[0]


@pytest.mark.timeout(1200)
def test_a_deployment_that_dies_fails_the_run(undeployed: tuple[Path, list[subprocess.CompletedProcess[str]]]) -> None:
    root, failed = undeployed
    assert not (root / "deployed" / "current.json").exists()
    assert "a step left no result" in failed[0].stderr
    assert "deploy" in failed[0].stderr
    for done in failed:
        assert done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr
        assert "Everything is under" not in done.stdout


@pytest.mark.filterwarnings("ignore")  # kfp's own
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("image", [SILENT, DEAD])
def test_a_container_that_dies_at_once_fails_the_run_every_time(
    image: str, blob_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://nobody:5000")  # nothing gets as far as that
    overrides = [f"root={tmp_path}/root", f"platform.images.preprocess={image}", "platform.partitions=1"]
    config = load_pipeline_config(blob_config, overrides)
    for _ in range(15):
        with pytest.raises(UserError, match=r"a step left no result|step .* failed"):
            run_locally(config, log=tmp_path / "log", runner=containers(config))


@pytest.mark.timeout(1200)
def test_the_run_in_containers_gives_the_numbers_of_the_run_in_processes(
    root: Path, blob_config: Path, tmp_path: Path
) -> None:
    run(blob_config, f"root={tmp_path}/root", runner="process")
    reports, weights = [], []
    for folder in (root, tmp_path / "root"):
        evaluation = json.loads((folder / "latest" / "evaluation.json").read_text())["uri"]
        deployed = folder / json.loads((folder / "deployed" / "current.json").read_text())["bundle"]
        reports.append(_numbers(load_report(open_storage(evaluation)).headline.model_dump()))
        weights.append((deployed / "weights.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert reports[0].keys() == reports[1].keys()
    assert len(reports[0]) > 100
    for name, value in reports[0].items():
        assert reports[1][name] == pytest.approx(value, rel=1e-4, abs=1e-7), name
        if "auroc" in name:  # the rest hangs on the calibration, whose optimizer ends within some digits
            assert reports[1][name] == value, name


def _numbers(value: Any, name: str = "") -> dict[str, float]:
    """Every number of nested dicts by its path."""
    if isinstance(value, dict):
        return {path: found for key, each in value.items() for path, found in _numbers(each, f"{name}/{key}").items()}
    return {name: value} if isinstance(value, int | float) else {}


@pytest.mark.filterwarnings("ignore")  # SQLAlchemy's, about MLflow's queries
def test_mlflows_server_has_one_run_with_everything_and_is_gone(before: set[str], root: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{root}/mlflow/mlflow.db")
    runs = [run for e in client.search_experiments() for run in client.search_runs([e.experiment_id])]
    assert [run.info.status for run in runs] == ["FINISHED"]
    version = client.get_model_version_by_alias("cxrflow", "champion")
    assert version.run_id == runs[0].info.run_id
    assert list((root / "mlflow" / "artifacts").rglob("MODEL_CARD.md"))
    assert labeled() <= before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_lets_the_steps_end_and_leaves_nothing(
    number: signal.Signals, code: int, blob_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # no server beside the steps
    before = labeled()
    command = [sys.executable, "-m", "pipeline", "run", "--config", str(blob_config), "--runner", "docker"]
    command += ["--log", f"{tmp_path}/log", "--set", f"root={tmp_path}/root", "--set", "platform.partitions=3"]
    for step in ("preprocess", "train", "evaluate", "serve"):
        command += ["--set", f"platform.images.{step}={PATIENT}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().endswith("train: here\n")
            process.send_signal(number)
            shown, error = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == code, error
    assert shown.count("here") + 1 == shown.count("left a checkpoint")
    assert labeled() <= before


def test_what_a_killed_run_left_is_removed_by_the_next_and_a_running_one_is_not_touched(blob_config: Path) -> None:
    script = f"""
import time
from pathlib import Path
from pipeline.config import load_pipeline_config
from pipeline.docker import containers
with containers(load_pipeline_config(Path({str(blob_config)!r}))) as runner:
    print(runner.container_run_args["network"], flush=True)
    time.sleep(600)
"""
    before = labeled()
    with contextlib.ExitStack() as stack:
        names, processes = [], []
        for _ in range(2):
            process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
            stack.enter_context(process)
            stack.callback(process.terminate)
            assert process.stdout is not None
            names.append(process.stdout.readline().strip())
            processes.append(process)
        processes[0].kill()
        processes[0].wait()
        assert labeled() - before == {*names, *(f"{name}-mlflow" for name in names)}
        with containers(load_pipeline_config(blob_config)):
            left = labeled() - before
            assert not {names[0], f"{names[0]}-mlflow"} & left
            assert {names[1], f"{names[1]}-mlflow"} <= left
    with containers(load_pipeline_config(blob_config)):
        pass
    assert labeled() <= before


ASK = """
import os, sys, urllib.request
for url in (os.environ.get("MLFLOW_TRACKING_URI", "") + "/health", sys.argv[1]):
    try:
        print(urllib.request.urlopen(url, timeout=5).status)
    except (OSError, ValueError) as error:
        print(type(error).__name__)
"""
SERVE = ["python", "-m", "http.server", "8080", "--directory", "/opt"]


@pytest.fixture
def bystander() -> Iterator[tuple[str, str]]:
    """A web server in a container on a Docker network of its own: the network's name and the server's address."""
    engine = docker_py.from_env()
    network = engine.networks.create("cxrflow-test-bystander")
    server = None
    try:
        server = engine.containers.run(
            "cxrflow-preprocess", SERVE, entrypoint=[], detach=True, init=True, network=network.name
        )
        deadline = time.monotonic() + 60
        while server.exec_run(["python", "-c", "import socket; socket.create_connection(('127.0.0.1', 8080))"])[0]:
            assert time.monotonic() < deadline
            time.sleep(0.5)
        server.reload()
        address = server.attrs["NetworkSettings"]["Networks"][network.name]["IPAddress"]
        yield str(network.name), f"http://{address}:8080"
    finally:
        if server is not None:
            server.remove(force=True)
        network.remove()
        engine.close()


def test_a_task_reaches_mlflow_and_no_other_network(
    bystander: tuple[str, str], blob_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    network, url = bystander
    run_container = docker_py.from_env().containers.run
    command = ["python", "-c", ASK, url]
    neighbor = run_container("cxrflow-preprocess", command, remove=True, entrypoint=[], network=network)
    assert neighbor.decode().split() == ["ValueError", "200"]
    config = load_pipeline_config(blob_config, [f"root={tmp_path}/root"])
    with containers(config) as runner:
        arguments = runner.container_run_args
        assert inspect("network", arguments["network"])["Internal"]
        task = run_container("cxrflow-preprocess", command, remove=True, **arguments)
    assert task.decode().split()[0] == "200"
    assert task.decode().split()[1] in ("TimeoutError", "URLError")


def test_a_missing_network_or_image_is_said(blob_config: Path) -> None:
    config = load_pipeline_config(blob_config, [])
    with pytest.raises(UserError, match="no such Docker network"), containers(config, network="cxrflow-nowhere"):
        pass
    config = load_pipeline_config(blob_config, ["platform.images.train=cxrflow-nothing"])
    with pytest.raises(UserError, match="no such image"), containers(config):
        pass
