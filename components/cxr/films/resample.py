"""Exact resampling of a film to few pixels, in cache-sized pieces of integer arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["EXACT_FLOAT32", "in_the_middle", "resample", "shape_within", "weight_of"]

Integers = npt.NDArray[np.unsignedinteger[Any]]
Rows = Callable[[int, int], Integers]

EXACT_FLOAT32 = 1 << 24
"""float32 holds every integer up to here, so sums below it come out the same on every machine and in every order."""

_PRODUCTS = 1 << 18
"""Multiplications a matrix product may have before BLAS starts threads: workers bring their own parallelism."""


class _Piece(NamedTuple):
    """Some consecutive outputs as a matrix over the consecutive inputs that they need."""

    start: int
    stop: int
    first: int
    last: int
    weights: npt.NDArray[np.float64]
    """(stop - start) x (last - first), integers; every row sums to the axis' weight."""


def shape_within(extent: tuple[float, float], *, size: int) -> tuple[int, int]:
    """Rows and columns of an image of this height and width, in any unit, that just fits into size x size.

    >>> shape_within((3000, 2400), size=100)
    (100, 80)
    """
    scale = size / max(extent)
    return max(1, round(extent[0] * scale)), max(1, round(extent[1] * scale))


def in_the_middle(shape: tuple[int, int], *, size: int) -> tuple[slice, slice]:
    """Where an image of so many rows and columns lies in a square of size x size."""
    top, left = (size - shape[0]) // 2, (size - shape[1]) // 2
    return slice(top, top + shape[0]), slice(left, left + shape[1])


def weight_of(num_inputs: int, num_outputs: int) -> int:
    """What the weights of one output sum to along an axis."""
    if num_inputs == num_outputs:
        return 1
    return num_inputs if num_outputs < num_inputs else 2 * num_outputs


def resample(rows: Rows, shape: tuple[int, int], target: tuple[int, int], *, most: int) -> npt.NDArray[np.float64]:
    """Resample an image [H, W] to [h, w]: by area where an axis shrinks, linearly where it grows.

    An output pixel of a shrinking axis covers H / h inputs; in units of 1/h every overlap is an integer, and so
    are all sums here. The result is the exact mean rounded once to float64.

    Args:
        rows: (first, last) -> the image's rows [first, last) as unsigned integers, at most `most`.
    """
    (height, width), (num_rows, num_columns) = shape, target
    vertical, horizontal = weight_of(height, num_rows), weight_of(width, num_columns)
    dtype = np.float32 if most * vertical < EXACT_FLOAT32 else np.float64
    tall = np.empty((num_rows, width), dtype=dtype)
    for piece in _pieces(height, num_rows, width):
        strip = rows(piece.first, piece.last).astype(dtype)
        np.matmul(piece.weights.astype(dtype), strip, out=tall[piece.start : piece.stop])
    sums = np.empty((num_rows, num_columns), dtype=np.float64)
    tall64 = tall.astype(np.float64, copy=False)
    for piece in _pieces(width, num_columns, num_rows):
        sums[:, piece.start : piece.stop] = tall64[:, piece.first : piece.last] @ piece.weights.T
    return sums / (vertical * horizontal)


@lru_cache(maxsize=64)
def _pieces(num_inputs: int, num_outputs: int, breadth: int) -> tuple[_Piece, ...]:
    """The axis' matrix cut along its diagonal; `breadth` is the length of the other axis."""
    each = max(1, int(math.sqrt(_PRODUCTS / (breadth * max(1.0, num_inputs / num_outputs)))))
    make = _area if num_outputs < num_inputs else _linear
    pieces = []
    for start in range(0, num_outputs, each):
        stop = min(start + each, num_outputs)
        pieces.append(make(num_inputs, num_outputs, start, stop))
    return tuple(pieces)


def _area(num_inputs: int, num_outputs: int, start: int, stop: int) -> _Piece:
    """Overlap of output o, [o * N, (o + 1) * N), with input i, [i * n, (i + 1) * n)."""
    first, last = start * num_inputs // num_outputs, -(-stop * num_inputs // num_outputs)
    o, i = np.arange(start, stop)[:, None], np.arange(first, last)[None]
    overlap = np.minimum((o + 1) * num_inputs, (i + 1) * num_outputs) - np.maximum(o * num_inputs, i * num_outputs)
    return _Piece(start, stop, first, last, np.maximum(overlap, 0).astype(np.float64))


def _linear(num_inputs: int, num_outputs: int, start: int, stop: int) -> _Piece:
    """Centers of output o lie at ((2 o + 1) N - n) / 2 n between those of the inputs; edges are repeated."""
    if num_inputs == num_outputs:
        return _Piece(start, stop, start, stop, np.eye(stop - start))
    unit = 2 * num_outputs
    place = (2 * np.arange(start, stop) + 1) * num_inputs - num_outputs
    below, share = place // unit, place % unit
    low, high = np.clip(below, 0, num_inputs - 1), np.clip(below + 1, 0, num_inputs - 1)
    first, last = int(low.min()), int(high.max()) + 1
    weights = np.zeros((stop - start, last - first))
    o = np.arange(stop - start)
    np.add.at(weights, (o, low - first), unit - share)
    np.add.at(weights, (o, high - first), share)
    return _Piece(start, stop, first, last, weights)
