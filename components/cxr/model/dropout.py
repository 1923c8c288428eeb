"""Dropout whose masks depend on (seed, step, study, place) alone, so that any number of processes draws the same.

torch draws from one stream per process, in the order of the batch: two processes then drop other units than one does.
Here a mask is a hash of counters, made on the batch's device and the same whatever a study's neighbors and its padding
are. The price is measured by `python -m benchmarks.dropout`.

Shape letters: B rows of a batch with a key each, R elements before the last axis, C the last axis.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from threading import local
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from components.cxr.model.counters import mixed

__all__ = [
    "ATTENTION",
    "KeyedDropPath",
    "KeyedDropout",
    "attention",
    "dropout_keys",
    "film_keys",
    "key_dropout",
    "keyed",
    "keyed_dropout",
    "recomputed_with_keys",
]

ATTENTION = "keyed_dropout"
"""Name of the attention that transformers' encoders are built with."""


class _Keys(local):
    """Of the thread's forward; a ContextVar would break every compiled graph that reads it."""

    keys_B: Tensor | None = None


_KEYS = _Keys()
_STRIDE = 1 << 20
"""Larger than any number of tokens: a row's counter must not depend on the padding of the axis before it."""


def dropout_keys(studies: Sequence[int], *, seed: int, step: int, device: torch.device | str = "cpu") -> Tensor:
    """One int64 key per study (B,), from the index of each in its data set.

    >>> both, one = dropout_keys([4, 7], seed=0, step=3), dropout_keys([7], seed=0, step=3)
    >>> bool(both[1] == one[0])
    True
    """
    start = mixed(mixed(torch.tensor(seed)) + step)
    return mixed(start + torch.tensor(list(studies), dtype=torch.int64)).to(device, non_blocking=True)


@contextlib.contextmanager
def keyed(keys_B: Tensor | None) -> Iterator[None]:
    """Within, dropout of B rows is keyed; with None it is torch's, from the process's own stream."""
    outer_B, _KEYS.keys_B = _KEYS.keys_B, keys_B
    try:
        yield
    finally:
        _KEYS.keys_B = outer_B


def recomputed_with_keys() -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
    """For torch's gradient checkpointing: what is computed again in backward drops the units that it dropped before.

    By then the forward's own keys are gone, and torch's restored stream would drop others without an error.
    """
    return contextlib.nullcontext(), keyed(_KEYS.keys_B)


def film_keys(keys_B: Tensor | None, num_views: int) -> Tensor | None:
    """A key per film (B V,) of studies with `num_views` places for films."""
    if keys_B is None:
        return None
    return mixed(keys_B[:, None] + 1 + torch.arange(num_views, device=keys_B.device)).flatten()


class KeyedDropout(nn.Module):
    """In place of nn.Dropout (Srivastava et al. 2014); the first axis of its input is the keys'."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p, self.dropout_place = p, 0

    def forward(self, x_BRC: Tensor) -> Tensor:
        """Drop while training; the input itself otherwise."""
        return keyed_dropout(x_BRC, p=self.p, place=self.dropout_place) if self.training else x_BRC

    def extra_repr(self) -> str:
        """As nn.Dropout's."""
        return f"p={self.p}"


class KeyedDropPath(nn.Module):
    """Drops a residual branch for whole rows (stochastic depth, Huang et al. 2016), the first axis being the keys'."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p, self.dropout_place = p, 0

    def forward(self, x_BRC: Tensor) -> Tensor:
        """Drop while training; the input itself otherwise."""
        if not self.training or self.p == 0.0:
            return x_BRC
        return x_BRC * keyed_dropout(x_BRC.new_ones(len(x_BRC), 1), p=self.p, place=self.dropout_place).view(
            -1, *(1,) * (x_BRC.dim() - 1)
        )

    def extra_repr(self) -> str:
        """As nn.Dropout's."""
        return f"p={self.p}"


def key_dropout(model: nn.Module) -> None:
    """Replace every nn.Dropout and every DropPath of `model` and number the modules, as `dropout_place`."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, KeyedDropout(child.p))
            elif type(child).__name__.endswith("DropPath") and not isinstance(child, KeyedDropPath):
                setattr(module, name, KeyedDropPath(getattr(child, "drop_prob", None) or 0.0))
    for place, module in enumerate(model.modules()):
        module.dropout_place = place  # type: ignore[assignment]


def keyed_dropout(x_BRC: Tensor, *, p: float, place: int, columns_C: Tensor | None = None) -> Tensor:
    """Zero each element with probability `p` (in steps of 1/65536) and scale the others by 1 / (1 - p).

    Args:
        x_BRC: rows of keys first, or the same number of rows per key; any number of axes, at most 2^20 long each.
        place: which module of the network asks.
        columns_C: int64 numbers of the last axis's elements; their index unless given.
    """
    keys_B = _KEYS.keys_B
    if p == 0.0 or keys_B is None:
        return F.dropout(x_BRC, p)
    drop = round(p * 65536) - 32768
    if len(x_BRC) != len(keys_B):  # windows of Swin: each film's are rows of their own
        keys_B = film_keys(keys_B, len(x_BRC) // len(keys_B))
        assert keys_B is not None
    row_BR = mixed(keys_B + place)
    for size in x_BRC.shape[1:-1]:
        row_BR = row_BR[..., None] * _STRIDE + torch.arange(size, device=x_BRC.device)
    row_BR1 = mixed(row_BR)[..., None]
    if columns_C is None:  # one hash of 64 bits serves four elements, in a quarter of the time
        quarters = torch.arange(math.ceil(x_BRC.shape[-1] / 4), device=x_BRC.device)
        bits_BRC = mixed(row_BR1 + quarters).view(torch.int16)[..., : x_BRC.shape[-1]]
    else:
        bits_BRC = mixed(row_BR1 + columns_C).view(torch.int16)[..., ::4]
    return x_BRC * (bits_BRC >= drop) * (1.0 / (1.0 - p))


def attention(
    query: Tensor, key: Tensor, value: Tensor, *,
    mask: Tensor | None, p: float, place: int, scale: float | None = None, columns_K: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Scaled dot-product attention (B, heads, queries, width) with keyed dropout of its weights.

    Args:
        mask: bool, True where a query may attend to a key; broadcast to (B, heads, queries, keys).
        columns_K: a number per key that stands for it; its index unless given.
    """
    if p == 0.0 or _KEYS.keys_B is None:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=p, scale=scale)
    score = query @ key.transpose(-2, -1) * (scale if scale is not None else query.shape[-1] ** -0.5)
    if mask is not None:
        score = score.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else score + mask
    return keyed_dropout(score.softmax(dim=-1), p=p, place=place, columns_C=columns_K) @ value


def _encoder_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    dropout: float = 0.0, scaling: float | None = None, **kwargs: object,
) -> tuple[Tensor, None]:  # fmt: skip
    """transformers' own attention while nothing drops, else the keyed one."""
    if dropout == 0.0:
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, dropout=0.0, scaling=scaling, **kwargs
        )
    place = module.dropout_place
    assert isinstance(place, int)
    out = attention(query, key, value, mask=attention_mask, p=dropout, place=place, scale=scaling)
    return out.transpose(1, 2).contiguous(), None


def _encoder_mask(
    *, attention_mask: Tensor | None = None, allow_is_bidirectional_skip: bool = False, **kwargs: Any
) -> Tensor | None:
    """transformers' own, which would ask a mask whether all is attended, and a GPU's host wait for the answer."""
    skip = allow_is_bidirectional_skip and attention_mask is None
    mask: Tensor | None = sdpa_mask(attention_mask=attention_mask, allow_is_bidirectional_skip=skip, **kwargs)
    return mask


AttentionInterface.register(ATTENTION, _encoder_attention)
AttentionMaskInterface.register(ATTENTION, _encoder_mask)
