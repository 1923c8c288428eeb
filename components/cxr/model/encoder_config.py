"""Between an encoder's configuration and the transformers library's, without loss either way."""

from __future__ import annotations

import contextlib
import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from components.cxr.errors import UserError
from components.cxr.model.architecture import EncoderConfig

__all__ = ["accepted", "complete_values", "library_config"]

_NOT_KEPT = frozenset({"model_type", "transformers_version", "dtype", "architectures"})


def library_config(encoder: EncoderConfig, *, where: str = "train.architecture") -> PretrainedConfig:
    """The library's configuration, each number of the type that its field has there.

    KFP turns 32 into 32.0 and JSON readers may turn 1.0 into 1; the library refuses either in the wrong field.

    >>> library_config(EncoderConfig(model_type="dinov2", config={"layerscale_value": 1})).layerscale_value
    1.0

    Raises:
        UserError: no such model type, or a value that it refuses.
    """
    with accepted(encoder, where=where):
        fields = {field.name: field for field in dataclasses.fields(type(AutoConfig.for_model(encoder.model_type)))}
        values = {
            name: _typed(value, fields[name]) if name in fields else value for name, value in encoder.config.items()
        }
        return AutoConfig.for_model(encoder.model_type, **values)


@contextlib.contextmanager
def accepted(encoder: EncoderConfig, *, where: str) -> Iterator[None]:
    """Within, the library makes something of a configuration, which it refuses by errors of all kinds.

    Raises:
        UserError: it does.
    """
    try:
        yield
    except Exception as error:
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            "unusable-encoder", "unusable encoder", where=f"{where}: {encoder.model_type}", found=detail
        ) from None


def complete_values(config: PretrainedConfig) -> dict[str, Any]:
    """What must be kept to make the same configuration again: all that differs from the library's defaults."""
    return {name: value for name, value in config.to_diff_dict().items() if name not in _NOT_KEPT}


def _typed(value: Any, field: dataclasses.Field[Any]) -> Any:
    """A whole number as a float where the field takes floats alone, or takes both and has a float for its default."""
    kinds = set(typing.get_args(field.type)) or {field.type}
    default = field.default
    if isinstance(value, list):
        elements = default if isinstance(default, (list, tuple)) else ()
        if elements and all(isinstance(element, float) for element in elements):
            return [float(element) for element in value]
        return value
    if type(value) is int and float in kinds and (int not in kinds or isinstance(default, float)):
        return float(value)
    return value
