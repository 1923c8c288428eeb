"""A heatmap as the server gives it, edge to edge over the film that was sent: numbers, or a picture to lay over it."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from components.cxr.films.resample import in_the_middle, shape_within

__all__ = ["FULL", "Heatmap", "overlay", "spread_over"]

FULL = 0.3
"""Log-odds per hundredth of a film's square that get the full color: on most films no point has more. One scale for
all, so that a film of which there is little to say looks like it."""
_FOR_BGR, _AGAINST_BGR = np.array([[40, 90, 255], [255, 150, 40]], np.uint8)
_MOST_ALPHA = 200
_FAINTEST = 0.15
"""Of the full color; below it there is none, as slight evidence is everywhere."""


class Heatmap(NamedTuple):
    """Where one film's patches speak for a pathology or against it."""

    film: int
    """From 1."""
    pathology: str
    map_HW: npt.NDArray[np.float32]
    """Log-odds per hundredth of the film's square, from its upper left corner to its lower right one."""
    log_odds: float
    """What all of them together add to the study's answer, beyond what films of its view add usually."""


def spread_over(map_SS: npt.NDArray[np.float64], *, extent: tuple[float, float], size: int) -> npt.NDArray[np.float32]:
    """A map of the square that the model sees, on the film alone, its longer side `size`.

    Args:
        map_SS: log-odds per point.
        extent: the film's height and width, in any unit; it lies in the middle of the square.
    """
    dense_SS = map_SS * (map_SS.size / 100)
    square_HW = cv2.resize(dense_SS, (size, size), interpolation=cv2.INTER_LINEAR)
    film = in_the_middle(shape_within(extent, size=size), size=size)
    return np.ascontiguousarray(square_HW[film], dtype=np.float32)


def overlay(map_HW: npt.NDArray[np.float32]) -> bytes:
    """An RGBA PNG: orange for, blue against, and the stronger the less one sees through it."""
    strength_HW = np.clip(np.abs(map_HW) / FULL, 0.0, 1.0)
    strength_HW[strength_HW < _FAINTEST] = 0.0
    colors_HW3 = np.where(map_HW[:, :, None] > 0, _FOR_BGR, _AGAINST_BGR)
    alpha_HW = np.rint(_MOST_ALPHA * strength_HW).astype(np.uint8)
    written, data = cv2.imencode(".png", np.dstack([colors_HW3, alpha_HW]))
    assert written
    return bytes(data.tobytes())
