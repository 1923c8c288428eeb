"""The shape of a film's pixels, which need not be squares."""

from __future__ import annotations

from pydicom.dataset import Dataset

from components.cxr.films.numbers import numbers

__all__ = ["pixel_sides"]

_TAGS = ("PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_MOST = 8.0
"""A pixel that is longer than this many times its breadth is a mistake of the header, and is not believed."""


def pixel_sides(dataset: Dataset) -> tuple[float, float]:
    """Height and width of a pixel; the longer is 1.

    By the first usable of (0028,0034), (0028,0030), (0018,1164), (0018,2010), whose values are both vertical, then
    horizontal (PS3.3 C.7.6.3.1.7, 10.7.1.3). Squares without one.

    >>> film = Dataset()
    >>> film.PixelSpacing = [0.2, 0.1]
    >>> pixel_sides(film)
    (1.0, 0.5)
    """
    for keyword in _TAGS:
        pair = numbers(dataset, keyword)
        if len(pair) == 2 and min(pair) > 0 and max(pair) <= _MOST * min(pair):
            height, width = pair
            return (1.0, width / height) if height >= width else (height / width, 1.0)
    return 1.0, 1.0
