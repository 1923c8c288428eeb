"""Draws shapes given in body coordinates onto float layers of a film."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import TypeVar, cast

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["Canvas", "Layer", "Points", "Stack", "closed", "curve", "curves", "tube", "tubes"]

Layer = npt.NDArray[np.float32]
"""(rows, columns) float32."""
Points = npt.NDArray[np.float64]
"""(n, 2) float64 in body coordinates: x from the midline to the right of the film, y downward; 1 is the long side."""
Stack = npt.NDArray[np.float64]
"""(lines, points, 2) float64 in body coordinates."""

Pixels = TypeVar("Pixels", Layer, npt.NDArray[np.uint8])

_SHIFT = 4
"""Fractional bits of OpenCV's polygon corners."""


class Canvas:
    """A film's pixel grid and the rigid motion that takes the body onto it."""

    def __init__(
        self,
        rows: int,
        columns: int,
        *,
        zoom: float = 1.0,
        degrees: float = 0.0,
        shift: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.rows, self.columns = rows, columns
        self.scale = max(rows, columns) * zoom
        angle = np.deg2rad(degrees)
        self._turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        self._coarse: dict[int, tuple[Layer, Layer]] = {}
        self._center = np.array([columns / 2 + shift[0] * self.scale, rows / 2 + shift[1] * self.scale])

    def to_pixels(self, points: Points) -> Points:
        """Take body points to (column, row)."""
        return np.asarray((points - (0.0, 0.5)) @ self._turn.T * self.scale + self._center)

    @cached_property
    def grid(self) -> tuple[Layer, Layer]:
        """Body coordinates (x, y) of every pixel."""
        return self._grid(1)

    def _grid(self, factor: int) -> tuple[Layer, Layer]:
        columns = np.arange(-(-self.columns // factor), dtype=np.float32) * factor + np.float32((factor - 1) / 2)
        rows = np.arange(-(-self.rows // factor), dtype=np.float32) * factor + np.float32((factor - 1) / 2)
        column, row = columns[None, :] - np.float32(self._center[0]), rows[:, None] - np.float32(self._center[1])
        turn = (self._turn / self.scale).astype(np.float32)
        return turn[0, 0] * column + turn[1, 0] * row, turn[0, 1] * column + turn[1, 1] * row + np.float32(0.5)

    def smooth(self, function: Callable[[Layer, Layer], Layer], detail: float) -> Layer:
        """Evaluate a function of body coordinates on as coarse a grid as its finest `detail` allows."""
        factor = int(min(8, max(1, detail * self.scale // 2)))
        if factor == 1:
            return function(*self.grid)
        coarse = self._coarse.get(factor)
        if coarse is None:
            coarse = self._coarse[factor] = self._grid(factor)
        return self._enlarge(function(*coarse), factor)

    def _enlarge(self, small: Pixels, factor: int) -> Pixels:
        """Undo a reduction by `factor`; the last block may overhang the film."""
        large = cv2.resize(small, (small.shape[1] * factor, small.shape[0] * factor), interpolation=cv2.INTER_LINEAR)
        return cast(Pixels, large[: self.rows, : self.columns])

    def fill(
        self, polygons: Sequence[Points] | Stack, *, levels: Sequence[float] | None = None, blur: float = 0.0
    ) -> Layer:
        """Fill polygons with `levels` in [0, 1] (default 1), later over earlier; `blur` is a sigma in body units.

        What is blurred anyway is drawn on a smaller grid.
        """
        sigma = blur * self.scale
        factor = int(min(8, max(1, sigma // 0.75)))
        image = np.zeros((-(-self.rows // factor), -(-self.columns // factor)), dtype=np.uint8)
        ends = np.cumsum([len(polygon) for polygon in polygons])
        pixels = (self.to_pixels(np.concatenate(list(polygons))) - (factor - 1) / 2) / factor
        fixed = np.round(pixels * (1 << _SHIFT)).astype(np.int32)
        start = 0
        for number, end in enumerate(ends):
            level = 255 if levels is None else round(255 * levels[number])
            cv2.fillPoly(image, [fixed[start:end]], (level,), cv2.LINE_AA, _SHIFT)
            start = end
        if sigma / factor >= 0.3:
            _blur_within(image, pixels, sigma / factor)
        layer = image if factor == 1 else self._enlarge(image, factor)
        return np.asarray(layer.astype(np.float32) * np.float32(1 / 255))

    def soften(self, layer: Layer, sigma: float) -> Layer:
        """Gaussian blur with `sigma` in body units; wide ones are done on a smaller copy."""
        pixels = sigma * self.scale
        factor = int(min(16, max(1, pixels // 1.5)))
        if factor == 1:
            return np.asarray(cv2.GaussianBlur(layer, (0, 0), pixels), dtype=np.float32)
        rows, columns = -(-self.rows // factor), -(-self.columns // factor)
        padded = cv2.copyMakeBorder(
            layer, 0, rows * factor - self.rows, 0, columns * factor - self.columns, cv2.BORDER_REPLICATE
        )
        small = cv2.resize(padded, (columns, rows), interpolation=cv2.INTER_AREA)
        return self._enlarge(cv2.GaussianBlur(small, (0, 0), pixels / factor), factor)

    def cloud(self, rng: np.random.Generator, cell: float) -> Layer:
        """Smooth noise with standard scores and patches of about `cell` body units, fixed to the body."""
        num = max(4, int(np.ceil(1.6 / cell)))
        field = rng.standard_normal(size=(num, num), dtype=np.float32)
        spread = np.float32(num / 1.6)

        def sample(x: Layer, y: Layer) -> Layer:
            columns, rows = (x + np.float32(0.8)) * spread, (y + np.float32(0.3)) * spread
            return np.asarray(cv2.remap(field, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT))

        return self.smooth(sample, 0.75 * cell)

    def blob(self, x: float, y: float, width: float, height: float, *, degrees: float = 0.0) -> Layer:
        """A Gaussian bump of peak 1 with the given sigmas."""
        angle = np.deg2rad(degrees)
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))

        def bump(grid_x: Layer, grid_y: Layer) -> Layer:
            dx, dy = grid_x - np.float32(x), grid_y - np.float32(y)
            along, across = (cos * dx + sin * dy) / np.float32(width), (cos * dy - sin * dx) / np.float32(height)
            return np.asarray(cv2.exp(-(along * along + across * across) / 2), dtype=np.float32)

        return self.smooth(bump, min(width, height))


def _blur_within(image: npt.NDArray[np.uint8], pixels: Points, sigma: float) -> None:
    """Blur the part of `image` that holds the points, in place."""
    margin = int(4 * sigma) + 2
    left, top = np.clip(pixels.min(axis=0) - margin, 0, None).astype(int)
    right, bottom = np.clip(pixels.max(axis=0) + margin + 1, 0, None).astype(int)
    part = image[top:bottom, left:right]
    if part.size:
        image[top:bottom, left:right] = cv2.GaussianBlur(part, (0, 0), sigma)


def curve(points: Sequence[tuple[float, float]] | Points, *, num: int = 8) -> Points:
    """A Catmull-Rom curve through the points, `num` samples a segment."""
    return np.asarray(curves(np.asarray(points, dtype=np.float64)[None], num=num)[0])


def curves(points: Stack, *, num: int = 8) -> Stack:
    """Many curves at once, all through equally many points."""
    return np.asarray(_spline(points.shape[1], num) @ points)


@lru_cache(maxsize=64)
def _spline(num_points: int, num: int) -> npt.NDArray[np.float64]:
    """The matrix that takes control points to samples, the ends continued in a straight line."""
    p = np.eye(num_points)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = (np.arange(num) / num)[:, None]
    a, b, c, d = (p[i : num_points - 1 + i, None, :] for i in range(4))
    samples = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.concatenate([samples.reshape(-1, num_points), np.eye(num_points)[-1:]])


def closed(points: Sequence[tuple[float, float]], *, num: int = 8) -> Points:
    """A smooth closed curve through the points."""
    ring = [*points[-2:], *points, *points[:2]]
    return curve(ring, num=num)[2 * num : -2 * num]


def tube(points: Points, width: float | npt.NDArray[np.float64]) -> Points:
    """The outline of a line of the given width (one number, or one a point)."""
    return np.asarray(tubes(points[None], width)[0])


def tubes(points: Stack, width: float | npt.NDArray[np.float64]) -> Stack:
    """Many outlines at once; `width` is one number, (points,) or (lines, points)."""
    step = np.empty_like(points)
    step[:, 1:-1] = points[:, 2:] - points[:, :-2]
    step[:, 0], step[:, -1] = points[:, 1] - points[:, 0], points[:, -1] - points[:, -2]
    length = np.sqrt((step**2).sum(axis=-1)) + 1e-12
    half = np.stack([-step[..., 1], step[..., 0]], axis=-1) * (np.asarray(width) / (2 * length))[..., None]
    return np.concatenate([points + half, (points - half)[:, ::-1]], axis=1)
