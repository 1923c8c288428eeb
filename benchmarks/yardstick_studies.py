"""The yardstick's studies through the pipeline's own preprocess, in splits of given sizes."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from components.cxr.ids import hash_id
from components.cxr.model.dataset import StudyDataset
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.preprocess.collect import collect
from components.preprocess.config import PreprocessConfig, parse_data
from components.preprocess.preprocess import run_partition
from pipeline.synthetic.dataset import generate
from pipeline.synthetic.presets import Settings
from pipeline.synthetic.studies import Study

__all__ = [
    "DATA_SEED", "FULL", "QUICK", "VISION", "draw_studies", "truth_by_study",
]  # fmt: skip

DATA_SEED = 30_001
"""Patients that no choice of a design has seen."""
FULL, QUICK = (6_500, 2_000, 500), (700, 200, 100)
"""Studies in all, for test and for validation; the rest, 4,000 or 400, is for training."""
DRAWN, SIZE = 128, 64
VISION = {"embedding_size": 16, "hidden_sizes": [16, 32, 64, 128], "depths": [1, 1, 1, 1], "layer_type": "basic"}
"""The demo's encoder of films."""


def draw_studies(
    place: Path,
    *,
    seed: int,
    sizes: tuple[int, int, int],
    preset: Literal["medium", "hard"] = "medium",
) -> tuple[LoadedManifest, list[Study]]:
    """Draw, deal the patients to splits of the sizes asked for (the generator's own are shares), and preprocess.

    Args:
        place: a root, where what is already there is taken.
        seed: of the patients.
        sizes: as `FULL`.
    """
    total, num_test, num_validate = sizes
    source = place / (f"synthetic-{seed}" if preset == "medium" else f"synthetic-{preset}-{seed}")
    settings = Settings(seed=seed, preset=preset, prevalence="floor")
    drawn = generate(source, num_studies=total, settings=settings, size=DRAWN, num_jobs=2)
    _deal(source / "mimic-cxr-2.0.0-split.csv.gz", num_test=num_test, num_validate=num_validate)
    data = parse_data({"adapter": "mimic-cxr", "dir": str(source)})
    config = PreprocessConfig.parse(
        {"pixels": {"name": "display", "size": SIZE}, "images_per_shard": 512, "num_workers": 1}, where="preprocess"
    )
    run_partition(data, config, root=Root(place), partition=0, num_partitions=1)
    return collect(data, config, root=Root(place)), [r.study for patient in drawn.readings for r in patient]


def truth_by_study(data: StudyDataset, studies: list[Study]) -> npt.NDArray[np.int8]:
    """What the generator knows of the studies of a split (S, P), in its order."""
    truth = {hash_id("study", str(study.study_id)): study.truth for study in studies}
    return np.array([truth[study] for study in data.study_ids], dtype=np.int8)


def _deal(table: Path, *, num_test: int, num_validate: int) -> None:
    with gzip.open(table, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    studies: dict[str, set[str]] = {}
    for row in rows:
        studies.setdefault(row["subject_id"], set()).add(row["study_id"])
    split, before = {}, 0
    for subject, mine in studies.items():
        split[subject] = "test" if before < num_test else "validate" if before < num_test + num_validate else "train"
        before += len(mine)
    dealt = [row | {"split": split[row["subject_id"]]} for row in rows]
    if dealt == rows:
        return
    with gzip.open(table, "wt", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(dealt)
