"""Whether films and texts fit the encoders: cut into patches without a rest, and within the positions."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from components.cxr.errors import UserError
from components.cxr.model.architecture import Architecture, EncoderConfig, VisionConfig
from components.cxr.model.vision import check_size
from components.cxr.storage.storage import open_storage
from components.train.pretrained_source import hub_config, missing_weights
from components.train.pretrained_vision import image_side

__all__ = ["check_film_size", "check_positions"]

_OFFSET_POSITIONS = ("camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "roberta-prelayernorm",
                     "xlm-roberta", "xlm-roberta-xl", "xmod")  # fmt: skip
"""Model types whose positions start after the padding token's id."""


def check_film_size(architecture: Architecture, size: int) -> None:
    """Refuse films whose side the vision encoder cannot cut into patches, before any are read.

    Raises:
        UserError: naming `preprocess.pixels.size` and the nearest sizes, or a type without a feature map.
    """
    vision = architecture.vision
    if vision.pretrained is not None:
        values = _pretrained_config(vision, where="train.architecture.vision")
        model_type = str(values.pop("model_type"))
        vision = vision.model_copy(update={"model_type": model_type, "config": values})
    check_size(vision, size)


def check_positions(architecture: Architecture) -> None:
    """Refuse texts longer than the text encoder has positions, which would be an IndexError at the first long one.

    Raises:
        UserError: naming `train.architecture.max_tokens` and the largest value.
    """
    positions = _positions(architecture.text)
    if positions is not None and architecture.max_tokens > positions:
        raise UserError(
            "too-many-tokens",
            "texts are longer than the text encoder's positions",
            where="train.architecture.max_tokens",
            found=architecture.max_tokens,
            expected=f"at most {positions}",
        )


def _positions(encoder: EncoderConfig) -> int | None:
    """Tokens that the encoder can tell apart by position; None where positions have no end."""
    where = "train.architecture.text"
    values = _pretrained_config(encoder, where=where) if encoder.pretrained else encoder.config
    model_type = str(values.get("model_type", encoder.model_type))
    try:
        known = AutoConfig.for_model(model_type)
    except ValueError:
        return None  # build_model names the unknown type
    name, defaults = known.attribute_map.get("max_position_embeddings", "max_position_embeddings"), known.to_dict()
    positions = values.get(name, defaults.get(name))
    if not isinstance(positions, int) or positions <= 0:
        return None
    if model_type in _OFFSET_POSITIONS:
        padding = values.get("pad_token_id", defaults.get("pad_token_id"))
        return positions - (int(padding) if padding is not None else 0) - 1
    return positions


def _pretrained_config(encoder: EncoderConfig, *, where: str) -> dict[str, Any]:
    """Its values, `model_type` among them; of a model of images and text the image side's where films are meant."""
    source = str(encoder.pretrained)
    with tempfile.TemporaryDirectory() as folder:
        if source.startswith("gs://"):
            try:
                open_storage(source).download("config.json", Path(folder, "config.json"))
            except FileNotFoundError:
                raise missing_weights(source, where=where) from None
            source = folder
        config = hub_config(source, where=where)
    if isinstance(encoder, VisionConfig):
        config = image_side(config)
    return dict(config.to_dict())
