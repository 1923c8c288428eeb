"""Objects checked by a cluster's own definitions, unknown fields refused: the API would drop them in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

__all__ = ["crd_validator"]


def crd_validator(file: Path, *, version: str) -> Draft202012Validator:
    """Of a CustomResourceDefinition's file."""
    definition = yaml.load(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (found,) = (each for each in definition["spec"]["versions"] if each["name"] == version)
    return Draft202012Validator(_closed(found["schema"]["openAPIV3Schema"], at_top=True))


def _closed(schema: Any, *, at_top: bool = False) -> Any:
    """The schema with fields that it does not name refused, as deep as it goes; metadata is everybody's."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items() if name != "properties"}
    if "properties" in schema:
        closed["properties"] = {name: _closed(value) for name, value in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed.setdefault("additionalProperties", False)
    if at_top:
        closed["properties"]["metadata"] = {"type": "object"}
    return closed
