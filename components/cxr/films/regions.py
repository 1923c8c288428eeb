"""Which part of a film shows the patient, by shutter and collimator in the header."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

__all__ = ["outside"]

_EDGES = {
    "Shutter": (
        "ShutterUpperHorizontalEdge",
        "ShutterLowerHorizontalEdge",
        "ShutterLeftVerticalEdge",
        "ShutterRightVerticalEdge",
        "CenterOfCircularShutter",
        "RadiusOfCircularShutter",
        "VerticesOfThePolygonalShutter",
    ),
    "Collimator": (
        "CollimatorUpperHorizontalEdge",
        "CollimatorLowerHorizontalEdge",
        "CollimatorLeftVerticalEdge",
        "CollimatorRightVerticalEdge",
        "CenterOfCircularCollimator",
        "RadiusOfCircularCollimator",
        "VerticesOfThePolygonalCollimator",
    ),
}
_LEAST = 0.05
"""A region smaller than this share of the film is a mistake of the header, and is not believed."""


def outside(
    dataset: Dataset, kind: str, shape: tuple[int, int], *, sides: tuple[float, float] = (1.0, 1.0), step: int = 1
) -> npt.NDArray[np.bool_] | None:
    """Pixels outside the `Shutter` (0018,1600) or `Collimator` (0018,1700) [H, W], True outside; None without one.

    Several shapes intersect (PS3.3 C.7.6.11, C.8.7.3). Rows and columns are counted from 1, edges belong to the
    inside. A radius counts pixels along a row, whose `sides` (height, width) say how many that are along a column.
    A region that misses the film or covers less than 5 % of it is ignored. Of a film decoded at reduced resolution
    every `step`-th pixel is meant.
    """
    shapes = _texts(dataset.get(f"{kind}Shape"))
    if not shapes:
        return None
    inside = np.ones(shape, dtype=np.uint8)
    for name in shapes:
        drawn = _draw(dataset, kind, name, shape, sides)
        if drawn is not None:
            inside &= drawn
    if inside.all() or inside.mean() < _LEAST:
        return None
    hidden: npt.NDArray[np.bool_] = inside[::step, ::step] == 0
    return hidden


def _draw(
    dataset: Dataset, kind: str, name: str, shape: tuple[int, int], sides: tuple[float, float]
) -> npt.NDArray[np.uint8] | None:
    upper, lower, left, right, center, radius, vertices = (_integers(dataset.get(key)) for key in _EDGES[kind])
    drawn = np.zeros(shape, dtype=np.uint8)
    if name == "RECTANGULAR" and upper and lower and left and right:
        drawn[max(0, upper[0] - 1) : max(0, lower[0]), max(0, left[0] - 1) : max(0, right[0])] = 1
    elif name == "CIRCULAR" and len(center) == 2 and radius and 0 < radius[0] < 1 << 15:
        if sides[0] == sides[1]:
            cv2.circle(drawn, (center[1] - 1, center[0] - 1), radius[0], 1, thickness=-1)
        else:
            axes = radius[0], max(1, round(radius[0] * sides[1] / sides[0]))
            cv2.ellipse(drawn, (center[1] - 1, center[0] - 1), axes, 0, 0, 360, 1, thickness=-1)
    elif name == "POLYGONAL" and len(vertices) >= 6 and len(vertices) % 2 == 0:
        corners = np.array(vertices, dtype=np.int32).reshape(-1, 2)[:, ::-1] - 1
        cv2.fillPoly(drawn, [corners], 1)
    else:
        return None
    return drawn


def _integers(value: Any) -> list[int]:
    values: Sequence[Any] = value if isinstance(value, (list, MultiValue)) else [] if value in (None, "") else [value]
    numbers = [int(one) for one in values]
    return numbers if all(abs(number) < 1 << 20 for number in numbers) else []


def _texts(value: Any) -> list[str]:
    values: Sequence[Any] = value if isinstance(value, (list, MultiValue)) else [value]
    return [str(one).strip().upper() for one in values if one]
