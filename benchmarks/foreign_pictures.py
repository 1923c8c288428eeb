"""`python -m benchmarks.foreign_pictures`: do servers notice pictures that are no chest films, and whom does it cost?

Takes the data sets and models of finished runs; of their own films and others' pictures it counts what each way of
telling them apart refuses. `cxrflow` is the check that evaluate seals into every model, with its own limit. The others,
with a limit where 1 % of the validation films are refused, are what is usually tried: the distance of the network's
features from those of training films (Mahalanobis; Lee et al. 2018), the energy of its logits (Wang et al. 2021), and
the likelihood of the pixels under their principal axes (Tipping and Bishop 1999).

Photographs are those that matplotlib, scikit-image and scikit-learn carry; CT, MR, ultrasound and other DICOMs are
pydicom's test files. None of them, and no circle or rectangle, was there to learn from; turned and inverted films were.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
import typer
from pydicom.data import get_testdata_files
from scipy.stats import binomtest
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA

from components.cxr.bundle import Bundle, load_bundle
from components.cxr.cli import run_cli
from components.cxr.film_check import standardized
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.films.pixels import FilmError, read_film
from components.cxr.model.batch import Batch, Study, collate
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.network import positive_score
from components.cxr.shards import SPLITS, load_manifest
from components.cxr.storage.pointers import read_pointer
from components.cxr.storage.storage import Root, open_storage
from components.cxr.text.text import TextConfig
from components.evaluate.film_check import MOST_AXES, MOST_FILMS, REFUSED_SHARE, fit_film_check, some_films
from components.evaluate.foreign_pictures import turned

__all__ = ["foreign_sets", "pydicom_films"]

Films = npt.NDArray[np.uint8]
Score = Callable[[Films], npt.NDArray[np.float64]]
"""Films (N, H, W) to how foreign each is (N,)."""

CHEST = ("RG1",)
"""pydicom's test files that are chest films begin so."""
DRAWN = 200


class Split(NamedTuple):
    """Films of one data set (N, H, W)."""

    train: Films
    validate: Films
    test: Films


def main(
    root: Annotated[list[str] | None, typer.Option(help="Root of a finished run; runs/demo by default.")] = None,
) -> None:
    """Print the table of every root and one line of JSON."""
    torch.set_num_threads(1)
    found = {}
    for each in root or ["runs/demo"]:
        where = Root(each)
        manifest = load_manifest(open_storage(read_pointer(where, "manifest", made_by="preprocess")))
        bundle = load_bundle(open_storage(read_pointer(where, "bundle", made_by="train")))
        refused, number = true_films_refused(StudyDataset(manifest, splits=SPLITS, text=TextConfig()))
        films = Split(
            *(
                some_films(StudyDataset(manifest, splits=[split], text=TextConfig()), most=MOST_FILMS)
                for split in ("train", "validate", "test")
            )
        )
        if films.train.shape[1] != bundle.info.pixel_preset.size:
            raise SystemExit(f"{each}: for films of at most 64 pixels")
        found[Path(each).name] = report(each, films, bundle)
        found[Path(each).name]["true_refused_folds"] = round(refused / number, 4)
        print(f"films of all splits in five folds of patients: {number}, refused {_with_interval(refused, number)}")
    print(json.dumps(found))


def report(name: str, films: Split, bundle: Bundle) -> dict[str, float]:
    """Print one table; returns the shares of the check that is sealed into models."""
    scores: dict[str, Score] = {
        "cxrflow": fit_film_check(*films).score,
        "features": _features(bundle, films.train),
        "energy": lambda some: -np.logaddexp(0, _scores(bundle, some)).sum(axis=1),
        "pixels": _likelihood(films.train),
    }
    sets = foreign_sets(films.test)
    print(f"\n{name}: {len(films.train)} films to learn from, {len(films.validate)} for the limit")
    print(f"{'share refused':<31}{'pictures':>9}" + "".join(f"{way:>22}" for way in scores))
    limits = {way: 0.0 if way == "cxrflow" else limit_of(score, films.validate) for way, score in scores.items()}
    everything = {"test films": films.test, **sets}
    counts = {
        way: {kind: int((score(pictures) > limits[way]).sum()) for kind, pictures in everything.items()}
        for way, score in scores.items()
    }
    for kind, pictures in everything.items():
        cells = [f"{_with_interval(found[kind], len(pictures)):>22}" for found in counts.values()]
        print(f"{kind:<31}{len(pictures):>9}" + "".join(cells))
    own = counts["cxrflow"]
    total = sum(map(len, sets.values())) - len(sets["mirrored"])
    refused = sum(own[kind] for kind in sets if kind != "mirrored")
    return {
        "true_refused": round(own["test films"] / len(films.test), 4),
        "foreign_refused": round(refused / total, 4),
        "foreign_refused_least": round(
            min(own[kind] / len(some) for kind, some in sets.items() if kind != "mirrored"), 4
        ),
    }


def true_films_refused(studies: StudyDataset, *, num_folds: int = 5) -> tuple[int, int]:
    """How many true films are refused by a check that has seen nobody of their fold, and how many there are."""
    count_S = np.diff(studies.first_film_S)
    patient_N = np.repeat(np.unique(studies.patient_ids, return_inverse=True)[1], count_S)
    films_NHW = np.stack([film for study in studies for film in study.films])
    fold_N = np.random.default_rng(0).permutation(patient_N.max() + 1)[patient_N] % num_folds
    refused = 0
    for fold in range(num_folds):
        test_N, validate_N = fold_N == fold, fold_N == (fold + 1) % num_folds
        train_NHW = films_NHW[~(test_N | validate_N)][:MOST_FILMS]
        refused += fit_film_check(train_NHW, films_NHW[validate_N], films_NHW[test_N]).test.refused
    return refused, len(films_NHW)


def limit_of(score: Score, validate_NHW: Films) -> float:
    """The score above which at most 1 % of the validation films lie."""
    return float(np.quantile(score(validate_NHW), 1 - REFUSED_SHARE, method="higher"))


def foreign_sets(films_NHW: Films) -> dict[str, Films]:
    """Foreign pictures of the same size by kind, and last the films mirrored, which nothing here notices."""
    size = films_NHW.shape[1]
    rng = np.random.default_rng(1)
    shape = (DRAWN, size, size)
    return {
        "photographs": np.stack(list(_photographs(size))),
        "CT, MR, ultrasound, other DICOM": np.stack(list(pydicom_films(size))),
        "white noise": rng.integers(0, 256, shape).astype(np.uint8),
        "clouds": np.stack([_cloud(size, rng) for _ in range(DRAWN)]),
        "circles and rectangles": np.stack([_shapes(size, rng) for _ in range(DRAWN)]),
        "one gray": np.stack([np.full((size, size), gray, np.uint8) for gray in range(0, 256, 5)]),
        **turned(films_NHW),
        "mirrored": films_NHW[:, :, ::-1],
    }


def _photographs(size: int) -> Iterator[Films]:
    for package, folder in (
        ("matplotlib", "mpl-data/sample_data"),
        ("skimage", "data"),
        ("sklearn", "datasets/images"),
    ):
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        for path in sorted(Path(spec.origin).parent.joinpath(folder).iterdir()):
            if path.suffix in (".png", ".jpg", ".jpeg"):
                yield from _read(path, size)


def pydicom_films(size: int) -> Iterator[Films]:
    """pydicom's test files that have a picture and are no chest films, each picture once."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    seen = set()
    for path in sorted(map(Path, get_testdata_files("**/*.dcm"))):
        if path.name.startswith(CHEST):
            continue
        for film in _read(path, size):
            if film.std() >= 1 and film.tobytes() not in seen:
                seen.add(film.tobytes())
                yield film


def _read(path: Path, size: int) -> Iterator[Films]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield read_film(path.read_bytes(), preset=PixelPreset(size=size)).pixels
        except FilmError:
            return


def _cloud(size: int, rng: np.random.Generator) -> Films:
    blurred = cv2.GaussianBlur(rng.normal(size=(size, size)), (0, 0), size * rng.uniform(0.015, 0.19))
    return np.asarray(255 * (blurred - blurred.min()) / np.ptp(blurred), dtype=np.uint8)


def _shapes(size: int, rng: np.random.Generator) -> Films:
    picture = np.full((size, size), int(rng.integers(0, 256)), np.uint8)
    for _ in range(int(rng.integers(1, 7))):
        gray = int(rng.integers(0, 256))
        first, second = rng.integers(0, size, (2, 2)).tolist()
        if rng.random() < 0.5:
            cv2.circle(picture, first, int(rng.integers(size // 20, size // 2)), gray, -1)
        else:
            cv2.rectangle(picture, first, second, gray, -1)
    return picture


def _likelihood(train_NHW: Films) -> Score:
    axes = PCA(MOST_AXES, svd_solver="randomized", random_state=0).fit(standardized(train_NHW))
    return lambda films: -axes.score_samples(standardized(films))


def _features(bundle: Bundle, train_NHW: Films) -> Score:
    fitted = LedoitWolf().fit(_mean_tokens(bundle, train_NHW))
    return lambda films: fitted.mahalanobis(_mean_tokens(bundle, films))


@torch.inference_mode()
def _mean_tokens(bundle: Bundle, films_NHW: Films) -> npt.NDArray[np.float64]:
    """The mean token of each film alone (N, D)."""
    return _run(bundle, films_NHW, lambda batch: bundle.model.experts_and_films(batch)[1])


@torch.inference_mode()
def _scores(bundle: Bundle, films_NHW: Films) -> npt.NDArray[np.float64]:
    """z1 - z0 of each film alone (N, P)."""

    return _run(bundle, films_NHW, lambda batch: positive_score(bundle.model(batch)))


def _run(bundle: Bundle, films_NHW: Films, function: Callable[[Batch], torch.Tensor]) -> npt.NDArray[np.float64]:
    parts = []
    for start in range(0, len(films_NHW), 64):
        studies = [
            Study(films=[film], view_positions=[None], text="", age_years=None, sex=None)
            for film in films_NHW[start : start + 64]
        ]
        batch = collate(
            studies,
            tokenizer=bundle.tokenizer,
            max_tokens=bundle.info.architecture.max_tokens,
            size=films_NHW.shape[1],
        )
        parts.append(function(batch).double().numpy())
    return np.concatenate(parts)


def _with_interval(count: int, number: int) -> str:
    """Share with its 95 % interval (Wilson 1927)."""
    interval = binomtest(count, number).proportion_ci(method="wilson")
    return f"{count / number:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


if __name__ == "__main__":
    run_cli(main)
