"""The whole pipeline with its root in a bucket: only pointers, logs and MLflow's database stay on this machine."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from components.cxr.storage.storage import Root, open_storage
from components.serve.config import ServeConfig
from components.serve.deployment import read_deployment
from components.serve.golden import running_server
from pipeline.config import CONFIGS
from pipeline.synthetic import Settings, generate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

FOLDERS = {"data", "checkpoints", "bundles", "predictions", "evaluations", "decisions", "deployed", "latest"}


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        deadline = time.monotonic() + 300
        while True:
            assert server.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
                    assert answer.status == 200
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, 15)
        server.wait()


def run(config: Path, root: str, *overrides: str, mlflow: str, log: Path) -> str:
    command = [sys.executable, "-m", "pipeline", "run", "--config", str(config), "--log", str(log)]
    for override in (f"root={root}", *overrides):
        command += ["--set", override]
    environment = os.environ | {"MLFLOW_TRACKING_URI": mlflow}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=800)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_everything_lies_in_the_bucket_and_is_served_from_there(
    blob_config: Path, gcs_bucket: str, mlflow_server: str
) -> None:
    uri = f"{gcs_bucket}/hospital/cxrflow"
    before = {path for path in blob_config.parent.rglob("*") if path.is_file()}
    log = blob_config.with_name("bucket.log")
    first = run(blob_config, uri, mlflow=mlflow_server, log=log)
    assert "Promoted" in first
    assert f"Everything is under {uri}:" in first

    names = list(open_storage(uri).sizes())
    folders = {name.split("/")[0] for name in names}
    assert folders == FOLDERS
    for end in (".parquet", "manifest.json", ".pt", "metrics.jsonl", "predictions.parquet", "current.json"):
        assert any(name.endswith(end) for name in names), end
    made = {path for path in blob_config.parent.rglob("*") if path.is_file()} - before
    assert {path.name for path in made} == {"bucket.log"}

    again = run(blob_config, uri, mlflow=mlflow_server, log=log)
    for step in ("preprocess: reused data/", "train: reused bundles/", "evaluate: reused evaluations/"):
        assert step in again

    current, _ = read_deployment(Root(uri))
    assert current is not None
    copy = Root(uri).at(current.bundle)
    assert copy.uri.startswith(f"{uri}/deployed/")
    with running_server(ServeConfig(), copy, seal=current.seal) as server:
        model = httpx.get(f"{server.address}/v1/model", trust_env=False).json()
    assert model["bundle_hash"] == current.bundle_hash

    registered = f"{mlflow_server}/api/2.0/mlflow/registered-models/get?name=cxrflow"
    answer = httpx.get(registered, trust_env=False).json()
    aliases = {alias["alias"] for alias in answer["registered_model"]["aliases"]}
    assert aliases == {"champion", "challenger"}


@pytest.mark.soak
def test_the_whole_demo_runs_there_too(gcs_bucket: str, mlflow_server: str, tmp_path: Path) -> None:
    generate(
        tmp_path / "synthetic", num_studies=1200, settings=Settings(seed=7, prevalence="floor"), size=256, num_jobs=2
    )
    uri = f"{gcs_bucket}/demo"
    log = tmp_path / "demo.log"
    here = (f"data.dir={tmp_path}/synthetic", f"evaluate.second_truth.table={tmp_path}/synthetic/truth.csv")
    said = run(CONFIGS / "demo.yaml", uri, *here, mlflow=mlflow_server, log=log)
    assert re.search(r"^Mean of \d+ +0\.\d{3} ", said, re.MULTILINE)
    assert f"Everything is under {uri}:" in said
    folders = {name.split("/")[0] for name in open_storage(uri).sizes()}
    assert folders == FOLDERS
    current, _ = read_deployment(Root(uri))
    assert current is not None
    assert {path.name for path in tmp_path.iterdir()} == {"synthetic", "demo.log"}
