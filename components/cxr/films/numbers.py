"""Numbers of a header, whatever stands there."""

from __future__ import annotations

import math

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

__all__ = ["numbers"]


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """The values of a numeric tag; none when it is absent, empty, or when one is no number or not finite.

    >>> film = Dataset()
    >>> film.WindowWidth = ["400", "800"]
    >>> numbers(film, "WindowWidth")
    [400.0, 800.0]
    >>> numbers(film, "WindowCenter")
    []
    """
    try:
        value = dataset.get(keyword)
        found = [float(one) for one in (value if isinstance(value, (list, MultiValue)) else [value])]
    except Exception:  # pydicom converts lazily and raises what it met
        return []
    return found if all(map(math.isfinite, found)) else []
