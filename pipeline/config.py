"""The whole configuration: every section validated before anything runs, and the platform, known at compile time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from components.cxr.config import Config, load_yaml, section, with_overrides
from components.cxr.errors import UserError
from components.evaluate.config import EvaluateConfig
from components.preprocess.config import PreprocessConfig, parse_data
from components.serve.config import ServeConfig
from components.train.config import TrainConfig

__all__ = ["CONFIGS", "ImageName", "PipelineConfig", "Platform", "load_pipeline_config"]

CONFIGS = Path(__file__).parent / "configs"

ImageName = Literal["preprocess", "train", "evaluate", "serve"]


class Platform(Config):
    """Section `platform`: what must be known when the pipeline is compiled."""

    partitions: int = Field(1, ge=1)
    """Parallel preprocess tasks."""
    images: dict[ImageName, str] = Field(default_factory=dict)
    """Container image of a step, where it is not `cxrflow-<step>:latest`."""

    def image_of(self, step: ImageName) -> str:
        """The container image of a step."""
        return self.images.get(step, f"cxrflow-{step}:latest")


class PipelineConfig(NamedTuple):
    """A validated configuration."""

    root: str
    arguments: dict[str, Any]
    """The pipeline's parameters: root and a dict a section, as JSON values."""
    platform: Platform


def load_pipeline_config(path: Path, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Read a configuration file, apply `--set` overrides and validate every section.

    Raises:
        UserError: unreadable file, unknown field, bad value, or no root or data.
    """
    values = with_overrides(load_yaml(path), overrides)
    root = values.get("root")
    if not isinstance(root, str) or not root:
        raise UserError(
            "no place to keep results", where=f"{path}: root", found=root, remedy="Set root, or --set root=…"
        )
    arguments: dict[str, Any] = {"root": root, "data": _plain(parse_data(section(values, "data")))}
    steps: dict[str, type[Config]] = {
        "preprocess": PreprocessConfig,
        "train": TrainConfig,
        "evaluate": EvaluateConfig,
        "serve": ServeConfig,
    }
    for name, model in steps.items():
        arguments[name] = _plain(model.parse(section(values, name), where=name))
    return PipelineConfig(root, arguments, Platform.parse(section(values, "platform"), where="platform"))


def _plain(config: Config) -> dict[str, Any]:
    """JSON values without nulls, which KFP's parameters do not have; absent means the same."""
    values: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    return values
