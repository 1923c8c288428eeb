"""Pictures that are no chest films, made of films and of chance, for the film check to learn from.

Shape letters: N films, H and W pixels, alike.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["foreign_pictures"]

Films = npt.NDArray[np.uint8]

MOST_OF_A_KIND = 1_500


def foreign_pictures(films_NHW: Films, *, seed: int) -> Films:
    """Films turned, upside down and inverted; films cut into pieces or blown up; random fields, ramps,
    objects and shapes."""
    rng = np.random.default_rng(seed)
    number = min(len(films_NHW), MOST_OF_A_KIND)
    chosen_NHW = films_NHW[rng.permutation(len(films_NHW))[:number]]
    size = films_NHW.shape[1]
    kinds = (
        *turned(films_NHW).values(),
        np.stack([_in_pieces(film, rng) for film in chosen_NHW]),
        np.stack([_blown_up(film, rng) for film in chosen_NHW]),
        np.stack([_random_field(size, rng) for _ in range(number)]),
        np.stack([_ramp(size, rng) for _ in range(number)]),
        np.stack([_object(size, rng) for _ in range(number)]),
        np.stack([_polygons(size, rng) for _ in range(number)]),
    )
    return np.concatenate(kinds)


def turned(films_NHW: Films) -> dict[str, Films]:
    """The films as they are delivered by mistake; a mirrored one is not among them: it is a chest film."""
    return {
        "turned left": np.rot90(films_NHW, 1, (1, 2)),
        "turned right": np.rot90(films_NHW, 3, (1, 2)),
        "upside down": films_NHW[:, ::-1],
        "turned by 180 degrees": films_NHW[:, ::-1, ::-1],
        "inverted": 255 - films_NHW,
        "inverted within black borders": np.where(films_NHW == 0, 0, 255 - films_NHW).astype(np.uint8),
    }


def _in_pieces(film_HW: Films, rng: np.random.Generator) -> Films:
    """2 x 2 or 4 x 4 pieces of a film in another order."""
    number = int(rng.choice([2, 4]))
    side = len(film_HW) // number
    even = film_HW[: number * side, : number * side]
    pieces = even.reshape(number, side, number, side).swapaxes(1, 2).reshape(-1, side, side)
    mixed = pieces[rng.permutation(len(pieces))].reshape(number, number, side, side).swapaxes(1, 2)
    return _resized(mixed.reshape(number * side, number * side), len(film_HW))


def _blown_up(film_HW: Films, rng: np.random.Generator) -> Films:
    """A part of a film, a sixteenth to a quarter of it."""
    size = len(film_HW)
    side = int(rng.integers(size // 4, size // 2))
    row, column = rng.integers(0, size - side, 2)
    return _resized(film_HW[row : row + side, column : column + side], size)


def _random_field(size: int, rng: np.random.Generator) -> Films:
    """Gray noise whose power falls with frequency, from white noise to clouds; photographs lie between (Field 1987)."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1.0
    noise = rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)
    return _stretched(np.fft.irfft2(noise / frequency ** rng.uniform(0, 3), s=(size, size)), share=0.01)


def _ramp(size: int, rng: np.random.Generator) -> Films:
    """A straight or a curved change from dark to bright."""
    angle, power = rng.uniform(0, 2 * np.pi), np.exp(rng.normal())
    y, x = np.mgrid[:size, :size] / size - rng.uniform(0.2, 0.8)
    along = x * np.cos(angle) + y * np.sin(angle) if rng.random() < 0.5 else np.hypot(x, y) * rng.choice([-1.0, 1.0])
    along -= along.min()
    return _stretched((along / along.max()) ** power, share=0.0)


def _object(size: int, rng: np.random.Generator) -> Films:
    """A random field or a ramp within an ellipse, on one gray, which is black or white more often than not."""
    inside = _random_field(size, rng) if rng.random() < 0.7 else _ramp(size, rng)
    ground = int(rng.choice(np.array([0, 0, 255, rng.integers(0, 256)])))
    mask = np.zeros((size, size), np.uint8)
    middle, axes = rng.integers(size // 3, size - size // 3, 2), rng.integers(size // 6, size // 2, 2)
    cv2.ellipse(mask, middle.tolist(), axes.tolist(), float(rng.uniform(0, 180)), 0, 360, 1, -1)
    return np.where(mask == 1, inside, ground).astype(np.uint8)


def _polygons(size: int, rng: np.random.Generator) -> Films:
    """One to five polygons of one gray each, or ellipses."""
    picture = np.full((size, size), int(rng.integers(0, 256)), np.uint8)
    for _ in range(int(rng.integers(1, 6))):
        gray = int(rng.integers(0, 256))
        if rng.random() < 0.5:
            points = rng.integers(0, size, (int(rng.integers(3, 7)), 2)).astype(np.int32)
            cv2.fillPoly(picture, [points], gray)
        else:
            middle, axes = rng.integers(0, size, 2), rng.integers(size // 16, size // 2, 2)
            cv2.ellipse(picture, middle.tolist(), axes.tolist(), float(rng.uniform(0, 180)), 0, 360, gray, -1)
    return picture


def _stretched(values: npt.NDArray[np.float64], *, share: float) -> Films:
    """To 0 to 255, `share` of the pixels clipped at each end."""
    low, high = np.quantile(values, (share, 1 - share))
    gray = np.clip((values - low) / max(high - low, 1e-9) * 255, 0, 255)
    return np.asarray(gray, dtype=np.uint8)


def _resized(picture_HW: Films, size: int) -> Films:
    return np.asarray(cv2.resize(picture_HW, (size, size), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
