"""Vision encoders that others trained: their configuration, their weights, and the gray values they are used to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PretrainedConfig
from transformers.utils import cached_file

from components.cxr.errors import UserError
from components.cxr.model.architecture import Normalization
from components.cxr.model.encoder_config import complete_values
from components.cxr.model.vision import VisionEncoder, may_be_missing

__all__ = [
    "check_complete",
    "image_side",
    "load_pretrained_vision",
    "pretrained_normalization",
    "pretrained_vision_config",
]


def pretrained_vision_config(source: str) -> dict[str, Any]:
    """The configuration of a hub id or folder, `model_type` among its values."""
    config = image_side(AutoConfig.from_pretrained(source))
    # Which maps a checkpoint was saved to give is of no interest here.
    values = {
        n: v for n, v in complete_values(config).items() if n not in ("out_features", "out_indices", "stage_names")
    }
    return {**values, "model_type": config.model_type}


def image_side(config: PretrainedConfig) -> PretrainedConfig:
    """The part that reads films, of a model of images and text such as SigLIP."""
    side: PretrainedConfig = getattr(config, "vision_config", config)
    return side


def pretrained_normalization(source: str) -> Normalization | None:
    """What the checkpoint's image processor does to gray values, on a scale where white is 1; None if it does not
    say.

    Read from `preprocessor_config.json`, or the part of `processor_config.json` that newer checkpoints have instead.

    Raises:
        UserError: mean and standard deviation without the form that they should have.
    """
    values = _processor(source)
    if values is None:
        return None
    factor = float(values.get("rescale_factor", 1 / 255)) if values.get("do_rescale", True) else 1.0
    mean, std = values.get("image_mean"), values.get("image_std")
    if not values.get("do_normalize", True):
        mean, std = [0.0], [1.0]
    if mean is None or std is None:
        return None
    mean, std = ([float(v) for v in (value if isinstance(value, list) else [value])] for value in (mean, std))
    if values.get("rescale_offset", False):  # EfficientNet's: gray values from -1 to 1 ...
        mean = [value + 1.0 for value in mean]
    if values.get("include_top", False):  # ... divided by the standard deviation twice
        std = [value * value for value in std]
    try:
        white = 255.0 * factor
        return Normalization(mean=tuple(v / white for v in mean), std=tuple(v / white for v in std))
    except ValueError:
        raise UserError(
            "bad-normalization",
            "the checkpoint's normalization cannot be used",
            where=f"{source}: preprocessor_config.json",
            found=f"image_mean {mean}, image_std {std}",
            remedy="Set train.architecture.vision.normalization.",
        ) from None


def load_pretrained_vision(vision: VisionEncoder, source: str) -> None:
    """Give the encoder the weights of a hub id or folder.

    Raises:
        UserError: some are missing or of another shape.
    """
    with torch.random.fork_rng(devices=[]):  # what the library draws before it reads must not move the seed's stream
        loaded, info = type(vision.encoder).from_pretrained(
            source, config=vision.encoder.config, output_loading_info=True
        )
    read = vision.encoder.state_dict().keys()  # a classifier's checkpoint has no pooler, which nothing here reads
    missing = [name for name in info["missing_keys"] if name in read and not may_be_missing(name)]
    check_complete(missing, where=source)
    vision.encoder.load_state_dict(loaded.state_dict(), strict=False)


def check_complete(missing: Sequence[str], *, where: str) -> None:
    """Refuse weights that leave parameters as they were.

    Raises:
        UserError: naming the first.
    """
    if missing:
        raise UserError(
            "incomplete-weights", "pretrained weights are incomplete", where=where, found=f"no {sorted(missing)[0]}"
        )


def _processor(source: str) -> dict[str, Any] | None:
    for name, part in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
        path = cached_file(
            source, name, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
        )
        if path is not None:
            values: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
            return values if part is None else values.get(part)
    return None
