"""Real films in five folds of patients, each through the pipeline's own preprocess, and AUROC within folds.

Scores of two folds come from two trainings and are never compared: AUROC is the share of all pairs of a positive and a
negative film of one fold that are ranked right.

Shape letters: S films of all folds, P pathologies, N samples.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.resampled import Scores, ranked_pairs, redrawn
from components.cxr.config import load_yaml, section
from components.cxr.errors import UserError
from components.cxr.ids import hash_id, load_id_key
from components.cxr.labels import truth_of
from components.cxr.model.dataset import StudyDataset
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.cxr.text.text import TextConfig
from components.preprocess.collect import collect
from components.preprocess.config import PreprocessConfig, parse_data
from components.preprocess.preprocess import run_partition
from pipeline.config import CONFIGS

__all__ = ["CONFIG", "LEAKING", "NUM_FOLDS", "SOURCES", "OutOfFold", "fold_of", "out_of_fold", "prepare_fold"]

CONFIG = CONFIGS / "nih-cxr14.yaml"
NUM_FOLDS = 5
LEAKING = "Pneumonia"
"""Nearly all its positives came in one size, so that sharpness alone tells them: it counts for no mean."""
SOURCES = ("64", "1024")
"""The pixels that films came in."""


class OutOfFold(NamedTuple):
    """The films of all folds, one fold after the other."""

    pathologies: tuple[str, ...]
    truth_SP: npt.NDArray[np.int8]
    patient_S: Sequence[str]
    fold_S: npt.NDArray[np.int64]
    source_S: npt.NDArray[np.str_]
    """One of `SOURCES`."""

    def scored(self, source: str | None = None, *, least: int = 30) -> list[str]:
        """Pathologies with at least so many positive films, of one source or in all, but the one that leaks."""
        rows_S = np.ones(len(self.fold_S), bool) if source is None else self.source_S == source
        positive_P = (self.truth_SP[rows_S] == 1).sum(axis=0)
        named = zip(self.pathologies, positive_P, strict=True)
        return [name for name, count in named if count >= least and name != LEAKING]

    def positives(self) -> dict[str, list[int]]:
        """Positive films of each pathology, by source."""
        of_source = [(self.truth_SP[self.source_S == source] == 1).sum(axis=0).tolist() for source in SOURCES]
        return {name: list(counts) for name, *counts in zip(self.pathologies, *of_source, strict=True)}

    def samples(self, score_SP: Scores, names: Sequence[str], *, source: str | None = None, num: int) -> Scores:
        """Mean AUROC of some pathologies over all patients and over `num` resamples of them (1 + num,)."""
        rows_S = np.ones(len(self.fold_S), bool) if source is None else self.source_S == source
        every, which_S = np.unique(np.asarray(self.patient_S), return_inverse=True)
        weight_NS = redrawn(len(every), np.random.default_rng(0), num=num)[:, which_S]
        of_name = []
        for name in names:
            p = self.pathologies.index(name)
            right_N, all_N = np.zeros((2, 1 + num))
            for fold in np.unique(self.fold_S):
                mine = rows_S & (self.fold_S == fold)
                right, every_pair = ranked_pairs(score_SP[mine, p], self.truth_SP[mine, p] == 1, weight_NS[:, mine])
                right_N, all_N = right_N + right, all_N + every_pair
            of_name.append(right_N / all_N)
        return np.asarray(np.mean(of_name, axis=0))


def fold_of(patient: str) -> int:
    """The fold that scores a patient, 0 to 4, whatever other patients there are.

    >>> [fold_of(patient) for patient in ("1", "2", "3")]
    [4, 4, 0]
    """
    return int(hashlib.sha256(f"fold of {patient}".encode()).hexdigest(), 16) % NUM_FOLDS


def prepare_fold(films: Path, *, fold: int, root: Path) -> LoadedManifest:
    """Shards in which one fold is the test split and all else training, by the shipped configuration.

    Part of the training patients validates, as that configuration says: no choice sees the fold.

    Raises:
        UserError: no films.
    """
    rows = _rows(films)
    dealt = [row | {"split": "test" if fold_of(row["patient_id"]) == fold else "train"} for row in rows]
    table = root / f"fold-{fold}.csv"
    root.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(dealt)
    values: Mapping[str, Any] = load_yaml(CONFIG)
    places = {"table": str(table), "image_dir": str(films / "images"), "splits": {"train": "train", "test": "test"}}
    data = parse_data({**section(values, "data"), **places})
    config = PreprocessConfig.parse({**section(values, "preprocess"), "num_workers": 0}, where="preprocess")
    run_partition(data, config, root=Root(root), partition=0, num_partitions=1)
    return collect(data, config, root=Root(root))


def out_of_fold(films: Path, folds: Sequence[LoadedManifest]) -> OutOfFold:
    """Labels of all films, each in the fold that tests it; whatever is not named counts as absent."""
    key = load_id_key()
    source_of = {hash_id("study", row["image"], key): row["source_pixels"] for row in _rows(films)}
    test = [StudyDataset(loaded, splits=["test"], text=TextConfig()) for loaded in folds]
    return OutOfFold(
        pathologies=folds[0].manifest.pathologies,
        truth_SP=np.concatenate([truth_of(each.states_SP, each.labeled_S, protocol="A") for each in test]),
        patient_S=[patient for each in test for patient in each.patient_ids],
        fold_S=np.repeat(np.arange(len(test)), [len(each) for each in test]),
        source_S=np.array([source_of[study] for each in test for study in each.study_ids]),
    )


def _rows(films: Path) -> list[dict[str, str]]:
    table = films / "labels.csv"
    if not table.is_file() or not (films / "images").is_dir():
        raise UserError(
            "no-real-films",
            "no real films",
            where=films,
            expected="labels.csv and images/ of NIH ChestX-ray14",
            remedy="Name their folder with --films; pipeline/configs/nih-cxr14.yaml names the columns of the table.",
        )
    with table.open(newline="") as file:
        return list(csv.DictReader(file))
