"""The cluster of `infra/slurm/ci.sh` as the tests see it; everything here is marked `slurm`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipeline.conftest import _own_cache, blob_config, blob_table
from tests.pipeline.test_bucket import mlflow_server

__all__ = ["_own_cache", "blob_config", "blob_table", "mlflow_server"]


@pytest.fixture(scope="session", autouse=True)
def _cluster() -> None:
    if shutil.which("sinfo") is None or subprocess.run(["sinfo"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no Slurm cluster: infra/slurm/ci.sh make test-slurm starts one")


@pytest.fixture(scope="session")
def cluster_folder() -> Path:
    """Where ci.sh keeps its cluster's files; tests of its nodes skip on a cluster of somebody else."""
    folder = Path(os.environ.get("SLURM_CONF", "/")).parent
    if not (folder / "slurmd.n2.pid").exists():
        pytest.skip("only the cluster of infra/slurm/ci.sh has such nodes, and may lose one")
    return folder


def queued(*options: str) -> list[str]:
    """Ids and states of the jobs that are not over."""
    return subprocess.run(
        ["squeue", "--noheader", "--format=%i %T", *options], capture_output=True, text=True, check=True
    ).stdout.splitlines()


def wait_until(condition: Callable[[], bool], *, timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def lose_node(node: str, folder: Path) -> None:
    """End a node's daemon and all that runs under it at once, as a power cut does."""
    own = f"SLURMD_NODENAME={node}".encode()
    tasks = [path for path in Path("/proc").glob("[0-9]*") if own in _environment(path)]
    parents = {int(path.joinpath("stat").read_text().rpartition(")")[2].split()[1]) for path in tasks}
    stewards = {pid for pid in parents if "slurmstepd" in Path(f"/proc/{pid}/cmdline").read_text()}
    assert tasks, "nothing runs there"
    daemon = int((folder / f"slurmd.{node}.pid").read_text())
    for pid in [daemon, *stewards, *(int(path.name) for path in tasks)]:
        os.kill(pid, signal.SIGKILL)


def _environment(process: Path) -> list[bytes]:
    try:
        return (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return []
