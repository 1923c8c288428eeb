"""Two containers of the train image as two nodes, under the variables that Kubeflow Trainer sets for torchrun."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from tests.infra.docker.conftest import docker, inspect

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]
SHORT = ("train.epochs=1", "train.learning_rate=0.001", "train.architecture.fusion.dropout=0", "train.ema_decay=0")
LONG = ("train.epochs=12", "train.checkpoint_every=2", "train.architecture.fusion.dropout=0")


@pytest.fixture(scope="module")
def prepared(docker_data: tuple[Path, str]) -> tuple[Path, str]:
    folder, user = docker_data
    mounted = ["-v", f"{folder}:/data", "-u", user]
    docker("run", "--rm", *mounted, "cxrflow-preprocess", "--config", "/data/config.yaml", "--root", "/data/nodes")
    return folder, user


def fresh_root(folder: Path, name: str) -> None:
    """A root with the data set alone."""
    shutil.copytree(folder / "nodes" / "data", folder / name / "data")
    folder.joinpath(name).chmod(0o777)


def command(overrides: tuple[str, ...], root: str) -> list[str]:
    words = ["-m", "components.train", "--config", "/data/config.yaml", "--root", f"/data/{root}"]
    return [*words, *(word for override in overrides for word in ("--set", override))]


@contextlib.contextmanager
def two_nodes(folder: Path, user: str, *, root: str, overrides: tuple[str, ...]) -> Iterator[list[str]]:
    """The containers' names, node 0 first; they and their network are gone afterwards."""
    network = f"cxrflow-test-{secrets.token_hex(4)}"
    docker("network", "create", "--internal", network)
    names = [f"{network}-node-{rank}" for rank in range(2)]
    manifest = next((folder / root / "data").iterdir()).name
    try:
        for rank, name in enumerate(names):
            environment = {
                "PET_NNODES": "2",
                "PET_NPROC_PER_NODE": "1",
                "PET_NODE_RANK": str(rank),
                "PET_MASTER_ADDR": names[0],
                "PET_MASTER_PORT": "29500",
            }
            variables = [word for item in environment.items() for word in ("-e", "=".join(item))]
            options = ["-d", "--name", name, "--network", network, "-u", user, "-v", f"{folder}:/data", *variables]
            words = command(overrides, root)
            docker("run", *options, "--entrypoint", "torchrun", "cxrflow-train", *words, "--manifest",
                   f"/data/{root}/data/{manifest}")  # fmt: skip
        yield names
    finally:
        docker("rm", "-f", *names, code=None)
        docker("network", "rm", network)


def finish(names: list[str]) -> str:
    """Node 0's output, after both nodes have ended well."""
    codes = docker("wait", *names).split()
    logs = docker("logs", names[0])
    assert codes == ["0", "0"], logs + docker("logs", names[1])
    return logs


def weights(folder: Path, root: str) -> dict[str, Any]:
    (bundle,) = (folder / root / "bundles").iterdir()
    return dict(load_file(bundle / "weights.safetensors"))


def largest_difference(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    assert ours.keys() == theirs.keys()
    return max(float(abs(ours[name] - theirs[name]).max()) for name in ours)


def test_two_nodes_give_the_weights_of_one_process(prepared: tuple[Path, str]) -> None:
    folder, user = prepared
    fresh_root(folder, "one")
    fresh_root(folder, "two")
    manifest = next((folder / "one" / "data").iterdir()).name
    mounted = ["-v", f"{folder}:/data", "-u", user]
    words = command(SHORT, "one")[2:]
    docker("run", "--rm", *mounted, "cxrflow-train", *words, "--manifest", f"/data/one/data/{manifest}")
    with two_nodes(folder, user, root="two", overrides=SHORT) as names:
        assert "train: wrote bundles/" in finish(names)
        assert "wrote" not in docker("logs", names[1]), "only the main process writes"
    assert largest_difference(weights(folder, "one"), weights(folder, "two")) < 1e-4


def test_a_killed_node_ends_both_and_the_next_start_ends_as_an_unbroken_run(prepared: tuple[Path, str]) -> None:
    folder, user = prepared
    fresh_root(folder, "unbroken")
    fresh_root(folder, "broken")
    with two_nodes(folder, user, root="unbroken", overrides=LONG) as names:
        finish(names)

    with two_nodes(folder, user, root="broken", overrides=LONG) as names:
        deadline = time.monotonic() + 600
        while not list((folder / "broken").glob("checkpoints/*/latest.json")):
            assert time.monotonic() < deadline, docker("logs", names[0])
            assert inspect("container", names[0])["State"]["Running"], docker("logs", names[0])
            time.sleep(0.05)
        docker("kill", names[1])
        code = docker("wait", names[0]).strip()
        assert code != "0", "a node that lost its peer has not succeeded"
    assert not (folder / "broken" / "bundles").exists()
    (pointer,) = (folder / "broken").glob("checkpoints/*/latest.json")
    step = int(json.loads(pointer.read_text())["checkpoint"][5:-3])

    with two_nodes(folder, user, root="broken", overrides=LONG) as names:
        assert f"at step {step} of" in finish(names)
    assert largest_difference(weights(folder, "unbroken"), weights(folder, "broken")) == 0.0
