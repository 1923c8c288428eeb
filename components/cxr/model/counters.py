"""Random numbers as hashes of counters: the same on every device, in any order, in any number of processes.

A key stands for what the numbers belong to (a study, a film); the n-th number of a key is a hash of both, so that whole
batches are drawn at once and no generator has a state to keep.

Shape letters: K keys, C numbers a key.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

__all__ = ["mixed", "normals", "uniforms"]


def mixed(x: Tensor) -> Tensor:
    """splitmix64's finalizer (Steele et al. 2014), int64 to int64, elementwise; all shifts but the last arithmetic.

    The last is logical: an arithmetic one would clear every top bit, and a fourth of the units would never drop.

    >>> mixed(torch.tensor([1, 2])).tolist()
    [2748217288011717306, 1857867792895824164]
    """
    x = x + -7046029254386353131  # 2^64 / golden ratio
    x = (x ^ (x >> 30)) * -4658895280553007687
    x = (x ^ (x >> 27)) * -7723592293110705685
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def uniforms(keys_K: Tensor, count: int) -> Tensor:
    """Numbers in [0, 1) in steps of 2^-24, float32 (K, C).

    Args:
        keys_K: int64.
    """
    bits_KC = mixed(keys_K[:, None] + torch.arange(count, device=keys_K.device))
    return ((bits_KC >> 40) & 0xFFFFFF).float() * 2.0**-24


def normals(keys_K: Tensor, count: int) -> Tensor:
    """Standard normal numbers, one of 65,536 quantiles each, up to 4.3 deviations, float32 (K, C).

    Four of them share a hash of 64 bits and are looked up: a third of the time that NumPy's generator takes on a CPU,
    and half of what a transform of uniform numbers takes.

    Args:
        keys_K: int64.
    """
    hashes_KQ = mixed(keys_K[:, None] + torch.arange(-(-count // 4), device=keys_K.device))
    index = hashes_KQ.view(torch.int16).int() + 32768
    return _quantiles(keys_K.device).index_select(0, index.flatten()).view(len(keys_K), -1)[:, :count]


@functools.cache
def _quantiles(device: torch.device) -> Tensor:
    middles = (torch.arange(65536, dtype=torch.float64) + 0.5) / 32768 - 1
    return (torch.erfinv(middles) * 2**0.5).float().to(device, non_blocking=True)
