"""A source that a tiny network learns in seconds: PNG films with a bright blob for each positive, and a CSV table."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

CORNERS = {"Edema": (8, 8), "Pneumonia": (8, 24), "Fracture": (24, 8)}
COUNTS = {"train": 96, "validate": 40, "test": 60}


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXRFLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "CXRFLOW_ID_KEY"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def blob_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CSV table of 196 studies of 98 patients with three pathologies; the films lie beside it."""
    folder = tmp_path_factory.mktemp("blobs")
    rng = np.random.default_rng(11)
    rows = []
    for split, count in COUNTS.items():
        for i in range(count):
            film = rng.normal(90, 15, (32, 32))
            labels = {name: int(rng.random() < 0.4) for name in CORNERS}
            for name, (y, x) in CORNERS.items():
                if labels[name]:
                    film[y - 5 : y + 5, x - 5 : x + 5] += 70
            name = f"{split}{i:03d}.png"
            cv2.imwrite(str(folder / name), film.clip(0, 255).astype(np.uint8))
            text = rng.choice(["cough and fever", "chest pain", "shortness of breath", ""])
            age, sex = int(rng.integers(20, 90)), rng.choice(["F", "M"])
            rows.append({"image": name, "patient_id": f"{split}{i // 2}", "split": split, "indication": text,
                         "age": age, "sex": sex, **labels})  # fmt: skip
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return folder / "table.csv"


@pytest.fixture(scope="session")
def blob_config(blob_table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configuration file of a pipeline over `blob_table` whose steps take seconds."""
    folder = tmp_path_factory.mktemp("pipeline")
    file = folder / "blobs.yaml"
    file.write_text(f"""
root: {folder}/root
data:
  adapter: csv
  table: {blob_table}
  image_dir: {blob_table.parent}
  columns: {{split: split, age_years: age, sex: sex, text: {{indication: indication}}}}
preprocess: {{pixels: {{size: 32}}, images_per_shard: 64, num_workers: 0}}
train:
  architecture:
    vision:
      model_type: resnet
      config: {{embedding_size: 8, hidden_sizes: [8, 16], depths: [1, 1], layer_type: basic}}
    text:
      model_type: bert
      config: {{hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 32}}
    fusion: {{width: 16, num_heads: 2}}
    max_tokens: 16
  epochs: 10
  batch_size: 16
  learning_rate: 0.005
  ema_decay: 0.9
  augment: {{rotation_degrees: 0, translation: 0, scale: 0, erase: 0}}
  num_threads: 1
evaluate: {{num_bootstrap: 200}}
platform: {{partitions: 2}}
""")
    return file
