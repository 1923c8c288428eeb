"""The name of a training: what decides its weights."""

from __future__ import annotations

from components.cxr.bundle_info import SCHEMA_VERSION
from components.cxr.config import content_hash
from components.cxr.model.architecture import Architecture
from components.train.config import TrainConfig
from components.train.fine_tuning import origin
from components.train.pretrained_source import by_content

__all__ = ["VERSION", "training_key"]

VERSION = 9
"""Raised whenever the same data and configuration would give other weights, or a checkpoint cannot be continued."""
VOCABULARY = 2
"""Raised whenever the same texts give other words, which is not VERSION as the yardstick's words stay the same."""


def training_key(config: TrainConfig, manifest_hash: str) -> str:
    """Name of the checkpoint and bundle folders: 16 hex digits over what decides the weights.

    Raises:
        UserError: pretrained weights, or the bundle to start from, are not there.
    """
    if config.fine_tune_from is None:
        config = config.model_copy(update={"architecture": by_content(config.architecture)})
    else:  # wherever the bundle lies, it brings its own
        known = origin(config.fine_tune_from)[1].hash
        config = config.model_copy(update={"architecture": Architecture(), "fine_tune_from": known})
    return content_hash(
        f"train {VERSION}", f"vocabulary {VOCABULARY}", f"bundle {SCHEMA_VERSION}", config.hash, manifest_hash
    )
