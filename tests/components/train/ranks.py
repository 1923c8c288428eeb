"""Real gloo processes of one training, without the seconds that each takes to import torch.

They are forked from a server that has imported everything and computed nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

from tests.components.train.cluster import REPOSITORY

__all__ = ["join", "start"]

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "components.train.start", "mlflow.store.tracking.sqlalchemy_store", "mlflow.system_metrics", "sklearn.metrics",
        "transformers.models.bert.modeling_bert", "transformers.models.resnet.modeling_resnet",
    ]
)  # fmt: skip


def start(function: Callable[..., None], *args: Any, num_processes: int, **options: Any) -> list[BaseProcess]:
    """Run a function of a test's module in that many processes, which find each other as under torchrun."""
    os.environ.setdefault("PYTHONPATH", str(REPOSITORY))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = []
    for rank in range(num_processes):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(num_processes)}
        environment = dict(os.environ) | (shared | own if num_processes > 1 else {})
        processes.append(_CONTEXT.Process(target=_run, args=(environment, function, args, options)))
        processes[-1].start()
    return processes


def join(processes: list[BaseProcess], *, timeout_s: float = 300.0) -> list[int]:
    """Their exit codes, negative for a signal."""
    for process in processes:
        process.join(timeout_s)
    late = [process for process in processes if process.exitcode is None]
    for process in late:
        process.kill()
        process.join()
    assert not late, "a process waits for one that is gone"
    return [process.exitcode or 0 for process in processes]


def _run(environment: dict[str, str], function: Callable[..., None], args: Any, options: dict[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    try:
        function(*args, **options)
    except Exception:
        traceback.print_exc()
        os._exit(1)  # as a process of torchrun ends; multiprocessing would wait for its threads
