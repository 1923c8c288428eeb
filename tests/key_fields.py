"""Every field of a configuration, however deep, each changed by itself."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, Union

from pydantic import BaseModel

__all__ = ["changed_fields", "sample"]


def changed_fields(config: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted name of each field that holds no model, with a copy of `config` in which that field alone differs.

    Values keep their type, not their bounds: keys are made from validated configurations, which this need not be.
    """
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            for dotted, changed in changed_fields(value, f"{prefix}{name}."):
                yield dotted, config.model_copy(update={name: changed})
        else:
            yield (
                f"{prefix}{name}",
                config.model_copy(update={name: _other(value, field.annotation, f"{prefix}{name}")}),
            )


def _other(value: Any, annotation: Any, name: str) -> Any:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _other(value, typing.get_args(annotation)[0], name)
    if origin is Literal:
        return (
            next(choice for choice in typing.get_args(annotation) if choice != value)
            if len(typing.get_args(annotation)) > 1
            else f"{value}-other"
        )
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return f"{value}x"
        case tuple():
            return (*value, value[0] if value else sample(typing.get_args(annotation)[0]))
        case list():
            return [*value, value[0] if value else "x"]
        case dict():
            return {**value, **sample(annotation)}
        case None if origin in (Union, types.UnionType):
            return sample(next(part for part in typing.get_args(annotation) if part is not type(None)))
    raise NotImplementedError(f"{name}: {annotation}")


def sample(annotation: Any) -> Any:
    """A value of a type; a model's fields with defaults keep them."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return sample(typing.get_args(annotation)[0])
    if origin is Literal:
        return typing.get_args(annotation)[0]
    if origin in (Union, types.UnionType):
        return sample(next(part for part in typing.get_args(annotation) if part is not type(None)))
    if origin is dict:
        values = typing.get_args(annotation)[1]
        return {"added": 1 if values is Any else sample(values)}
    if origin is not None:
        return {list: ["x"], tuple: ("x",)}[origin]
    if issubclass(annotation, BaseModel):
        required = {n: f for n, f in annotation.model_fields.items() if f.is_required()}
        return annotation.model_construct(**{n: sample(f.annotation) for n, f in required.items()})
    return {bool: True, int: 1, float: 1.0, str: "x"}[annotation]
