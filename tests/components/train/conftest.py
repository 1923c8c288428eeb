"""A training small enough for seconds: 32-pixel films, a tiny network without the expert of patches, one seed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.train.config import TrainConfig


@pytest.fixture(scope="session")
def _tracking_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Creating MLflow's tables takes seconds; these tests share them."""
    return tmp_path_factory.mktemp("mlflow") / "mlflow.db"


@pytest.fixture(scope="module", autouse=True)
def _tracked_there(_tracking_database: Path, _own_places: None) -> Iterator[None]:
    """A module's, not the session's: the tests of other folders have roots of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{_tracking_database}")
        yield


@pytest.fixture(scope="session")
def tiny_config() -> TrainConfig:
    """13 of the 54 labeled studies per step, 4 steps per epoch, dropout as by default."""
    encoder = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    values = {
        "architecture": {
            "vision": {"model_type": "resnet", "config": encoder},
            "text": {"model_type": "bert", "config": text | {"max_position_embeddings": 32}},
            "fusion": {"width": 16, "num_heads": 2},
            "patches": "none",
            "max_tokens": 16,
        },
        "epochs": 6,
        "batch_size": 13,
        "num_threads": 1,
        "log_every": 2,
        "checkpoint_every": 3,
    }
    return TrainConfig.parse(values, where="train")
