"""`python -m benchmarks.vision_encoders`: the shapes of pretrained encoders of films at their real size.

Each is built from its configuration on torch's device without memory: no weights are fetched, drawn or computed with.
"""

from __future__ import annotations

import json
import tempfile
from typing import Any, NamedTuple

import torch
import transformers

from components.cxr.model.architecture import VisionConfig
from components.cxr.model.vision import VisionEncoder, check_size
from components.train.pretrained_vision import pretrained_vision_config

__all__ = ["CHECKPOINTS", "Checkpoint", "measure"]

_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
_SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
_SMALL_TEXT = {"hidden_size": 1152, "num_hidden_layers": 1, "num_attention_heads": 16, "vocab_size": 64}


class Checkpoint(NamedTuple):
    """What is known of a checkpoint without having it."""

    hub_id: str
    saved_as: str
    """The library's class whose weights its folder holds."""
    size: int
    """Side of its films in pixels."""
    config: dict[str, Any]
    """Where it differs from the library's defaults."""


CHECKPOINTS = (
    Checkpoint("microsoft/rad-dino", "Dinov2Model", 518, {**_BASE, "patch_size": 14, "image_size": 518}),
    Checkpoint("m42-health/CXformer-base", "Dinov2WithRegistersModel", 518, {"patch_size": 14, "image_size": 518}),
    Checkpoint(
        "m42-health/CXformer-small",
        "Dinov2WithRegistersModel",
        518,
        {"patch_size": 14, "image_size": 518, "hidden_size": 384, "num_attention_heads": 6},
    ),
    Checkpoint(
        "google/medsiglip-448",
        "SiglipModel",
        448,
        {"vision_config": {**_SO400M, "patch_size": 14, "image_size": 448}, "text_config": _SMALL_TEXT},
    ),
    Checkpoint("facebook/dinov3-convnext-tiny-pretrain-lvd1689m", "DINOv3ConvNextModel", 224, {}),
    Checkpoint(
        "facebook/dinov3-vitb16-pretrain-lvd1689m",
        "DINOv3ViTModel",
        224,
        {**_BASE, "intermediate_size": 3072, "num_register_tokens": 4},
    ),
    Checkpoint("facebook/dinov2-base", "Dinov2Model", 224, {**_BASE, "patch_size": 14, "image_size": 518}),
    Checkpoint("facebook/convnextv2-tiny-22k-224", "ConvNextV2ForImageClassification", 224, {}),
    Checkpoint("microsoft/resnet-50", "ResNetForImageClassification", 224, {}),
    Checkpoint("microsoft/swin-tiny-patch4-window7-224", "SwinForImageClassification", 224, {}),
    Checkpoint("google/vit-base-patch16-224-in21k", "ViTModel", 224, {}),
)


def main() -> None:
    """Print a line of JSON per checkpoint."""
    for checkpoint in CHECKPOINTS:
        print(json.dumps(measure(checkpoint)), flush=True)


def measure(checkpoint: Checkpoint) -> dict[str, Any]:
    """Parameters in millions, the film's side, and the shape (C, h, w) of its map, without memory for either."""
    kind = getattr(transformers, checkpoint.saved_as)
    with tempfile.TemporaryDirectory() as folder:
        kind.config_class(**checkpoint.config).save_pretrained(folder)
        values = pretrained_vision_config(folder)
    config = VisionConfig(model_type=values.pop("model_type"), pretrained=checkpoint.hub_id, config=values)
    check_size(config, checkpoint.size)
    with torch.device("meta"), torch.inference_mode():
        encoder = VisionEncoder(config).eval()
        map_NChw = encoder(torch.zeros((1, checkpoint.size, checkpoint.size), dtype=torch.uint8))
    return {
        "hub_id": checkpoint.hub_id,
        "model_type": config.model_type,
        "parameters_millions": round(sum(p.numel() for p in encoder.parameters()) / 1e6, 1),
        "film": checkpoint.size,
        "map": list(map_NChw.shape[1:]),
    }


if __name__ == "__main__":
    main()
