"""In float64 two processes give the weights of one after 200 steps, and validation by both keeps the same epoch."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.cxr.tracking.journal import JOURNAL
from components.train.config import TrainConfig
from components.train.key import training_key
from tests.components.train.cluster import REPOSITORY

NUM_STEPS = 200
NUM_EPOCHS = 20


def start(config: TrainConfig, data: LoadedManifest, folder: Path, *, num_processes: int) -> subprocess.Popen[str]:
    """Training in float64 in `folder/root`, by one process or by several of a torchrun."""
    folder.mkdir()
    file, root = folder / "train.yaml", Root(folder / "root")
    file.write_text(yaml.safe_dump({"root": root.uri, "train": config.model_dump(mode="json")}))
    torchrun = ["components.train.torchrun", "--standalone", f"--nproc-per-node={num_processes}", "-m"]
    line = [*(torchrun if num_processes > 1 else []), "tests.components.train.double"]
    line += ["--config", str(file), "--manifest", data.storage.uri]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    return subprocess.Popen(
        [sys.executable, "-m", *line],
        cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_two_processes_give_the_weights_of_one_after_200_steps_in_float64(
    tiny_data: LoadedManifest, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    fusion = tiny_config.architecture.fusion.model_copy(update={"dropout": 0.0})
    architecture = tiny_config.architecture.model_copy(update={"fusion": fusion})
    changes = {"architecture": architecture, "batch_size": 5, "epochs": NUM_EPOCHS, "log_every": 50}
    config = tiny_config.model_copy(update={**changes, "checkpoint_every": NUM_STEPS})
    key = training_key(config, tiny_data.hash)
    started = {n: start(config, tiny_data, tmp_path / str(n), num_processes=n) for n in (1, 2)}
    states: dict[int, dict[str, Any]] = {}
    scores: dict[int, list[float]] = {}
    for n, process in started.items():
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        folder = Root(tmp_path / str(n) / "root").checkpoints(key)
        states[n] = torch.load(io.BytesIO(folder.read(f"step-{NUM_STEPS:08d}.pt").data), weights_only=True)
        rows = [json.loads(line) for line in folder.read(JOURNAL).data.decode().splitlines()]
        scores[n] = [row["validate/auroc"] for row in rows if "validate/auroc" in row]
    for part in ("model", "ema"):
        one, two = states[1][part], states[2][part]
        assert one.keys() == two.keys()
        weights = [name for name, value in one.items() if value.is_floating_point()]
        assert {one[name].dtype for name in weights} == {torch.float64}
        assert max((one[name] - two[name]).abs().max().item() for name in weights) < 1e-10
        assert max(one[name].abs().max().item() for name in weights) > 0.1, "the weights are not all near 0"

    assert len(scores[1]) == NUM_EPOCHS
    assert len(set(scores[1])) > 5, "epochs differ"
    assert scores[1] == scores[2], "each process scored a part of the validation split"
    assert states[1]["progress"]["kept_epoch"] == states[2]["progress"]["kept_epoch"]
