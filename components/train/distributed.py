"""Data parallelism through torchrun: what this process is, and sums over all of them."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from components.train.torchrun_variables import under_torchrun

__all__ = [
    "all_reduce_sum", "any_process", "barrier", "broadcast", "distributed", "gather", "is_main", "parallel", "rank",
    "world_size",
]  # fmt: skip

T = TypeVar("T")
N = TypeVar("N", bound=nn.Module)

_hosts: list[dist.ProcessGroup] = []
"""A gloo group of all processes, for what the hosts tell each other without waiting for their GPUs."""


@contextlib.contextmanager
def distributed(device: torch.device, *, timeout_s: float = 3600.0) -> Iterator[None]:
    """The process group of a torchrun (nccl on CUDA, gloo on CPU); nothing when there is a single process.

    Args:
        timeout_s: how long a process waits for the others before all end.
    """
    if not under_torchrun():
        yield
        return
    if device.type == "cuda":  # or every process of a machine would use, and NCCL wait for, the first GPU
        torch.cuda.set_device(device)
    timeout = timedelta(seconds=timeout_s)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timeout)
    try:
        _hosts.append(dist.new_group(backend="gloo", timeout=timeout))
        yield
    finally:
        _hosts.clear()
        dist.destroy_process_group()


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process, 0 to world_size() - 1."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this process logs and writes."""
    return rank() == 0


def all_reduce_sum(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes (in place)."""
    if dist.is_initialized():
        dist.all_reduce(value)
    return value


def any_process(value: bool) -> bool:
    """Whether it is true on any process, the same answer on all; the hosts talk, no GPU is waited for."""
    if not _hosts:
        return value
    flag = torch.tensor(int(value))
    dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=_hosts[0])
    return bool(flag)


def gather(value: T) -> list[T]:
    """The values of all processes, by rank, on every process."""
    if not _hosts:
        return [value]
    values: list[T] = [value] * world_size()
    dist.all_gather_object(values, value, group=_hosts[0])
    return values


def broadcast(value: object) -> object:
    """The main process's value, on every process."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def parallel(network: N) -> N | DistributedDataParallel:
    """The network with gradients averaged over all processes; with one process itself.

    Which weights have gradients is asked once, so it is called again when that changes. The former wrapper must be
    gone by then: it is a cycle, and until it is collected its hooks would average the gradients too.
    """
    if world_size() == 1:
        return network
    gc.collect()
    return DistributedDataParallel(network, broadcast_buffers=False)  # no step changes one


def barrier() -> None:
    """Wait for every process."""
    if dist.is_initialized():
        dist.barrier()
