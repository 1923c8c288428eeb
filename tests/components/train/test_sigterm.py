"""SIGTERM in training: a checkpoint within seconds, an exit code that means "again", the same weights in the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.cxr.tracking.journal import JOURNAL
from components.train.config import TrainConfig
from components.train.key import training_key
from components.train.stopping import AGAIN, StopRequest, stop_request
from components.train.train import train
from tests.components.train.test_train import command


@pytest.mark.parametrize("num_processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_sigterm_saves_and_says_again(
    num_processes: int, tiny_data: LoadedManifest, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    config = tiny_config.model_copy(update={"epochs": 10, "checkpoint_every": 3, "num_workers": 1})
    root, key = Root(tmp_path / "root"), training_key(config, tiny_data.hash)
    line = command(config, root, tiny_data, tmp_path, num_processes=num_processes)
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for_checkpoint(root, key, process)
        before = saved_step(root, key)
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        output, _ = process.communicate(timeout=60)
        assert time.monotonic() - started < 30, "as long as Kubernetes and a spot machine leave at least"
    finally:
        process.kill()
    assert process.returncode == AGAIN, output
    step = saved_step(root, key)
    assert step >= before
    assert f"train: stopped at step {step}; the same command goes on from there" in output
    assert not root.bundle(key).sizes()
    names = [name for name in root.checkpoints(key).sizes() if name.endswith(".pt")]
    assert names == [f"step-{step:08d}.pt"]
    if num_processes == 1:  # that several go on to the same weights, test_kills.py says
        again = subprocess.run(
            [*line, "--set", "train.log_every=7"], capture_output=True, text=True, timeout=300, check=True
        )
        assert f"train: resumed checkpoints/{key} at step {step} of 40" in again.stdout
        straight = Root(tmp_path / "straight")
        train(config, loaded=tiny_data, root=straight)
        stopped, whole = (at.bundle(key).read("weights.safetensors").data for at in (root, straight))
        assert stopped == whole


def test_a_training_that_is_stopped_in_validation_validates_again(
    tiny_data: LoadedManifest, tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config.model_copy(update={"epochs": 2})
    key = training_key(config, tiny_data.hash)
    straight, root = Root(tmp_path / "straight"), Root(tmp_path / "root")
    train(config, loaded=tiny_data, root=straight)
    from components.train.validation import predict

    def stopped(*args: object, **options: object) -> object:
        os.kill(os.getpid(), signal.SIGTERM)
        return predict(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("components.train.validation.predict", stopped)
    monkeypatch.setattr("components.train.validation.BATCH_SIZE", 5)
    with pytest.raises(SystemExit) as ended:
        train(config, loaded=tiny_data, root=root)
    assert ended.value.code == AGAIN
    assert saved_step(root, key) == 4
    monkeypatch.undo()
    train(config, loaded=tiny_data, root=root)
    one, other = (at.bundle(key).read("weights.safetensors").data for at in (straight, root))
    assert one == other
    rows = [json.loads(line) for line in root.checkpoints(key).read(JOURNAL).data.decode().splitlines()]
    assert sum("validate/auroc" in row for row in rows) == 2, "both epochs"


def test_a_signal_waits_for_the_step_alone() -> None:
    with stop_request() as stop:
        with stop.wait_for_step():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            assert stop.agreed()
        with pytest.raises(SystemExit) as ended:
            signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == AGAIN
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert not StopRequest().agreed()


@pytest.mark.slow
def test_one_process_that_is_stopped_stops_the_other(
    tiny_data: LoadedManifest, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    """As when one of two machines is taken away: the signal reaches one worker, the main process saves."""
    config = tiny_config.model_copy(update={"epochs": 200})
    root, key = Root(tmp_path / "root"), training_key(config, tiny_data.hash)
    process = subprocess.Popen(
        command(config, root, tiny_data, tmp_path, num_processes=2),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        wait_for_checkpoint(root, key, process)
        workers = [p for p in psutil.Process(process.pid).children(recursive=True) if p.environ().get("RANK") == "1"]
        workers[0].send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert f"train: stopped at step {saved_step(root, key)};" in output
    assert process.returncode == AGAIN, output


def wait_for_checkpoint(root: Root, key: str, process: subprocess.Popen[str]) -> None:
    while not root.checkpoints(key).exists("latest.json"):
        assert process.poll() is None
        time.sleep(0.02)


def saved_step(root: Root, key: str) -> int:
    name = json.loads(root.checkpoints(key).read("latest.json").data)["checkpoint"]
    return int(name.removeprefix("step-").removesuffix(".pt"))
