"""Made-up films in the layout of the real ones, through the same preprocess."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.film_folds import NUM_FOLDS, prepare_fold
from components.cxr.shards import LoadedManifest

COLUMNS = (
    "image", "patient_id", "view_position", "patient_age_years", "patient_sex", "finding_labels", "split",
    "source_pixels",
)  # fmt: skip
OTHERS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Infiltration", "Nodule",
    "Pleural_Thickening", "Pneumothorax",
)  # fmt: skip


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 films of 30 patients, laid out as the real ones are; those with an effusion have a bright corner."""
    folder = tmp_path_factory.mktemp("real-films")
    (folder / "images").mkdir()
    rng, rows = np.random.default_rng(0), []
    for i in range(60):
        film = rng.integers(0, 128, (64, 64), dtype=np.uint8)
        film[40:, 40:] += 100 * (i % 3 == 1)
        cv2.imwrite(str(folder / "images" / f"{i:08d}.png"), film)
        named = ("No Finding", f"Effusion|{OTHERS[i // 3 % 10]}", "Pneumonia|Mass")[i % 3]
        rows.append([f"{i:08d}.png", f"{1000 + i // 2}", "PA", "50", "F", named, "val", "64" if i % 4 else "1024"])
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return folder


@pytest.fixture(scope="session")
def folds(films: Path, tmp_path_factory: pytest.TempPathFactory) -> list[LoadedManifest]:
    root = tmp_path_factory.mktemp("folds")
    return [prepare_fold(films, fold=fold, root=root) for fold in range(NUM_FOLDS)]
