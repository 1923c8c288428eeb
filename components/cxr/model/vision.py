"""The vision encoder: films in, one feature map per film out, whichever of transformers' CNNs or ViTs it is.

Shape letters: N films, H and W pixels, c channels of the encoder's input, C channels of its map, h and w feature map,
T tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers import AutoBackbone, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING, MODEL_MAPPING

from components.cxr.errors import UserError
from components.cxr.model.architecture import Normalization, VisionConfig
from components.cxr.model.dropout import ATTENTION
from components.cxr.model.encoder_config import accepted, library_config

__all__ = ["MODEL_TYPES", "VisionEncoder", "check_size", "may_be_missing"]

_BACKBONES = (
    "beit", "bit", "convnext", "convnextv2", "dinov2", "dinov2_with_registers", "dinov3_convnext", "dinov3_vit",
    "focalnet", "hiera", "pvt_v2", "resnet", "swin", "swinv2",
)  # fmt: skip
"""Through the library's own backbone classes, whose last feature map is taken."""
_MAPS = ("efficientnet", "mobilenet_v2", "regnet", "segformer")
"""Models whose `last_hidden_state` is a map."""
_TOKENS = ("clip_vision_model", "deit", "ijepa", "siglip_vision_model", "vit", "vit_msn")
"""Models whose `last_hidden_state` is one vector per patch, behind prefix tokens such as [CLS]."""
MODEL_TYPES = tuple(sorted((*_BACKBONES, *_MAPS, *_TOKENS)))
"""Types of the transformers library that give a feature map here."""

_OF_PATCHES = ("beit", "dinov2", "dinov2_with_registers", "dinov3_vit", *_TOKENS)
_UNREAD = {
    "bit": "bit.norm", "clip_vision_model": "post_layernorm", "deit": "pooler", "focalnet": "focalnet.layernorm",
    "siglip_vision_model": "head", "swin": "swin.layernorm", "vit": "pooler",
}  # fmt: skip
"""The layers behind what is read here: they would never see a gradient."""


class VisionEncoder(nn.Module):
    """Feature maps of films.

    A network from scratch gets GroupNorm (Wu and He 2018) for BatchNorm, whose answer is the same on any number of
    processes; a pretrained one keeps its BatchNorm with its statistics. Nothing is trained on a batch's.

    Args:
        config: with a complete transformers configuration (components/train/build.py completes it).

    Raises:
        UserError: a model type without a feature map, or values that do not go together.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        given = library_config(config, where="train.architecture.vision")
        kind = _encoder_class(given)
        with accepted(config, where="train.architecture.vision"):
            self.encoder = _build(kind, given)
            self.channels: int = _channels(self.encoder, given)
            """C."""
        if config.model_type in _UNREAD:
            self.encoder.set_submodule(_UNREAD[config.model_type], nn.Identity())
        for name, parameter in self.encoder.named_parameters():
            if name.endswith("mask_token"):  # of masked pretraining
                parameter.requires_grad_(False)
        if config.pretrained is None:
            _use_group_norm(self.encoder)
        self.num_inputs: int = given.num_channels
        """c; films are gray, so all are alike before normalization."""
        normalization = config.normalization or Normalization()
        for name, values in (("mean", normalization.mean), ("std", normalization.std)):
            if len(values) not in (1, self.num_inputs):
                raise UserError(
                    "bad-normalization",
                    "other channels than the encoder's",
                    where=f"train.architecture.vision.normalization.{name}",
                    found=f"{len(values)} values",
                    expected=f"1 or {self.num_inputs}",
                )
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> VisionEncoder:
        """As in torch, but BatchNorm keeps its statistics."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, films_NHW: Tensor) -> Tensor:
        """The map (N, C, h, w) of films, uint8."""
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.std, Tensor)
        pixels_NcHW = ((films_NHW[:, None].float() / 255.0 - self.mean) / self.std).expand(-1, self.num_inputs, -1, -1)
        if self.encoder.config.model_type in _BACKBONES:
            map_NChw: Tensor = self.encoder(pixels_NcHW).feature_maps[-1]
        elif self.encoder.config.model_type in _MAPS:
            map_NChw = self.encoder(pixels_NcHW).last_hidden_state
        else:
            tokens_NTC = self.encoder(pixels_NcHW, interpolate_pos_encoding=True).last_hidden_state
            height, width = (side // self.encoder.config.patch_size for side in films_NHW.shape[1:])
            patches_NTC = tokens_NTC[:, tokens_NTC.shape[1] - height * width :]
            map_NChw = patches_NTC.transpose(1, 2).unflatten(2, (height, width))
        return map_NChw


def may_be_missing(name: str) -> bool:
    """Whether a backbone has this parameter and a checkpoint need not: norms of the maps, which start as identities."""
    return name.startswith("hidden_states_norms.")


def check_size(config: VisionConfig, size: int) -> None:
    """Refuse films whose side the encoder cannot cut into patches or has no positions for.

    Raises:
        UserError: naming the nearest sizes that fit.
    """
    given = library_config(config, where="train.architecture.vision")
    _encoder_class(given)
    if config.model_type == "hiera" or getattr(given, "use_absolute_embeddings", False):
        sides = given.image_size if isinstance(given.image_size, (list, tuple)) else [given.image_size]
        fits, wanted = size == sides[0], str(sides[0])  # positions of one size, which nothing interpolates
    elif config.model_type in _OF_PATCHES:
        patch = given.patch_size
        if not isinstance(patch, int) or patch < 1:
            raise UserError(
                "unusable-encoder",
                "unusable encoder",
                where="train.architecture.vision.config.patch_size",
                found=patch,
                expected="a whole number, at least 1",
            )
        nearest = [str(count * patch) for count in (size // patch, math.ceil(size / patch)) if count]
        fits, wanted = size % patch == 0, f"a multiple of {patch}, such as {' or '.join(nearest)}"
    else:
        return
    if not fits:
        raise UserError(
            "bad-film-size",
            f"films of a size that {config.model_type} cannot take",
            where="preprocess.pixels.size",
            found=size,
            expected=wanted,
        )


def _encoder_class(config: PretrainedConfig) -> type[PreTrainedModel]:
    """The library's class for this configuration: its backbone where that is what is used here.

    Raises:
        UserError: a model type without a feature map.
    """
    if config.model_type not in MODEL_TYPES:
        raise UserError(
            "unusable-encoder",
            "no encoder of films with a feature map",
            where="train.architecture.vision",
            found=config.model_type,
            expected=f"one of {', '.join(MODEL_TYPES)}",
        )
    mapping = MODEL_FOR_BACKBONE_MAPPING if config.model_type in _BACKBONES else MODEL_MAPPING
    found: type[PreTrainedModel] = mapping[type(config)]
    return found


def _build(kind: type[PreTrainedModel], given: PretrainedConfig) -> PreTrainedModel:
    # The registered attention draws its dropout from the films' keys.
    registered = kind._supports_attention_backend and kind._supports_sdpa
    attention = {"attn_implementation": ATTENTION} if registered else {}
    if given.model_type not in _BACKBONES:
        return AutoModel.from_config(given, **attention)
    given.out_features, given.reshape_hidden_states = given.stage_names[-1:], True
    if isinstance(getattr(given, "hidden_sizes", None), tuple):
        given.hidden_sizes = list(given.hidden_sizes)  # ConvNeXt's and FocalNet's backbones add it to a list
    return AutoBackbone.from_config(given, **attention)


def _channels(encoder: PreTrainedModel, given: PretrainedConfig) -> int:
    if given.model_type in _BACKBONES:
        return int(encoder.channels[-1])
    if given.model_type == "efficientnet":
        return int(given.hidden_dim)
    if given.model_type == "mobilenet_v2":
        return int(encoder.conv_1x1.convolution.out_channels)
    return int(given.hidden_sizes[-1] if given.model_type in _MAPS else given.hidden_size)


def _use_group_norm(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            channels = child.num_features
            groups = next(g for g in (32, 16, 8, 4, 2, 1) if (channels % g == 0 and channels // g >= 4) or g == 1)
            setattr(module, name, nn.GroupNorm(groups, channels))
        else:
            _use_group_norm(child)
