"""What fixes the shape of the network: part of the training configuration and of every bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from components.cxr.config import Config

__all__ = ["Architecture", "EncoderConfig", "FusionConfig", "Normalization", "PatchConfig", "VisionConfig"]

SMALL_RESNET: dict[str, Any] = {
    "embedding_size": 32,
    "hidden_sizes": [32, 64, 128, 256],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
SMALL_BERT: dict[str, Any] = {
    "hidden_size": 96,
    "num_hidden_layers": 0,  # the mean word: with two layers, 4,000 indications told less (docs/benchmarks.md)
    "num_attention_heads": 4,
    "intermediate_size": 192,
    "max_position_embeddings": 128,
}


def _whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


class EncoderConfig(Config):
    """An encoder of the transformers library, from scratch or pretrained."""

    model_type: str
    """Name of the architecture in transformers, such as resnet, convnextv2, bert."""
    pretrained: str | None = None
    """Hub id, local folder or gs:// folder of the weights to start from; its configuration then replaces `config`."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Fields of the transformers configuration."""

    @field_validator("pretrained")
    @classmethod
    def _at_home(cls, source: str | None) -> str | None:
        """~/folder is a folder, as everywhere, and no hub id."""
        return str(Path(source).expanduser()) if source is not None and source.startswith("~") else source

    @field_validator("config")
    @classmethod
    def _whole_numbers(cls, values: dict[str, Any]) -> dict[str, Any]:
        """KFP turns 32 into 32.0 inside a dict parameter; both must mean, and hash, the same."""
        return {name: _whole(value) for name, value in values.items()}


class Normalization(Config):
    """What becomes of gray values in [0, 1] before the encoder sees them: (gray - mean) / std."""

    mean: tuple[float, ...] = Field((0.5,), min_length=1)
    """One value, or one per channel."""
    std: tuple[Annotated[float, Field(gt=0.0)], ...] = Field((0.25,), min_length=1)
    """One value, or one per channel."""

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(f"as many means as standard deviations; {len(self.mean)} and {len(self.std)}")
        return self


class VisionConfig(EncoderConfig):
    """An encoder of films: a CNN or a ViT with a feature map."""

    normalization: Normalization | None = None
    """Of gray values. null takes what the pretrained weights come with (`preprocessor_config.json`), else mean 0.5 and
    standard deviation 0.25."""


class PatchConfig(Config):
    """An expert of films beside the encoder: a dictionary of small patches (Coates, Lee and Ng 2011), for few films."""

    words: int = Field(256, ge=2, le=4096)
    """Patches that the dictionary tells apart."""
    patch: int = Field(6, ge=3, le=16)
    """Side of a patch in pixels."""
    stride: int = Field(2, ge=1)
    """Pixels between patches."""
    grid: int = Field(4, ge=1, le=8)
    """Parts of a film's side in which the patches are counted."""
    side: int = Field(64, ge=16, le=256)
    """Pixels a side that films are brought to first; at most that of the films that it first learns from."""

    @property
    def places(self) -> int:
        """Of a patch along the side."""
        return (self.side - self.patch) // self.stride + 1


class FusionConfig(Config):
    """How films, metadata and text become one answer per pathology."""

    kind: Literal["experts", "concat"] = "experts"
    """`experts`: the queries attend over films and metadata, and the text adds log-odds of its own, each trained toward
    the labels alone. `concat`: the queries attend over all tokens, trained as one."""
    width: int = Field(128, ge=8)
    """D, the width of every token."""
    num_heads: int = Field(4, ge=1)
    """Attention heads; divides `width`."""
    num_layers: int = Field(1, ge=1)
    """Cross-attention blocks."""
    dropout: float = Field(0.1, ge=0.0, lt=1.0)
    """In attention and feed-forward layers, here and in the text encoder."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % (4 * self.num_heads):
            raise ValueError(f"a width divisible by 4 x num_heads; {self.width} is not by {4 * self.num_heads}")
        return self


class Architecture(Config):
    """Everything that fixes the shape of the network; stored in the bundle."""

    vision: VisionConfig = VisionConfig(model_type="resnet", config=SMALL_RESNET)
    """CNN or ViT on films."""
    text: EncoderConfig = EncoderConfig(model_type="bert", config=SMALL_BERT)
    """Transformer on the pre-read text."""
    fusion: FusionConfig = FusionConfig()
    """Pathology queries over all tokens."""
    patches: PatchConfig | Literal["none"] = PatchConfig()
    """A second opinion on films, fitted before training, or `none`."""
    max_tokens: int = Field(64, ge=4)
    """T, where longer texts are cut."""
