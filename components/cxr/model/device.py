"""Which device a process computes on."""

from __future__ import annotations

import os
from typing import Literal

import torch

from components.cxr.errors import UserError

__all__ = ["exact_float32", "pick_device"]


def pick_device(name: Literal["auto", "cpu", "cuda"], *, where: str) -> torch.device:
    """The device of this process: for `auto` a GPU if there is one; under torchrun the GPU of the local rank.

    >>> pick_device("cpu", where="evaluate.device")
    device(type='cpu')

    Args:
        where: the configuration field, for the message.

    Raises:
        UserError: `cuda` on a machine without a CUDA device, or more processes under torchrun than devices.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError("no-cuda", "no CUDA device", where=where, found=name, remedy=f"Set {where}=auto.")
    local_rank, num_devices = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local_rank >= num_devices:
        raise UserError(
            "too-few-gpus",
            "more processes than CUDA devices",
            where=where,
            found=f"process {local_rank + 1}, {num_devices} of them",
            remedy="Set train.num_processes to their number.",
        )
    return torch.device("cuda", local_rank)


def exact_float32() -> None:
    """Let float32 mean float32 in this process: no TF32, whose 10 bits of mantissa move probabilities by 1e-3.

    A report that is made on a GPU then passes the check of a server on a CPU, and the other way round. Training obeys
    as well; where speed counts there is train.precision: bfloat16.
    """
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
