"""Fits the check that tells chest films from other pictures: on training films, with its limit from validation.

A logistic regression between films and foreign pictures, on where they lie along the principal axes of films and how
far from them. `python -m benchmarks.foreign_pictures` compares it with other ways.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from components.cxr.film_check import FAR, FilmAxes, FilmCheck, FilmCounts, standardized
from components.cxr.model.dataset import StudyDataset
from components.cxr.shards import LoadedManifest
from components.cxr.text.text import TextConfig
from components.evaluate.foreign_pictures import foreign_pictures

__all__ = ["film_check", "fit_axes", "fit_film_check", "some_films"]

Films = npt.NDArray[np.uint8]

LEAST_FILMS, MOST_FILMS = 200, 2_000
"""Of training: with fewer there is no check, and of more that many are taken."""
LEAST_VALIDATION = 50
REFUSED_SHARE = 0.01
"""Of the validation films, at most: it sets the limit."""
MOST_AXES, FILMS_PER_AXIS = 64, 8
"""An axis is a mean over films with weights; several films for each, so that none shows a film."""
MOST_SIDE = 64
"""In pixels of the films that foreign pictures are made of."""
SEED = 0
_PENALTY = 1e-3
"""Inverse strength of the regression's L2 penalty (scikit-learn's C)."""


def film_check(manifest: LoadedManifest) -> FilmCheck | None:
    """The check for a data set's films; None with fewer than 200 films for training or 50 for validation."""
    train_NHW, validate_NHW, test_NHW = (
        some_films(StudyDataset(manifest, splits=[split], text=TextConfig()), most=MOST_FILMS)
        for split in ("train", "validate", "test")
    )
    if len(train_NHW) < LEAST_FILMS or len(validate_NHW) < LEAST_VALIDATION:
        return None
    return fit_film_check(train_NHW, validate_NHW, test_NHW)


def fit_film_check(train_NHW: Films, validate_NHW: Films, test_NHW: Films) -> FilmCheck:
    """Fit on three quarters of the training films and foreign pictures made of them.

    The limit refuses 1 % of the validation films and the other quarter together: with validation alone, a hundred films
    or two, it would be the place of one or two films.
    """
    fitted_NHW, aside_NHW = np.split(train_NHW, [len(train_NHW) - len(train_NHW) // 4])
    axes = fit_axes(fitted_NHW)
    films_NF = axes.features(fitted_NHW)
    foreign_NF = axes.features(foreign_pictures(fitted_NHW, seed=SEED))
    center_F, spread_F = films_NF.mean(axis=0), films_NF.std(axis=0) + 1e-9
    features_NF = np.clip((np.concatenate([films_NF, foreign_NF]) - center_F) / spread_F, -FAR, FAR)
    foreign_N = np.repeat([False, True], [len(films_NF), len(foreign_NF)])
    regression = LogisticRegression(C=_PENALTY, class_weight="balanced", max_iter=1_000).fit(features_NF, foreign_N)
    nobody = FilmCounts(0, 0)
    check = FilmCheck(
        axes=axes, center_F=center_F, spread_F=spread_F, weight_F=regression.coef_[0], intercept=0.0,
        validation=nobody, test=nobody,
    )  # fmt: skip
    held_out_N = check.score(np.concatenate([validate_NHW, aside_NHW]))
    check = replace(check, intercept=-float(np.quantile(held_out_N, 1 - REFUSED_SHARE, method="higher")))
    validation, test = (
        FilmCounts(len(films), int((check.score(films) > 0).sum())) for films in (validate_NHW, test_NHW)
    )
    return replace(check, validation=validation, test=test)


def fit_axes(films_NHW: Films) -> FilmAxes:
    """Principal axes of the films' small pictures, at most one per eight films."""
    number = max(1, min(MOST_AXES, len(films_NHW) // FILMS_PER_AXIS))
    found = PCA(number, svd_solver="randomized", random_state=SEED).fit(standardized(films_NHW))
    return FilmAxes(
        mean_D=found.mean_, axis_KD=found.components_, scale_K=np.sqrt(np.maximum(found.explained_variance_, 1e-12))
    )


def some_films(studies: StudyDataset, *, most: int) -> Films:
    """About `most` films at most (N, H, W), of studies that lie evenly among the data set's; larger ones shrunk."""
    per_study = max(1.0, studies.first_film_S[-1] / max(1, len(studies)))
    places = np.linspace(0, len(studies) - 1, min(len(studies), round(most / per_study))).round().astype(int)
    side = min(studies.size, MOST_SIDE)
    films = [_shrunk(film, side) for place in places for film in studies[int(place)].films]
    return np.stack(films) if films else np.zeros((0, side, side), np.uint8)


def _shrunk(film_HW: Films, side: int) -> Films:
    return np.asarray(cv2.resize(np.ascontiguousarray(film_HW), (side, side), interpolation=cv2.INTER_AREA))
