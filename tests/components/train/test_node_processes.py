"""Training on several nodes with real processes: a stopped step, and two nodes beside one process."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml

from components.cxr.errors import UserError
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.train import nodes
from components.train.config import TrainConfig
from components.train.key import training_key
from components.train.launch import launch
from components.train.train import train
from tests.components.kube_api import KubeApi
from tests.components.train.cluster import REPOSITORY, config_of
from tests.terminal import IN_A_TERMINAL


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "POLL_S", 0.02)


def command(tiny_data: LoadedManifest, tmp_path: Path, **values: Any) -> list[str]:
    file = tmp_path / "config.yaml"
    cluster = {"claims": {"all": "/"}}
    values = {"num_nodes": 2, "cluster": cluster} | values
    file.write_text(yaml.safe_dump({"root": str(tmp_path / "root"), "train": values}))
    return [sys.executable, "-m", "components.train", "--config", str(file), "--manifest", tiny_data.storage.uri]


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_stopped_step_deletes_its_job(
    kube: KubeApi, tiny_data: LoadedManifest, tmp_path: Path, number: signal.Signals
) -> None:
    line = [*IN_A_TERMINAL, *command(tiny_data, tmp_path)]
    with subprocess.Popen(line, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("train: created TrainJob cxr/")
            assert len(kube.objects["trainjobs"]) == 1
            process.send_signal(number)
            rest, _ = process.communicate(timeout=300)
        finally:
            process.kill()
    assert "train: deleted TrainJob cxr/" in rest
    assert process.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    assert kube.objects["trainjobs"] == {}


class Kubelet:
    """Runs a job's own command line as that many processes, with the variables that Kubeflow's runtime sets."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, job: dict[str, Any]) -> None:
        trainer = job["spec"]["trainer"]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        given = {entry["name"]: entry["value"] for entry in trainer["env"]}
        for rank in range(trainer["numNodes"]):
            pet = {
                "PET_NNODES": str(trainer["numNodes"]),
                "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
                "PET_NODE_RANK": str(rank),
                "PET_MASTER_ADDR": "127.0.0.1",
                "PET_MASTER_PORT": str(port),
            }
            line = [sys.executable, *trainer["command"][1:], *trainer["args"]]
            self.processes.append(subprocess.Popen(line, cwd=REPOSITORY, env=os.environ | given | pet))

    def kill(self) -> None:
        """As a preemption does; torchrun gives its workers sessions of their own."""
        for process in self.processes:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()
        self.processes.clear()

    def control(self, job: dict[str, Any]) -> None:
        """The controller: start once, then report."""
        if not self.processes:
            self.start(job)
        codes = [process.poll() for process in self.processes]
        if None not in codes:
            kind = "Complete" if codes == [0] * len(codes) else "Failed"
            job["status"] = {"conditions": [{"type": kind, "status": "True", "message": str(codes)}]}


@pytest.mark.slow
def test_two_nodes_give_the_weights_of_one_process_and_resume_after_preemption(
    kube: KubeApi, tiny_data: LoadedManifest, tiny_config: TrainConfig, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    one, two = Root(tmp_path / "one"), Root(tmp_path / "two")
    single = tiny_config.model_copy(update={"epochs": 5})  # 5 epochs of 4 steps
    train(single, loaded=tiny_data, root=one)
    several = single.model_copy(update={"num_nodes": 2, "cluster": config_of({"claims": {"all": "/"}}).cluster})
    key = training_key(several, tiny_data.hash)
    kubelet = Kubelet()

    def preempted(job: dict[str, Any]) -> None:
        kubelet.control(job)
        if two.checkpoints(key).exists("latest.json"):
            kubelet.kill()
            job["status"] = {"conditions": [{"type": "Failed", "status": "True", "reason": "Preempted"}]}

    kube.controllers["trainjobs"] = preempted
    with pytest.raises(UserError, match="Preempted"):
        launch(several, root=two, manifest=tiny_data.storage)
    assert not two.bundle(key).sizes()

    kube.controllers["trainjobs"] = kubelet.control
    started = time.monotonic()
    bundle = launch(several, root=two, manifest=tiny_data.storage)
    assert time.monotonic() - started < 600
    assert f"train: resumed checkpoints/{key} at step " in capfd.readouterr().out
    assert bundle.uri == two.bundle(key).uri
    assert json.loads(two.latest().read("bundle.json").data)["uri"] == bundle.uri
    for part in ("model", "ema"):
        a, b = (
            torch.load(io.BytesIO(root.checkpoints(key).read("step-00000020.pt").data), weights_only=True)[part]
            for root in (one, two)
        )
        assert a.keys() == b.keys()
        assert max((a[name].double() - b[name].double()).abs().max().item() for name in a) < 1e-5

    kube.asked.clear()
    assert launch(several, root=two, manifest=tiny_data.storage).uri == bundle.uri
    assert kube.asked == [], "a finished training needs no nodes"
