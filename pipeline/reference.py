"""The configuration reference in docs/, written from the models' own docstrings."""

from __future__ import annotations

from typing import get_args, get_origin

from pydantic import BaseModel

from components.evaluate.config import EvaluateConfig
from components.preprocess.config import (
    CsvData,
    DicomFolderData,
    DicomwebData,
    MimicCxrData,
    OpeniData,
    PreprocessConfig,
)
from components.serve.config import ServeConfig
from components.train.config import TrainConfig
from pipeline.config import Platform

__all__ = ["reference"]

SECTIONS: dict[str, tuple[type[BaseModel], ...]] = {
    "data": (MimicCxrData, CsvData, OpeniData, DicomFolderData, DicomwebData),
    "preprocess": (PreprocessConfig,),
    "train": (TrainConfig,),
    "evaluate": (EvaluateConfig,),
    "serve": (ServeConfig,),
    "platform": (Platform,),
}

INTRODUCTION = """# Configuration

One YAML file with the sections below; any field can be set on the command line with `--set section.field=value`
(values are YAML). A typo is an error that names the dotted path. Paths are relative to the current folder. This page is
what `python -m pipeline reference` prints.

| field | default | meaning |
|---|---|---|
| `root` | required | Local folder or `gs://bucket/prefix` for everything that is made. |
"""


def reference() -> str:
    """Every field of every section as Markdown tables."""
    lines = [INTRODUCTION]
    for section, models in SECTIONS.items():
        for model in models:
            adapter = model.model_fields.get("adapter")
            lines.append(f"## {section}" + (f" (adapter: {adapter.default})" if adapter else "") + "\n")
            lines.append((model.__doc__ or "").strip() + "\n\n| field | default | meaning |\n|---|---|---|")
            lines += [f"| `{name}` | {default} | {text} |" for name, default, text in _rows(model, section)]
            lines.append("")
    return "\n".join(lines)


def _rows(model: type[BaseModel], prefix: str, instance: BaseModel | None = None) -> list[tuple[str, str, str]]:
    """Name, default and meaning of each field; nested models' defaults are those of their parent's default."""
    rows = []
    for name, field in model.model_fields.items():
        if name == "adapter":
            continue
        required = instance is None and field.is_required()
        default = None if required else field.get_default(call_default_factory=True)
        value = getattr(instance, name) if instance else default
        nested = next((t for t in (field.annotation, *get_args(field.annotation)) if _is_model(t)), None)
        if nested is not field.annotation:
            shown = "required" if required else _shown(value)
            rows.append((f"{prefix}.{name}", shown, _escaped(field.description or "")))
        if nested is not None:
            container = get_origin(field.annotation)
            several = ".<step>" if container is dict else "[]" if container is tuple else ""
            rows += _rows(nested, f"{prefix}.{name}{several}", value if isinstance(value, BaseModel) else None)
    return rows


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _shown(value: object) -> str:
    if value is None:
        return "null"
    text = _escaped(str(list(value)) if isinstance(value, tuple) else str(value))
    return f"`{text}`" if text else "empty"


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
