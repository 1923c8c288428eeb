"""Whether a picture is a chest film as those that a model was trained on; evaluate fits it, serve asks it.

Shape letters: N films, D pixels of a small picture, K principal axes, F features.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from components.cxr.errors import UserError
from components.cxr.storage.storage import Storage

__all__ = [
    "FILM_CHECK", "FilmAxes", "FilmCheck", "FilmCounts",
    "are_chest_films", "in_distribution", "is_chest_film", "load_film_check",
]  # fmt: skip

FILM_CHECK = "film_check.safetensors"
SCHEMA_VERSION = 1
SIDE = 32
"""Of the small picture that is looked at."""
FAR = 20.0
"""Standard deviations beyond which further makes no difference."""
_FLAT = 0.02
"""Added to a picture's standard deviation, in shares of the gray range: a flat picture has none."""

Films = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


class FilmCounts(NamedTuple):
    """How often the check refused true films."""

    films: int
    refused: int


@dataclass(frozen=True, kw_only=True)
class FilmAxes:
    """The principal axes of chest films as small standardized pictures."""

    mean_D: Floats
    axis_KD: Floats
    """Orthonormal."""
    scale_K: Floats
    """Standard deviation of the training films along each."""

    def features(self, films_NHW: Films | Sequence[Films]) -> Floats:
        """(N, 2 K + 2): place along each axis, its square, and the logarithms of the distances within and without."""
        offset_ND = standardized(films_NHW) - self.mean_D
        place_NK = offset_ND @ self.axis_KD.T
        without_N = np.maximum((offset_ND**2).sum(axis=1) - (place_NK**2).sum(axis=1), 1e-6)
        place_NK = place_NK / self.scale_K
        within_N = np.maximum((place_NK**2).mean(axis=1), 1e-6)
        parts = (place_NK, place_NK**2, np.log(without_N)[:, None], np.log(within_N)[:, None])
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True, kw_only=True)
class FilmCheck:
    """A linear score of `FilmAxes.features`; `is_chest_film` says which are refused."""

    axes: FilmAxes
    center_F: Floats
    spread_F: Floats
    weight_F: Floats
    intercept: float
    validation: FilmCounts
    """The films by which the intercept was chosen."""
    test: FilmCounts

    def score(self, films_NHW: Films | Sequence[Films]) -> Floats:
        """How much each film (N, H, W), uint8, looks unlike a chest film, (N,): a log-odds with the limit at 0."""
        if not len(films_NHW):
            return np.zeros(0)
        features_NF = (self.axes.features(films_NHW) - self.center_F) / self.spread_F
        return np.asarray(np.clip(features_NF, -FAR, FAR) @ self.weight_F + self.intercept)

    def save(self) -> bytes:
        """The bytes of `film_check.safetensors`."""
        arrays = {**asdict(self), **asdict(self.axes), "schema_version": SCHEMA_VERSION}
        del arrays["axes"]
        # safetensors writes an array's memory as it lies there, whatever its order
        return bytes(safetensors.numpy.save({name: np.ascontiguousarray(value) for name, value in arrays.items()}))


def is_chest_film(score: float) -> bool:
    """Whether a film with this score is taken for a chest film."""
    return score <= 0


def are_chest_films(scores: Iterable[float]) -> bool | None:
    """Whether all films with these scores are; None without any."""
    found = [is_chest_film(score) for score in scores]
    return all(found) if found else None


def in_distribution(check: FilmCheck | None, films_NHW: Films | Sequence[Films]) -> bool | None:
    """Whether every film of a study (N, H, W), uint8, is taken for a chest film; None without films or a check."""
    return are_chest_films(() if check is None else check.score(films_NHW).tolist())


def standardized(films_NHW: Films | Sequence[Films]) -> Floats:
    """Small pictures (N, D) with mean 0 and standard deviation 1: neither brightness nor contrast counts."""
    small = [cv2.resize(np.ascontiguousarray(film), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for film in films_NHW]
    values_ND = np.stack(small).reshape(len(small), -1) / 255.0
    values_ND -= values_ND.mean(axis=1, keepdims=True)
    return np.asarray(values_ND / (values_ND.std(axis=1, keepdims=True) + _FLAT))


def load_film_check(storage: Storage) -> FilmCheck | None:
    """Read the check in an evaluation's or a deployed bundle's folder; None where too few films were there for one.

    Raises:
        UserError: a damaged file or another schema version.
    """
    where = f"{storage.uri}/{FILM_CHECK}"
    try:
        arrays = safetensors.numpy.load(storage.read(FILM_CHECK).data)
    except FileNotFoundError:
        return None
    except SafetensorError as error:
        raise UserError("bad-film-check", "damaged film check", where=where, found=str(error)) from None
    version = int(arrays.pop("schema_version", np.zeros(1)).item())
    if version != SCHEMA_VERSION:
        raise UserError(
            "other-schema",
            "film check of another version",
            where=where,
            found=version,
            expected=SCHEMA_VERSION,
            remedy="Run evaluate again.",
        )
    axes = FilmAxes(**{field.name: arrays[field.name] for field in fields(FilmAxes)})
    return FilmCheck(
        axes=axes,
        center_F=arrays["center_F"],
        spread_F=arrays["spread_F"],
        weight_F=arrays["weight_F"],
        intercept=float(arrays["intercept"].item()),
        validation=FilmCounts(*arrays["validation"].tolist()),
        test=FilmCounts(*arrays["test"].tolist()),
    )
