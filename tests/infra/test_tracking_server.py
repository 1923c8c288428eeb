"""MLflow's server with the very arguments of the manifests, on a real PostgreSQL, takes a training's run."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.cloud.storage import Client

from components.cxr.storage.storage import Root
from components.cxr.tracking.mlflow_server import with_client
from components.cxr.tracking.tracking import joined_run
from tests.postgres import PASSWORD, Postgres, free_port, postgres, until

__all__ = ["postgres"]

COMPOSE = Path(__file__).parents[2] / "infra" / "compose.yaml"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def kubernetes_server(built: Any) -> tuple[list[str], dict[str, str]]:
    """Command and environment of MLflow's container on GKE, as kubectl builds it."""
    objects = built("overlays/gke")
    container = objects.workload("cxrflow-mlflow")["spec"]["template"]["spec"]["containers"][0]
    (source,) = container["envFrom"]
    (config,) = (i for i in objects.of_kind("ConfigMap") if i["metadata"]["name"] == source["configMapRef"]["name"])
    environment = {item["name"]: item.get("value", PASSWORD) for item in container["env"]}
    return [*container["command"], *container["args"]], {**config["data"], **environment}


@pytest.fixture
def compose_server() -> tuple[list[str], dict[str, str]]:
    """Command and environment of MLflow's container in Compose."""
    service = yaml.safe_load(COMPOSE.read_text())["services"]["mlflow"]
    return [*service["entrypoint"], *service["command"]], {**service["environment"], "PGPASSWORD": PASSWORD}


def test_on_gke_a_run_lands_in_postgresql_and_in_the_bucket(
    kubernetes_server: tuple[list[str], dict[str, str]],
    postgres: Postgres,
    gcs_bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command, environment = kubernetes_server
    assert environment["MLFLOW_ARTIFACTS_DESTINATION"] == "gs://PROJECT_ID-cxrflow/mlflow"
    environment |= {"MLFLOW_ARTIFACTS_DESTINATION": f"{gcs_bucket}/mlflow"}
    with mlflow_server(command, environment, "cxrflow-postgres", postgres, tmp_path) as port:
        for host in ("cxrflow-mlflow", "cxrflow-mlflow.cxrflow", "cxrflow-mlflow.cxrflow.svc.cluster.local"):
            assert status(port, "/api/2.0/mlflow/experiments/get?experiment_id=0", host=f"{host}:{port}") == 200
        assert status(port, "/api/2.0/mlflow/experiments/get?experiment_id=0", host="evil.example") == 403
        assert status(port, "/health", host=f"10.0.0.7:{port}") == 200  # how the kubelet probes a pod
        log_a_run(Root(tmp_path), port, postgres, monkeypatch)
    blobs = [blob.name for blob in Client().list_blobs(gcs_bucket.removeprefix("gs://"))]
    assert [name for name in blobs if re.fullmatch(r"mlflow/\d+/[0-9a-f]{32}/artifacts/note\.txt", name)]


def test_in_compose_a_run_lands_in_postgresql_and_in_the_volume(
    compose_server: tuple[list[str], dict[str, str]],
    postgres: Postgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command, environment = compose_server
    command = [text.replace("=/artifacts", f"={tmp_path}/artifacts") for text in command]
    with mlflow_server(command, environment, "postgres", postgres, tmp_path) as port:
        assert status(port, "/api/2.0/mlflow/experiments/get?experiment_id=0", host=f"mlflow:{port}") == 200
        assert status(port, "/api/2.0/mlflow/experiments/get?experiment_id=0", host=f"10.0.0.7:{port}") == 403
        log_a_run(Root(tmp_path), port, postgres, monkeypatch)
    assert list((tmp_path / "artifacts").rglob("note.txt"))


def log_a_run(root: Root, port: int, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a training logs, through the address that `kubectl port-forward` and Compose give, and read back."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://localhost:{port}")
    before = postgres.count("metrics")
    with joined_run(root, experiment="cxrflow", run_name="first") as run:
        run.params({"train.epochs": 3})
        run.metrics({"train/loss": 0.5, "validate/auroc": 0.75}, step=1)
        run.text("kept", "note.txt")
    assert run.id is not None
    found = with_client(root, lambda client: client.get_run(run.id))
    assert (found.info.status, found.data.params) == ("FINISHED", {"train.epochs": "3"})
    assert found.data.metrics == {"train/loss": 0.5, "validate/auroc": 0.75}
    assert postgres.count("metrics") == before + 2


@contextlib.contextmanager
def mlflow_server(
    command: list[str], environment: dict[str, str], database: str, postgres: Postgres, folder: Path
) -> Iterator[int]:
    """The server by the manifest's command; only the ports and the database's address are this machine's."""
    port = free_port()
    assert f"@{database}:5432/" in " ".join(command)
    local = [text.replace(f"{database}:5432", f"127.0.0.1:{postgres.port}") for text in command]
    local = [re.sub(r"(--port=|:)5000\b", rf"\g<1>{port}", text) for text in local]
    local = [text.replace("--host=0.0.0.0", "--host=127.0.0.1") for text in local]
    assert local[0] == "mlflow"
    binary, log = Path(sys.executable).with_name("mlflow"), folder / "mlflow.log"
    inherited = {name: os.environ[name] for name in ("STORAGE_EMULATOR_HOST",) if name in os.environ}
    full = {"PATH": f"{binary.parent}:/usr/bin:/bin", "HOME": str(folder), **inherited, **environment}
    with log.open("w") as output:
        server = subprocess.Popen([binary, *local[1:]], env=full, cwd=folder, stdout=output, stderr=output)
    try:
        until(lambda: status(port, "/health", host=f"localhost:{port}") == 200, server, log)
        yield port
    finally:
        server.terminate()
        server.wait(30)


def status(port: int, path: str, *, host: str) -> int | None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return None
