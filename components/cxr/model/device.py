"""Which device a process computes on."""

from __future__ import annotations

import os
from typing import Literal

import torch

from components.cxr.errors import UserError

__all__ = ["pick_device"]


def pick_device(name: Literal["auto", "cpu", "cuda"], *, where: str) -> torch.device:
    """The device of this process: for `auto` a GPU if there is one; under torchrun the GPU of the local rank.

    >>> pick_device("cpu", where="evaluate.device")
    device(type='cpu')

    Args:
        where: the configuration field, for the message.

    Raises:
        UserError: `cuda` on a machine without a CUDA device.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError("no-cuda", "no CUDA device", where=where, found=name, remedy=f"Set {where}=auto.")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
