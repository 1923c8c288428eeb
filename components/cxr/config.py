"""Configuration of every step: frozen pydantic models fed by defaults, one YAML file and `--set a.b=c`."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from components.cxr.errors import UserError

__all__ = ["SECTIONS", "Config", "content_hash", "load_mapping", "load_yaml", "section", "with_overrides"]

SECTIONS = ("root", "data", "preprocess", "train", "evaluate", "serve", "platform")
"""Top-level keys of a configuration file, in the order of the pipeline."""


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without its numbers to the base 60: 12:00:00 is a limit of time, not 43200 of whatever.

    A name that is given twice is an error; PyYAML would leave out the first one's value, such as a whole section.
    """

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        names = set()
        for name in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if name.value in names:
                raise yaml.MarkedYAMLError(problem=f"{name.value} is there twice", problem_mark=name.start_mark)
            names.add(name.value)
        return node


_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, re.compile(f"(?!.*:){pattern.pattern}", pattern.flags) if tag in _NUMBERS else pattern)
        for tag, pattern in known
    ]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class Config(BaseModel):
    """Base of every configuration model: frozen, no unknown keys, field docstrings become descriptions.

    Numbers are finite: JSON has no others, so that a step of a pipeline would get the default in their place.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, where: str) -> Self:
        """Validate plain values (YAML, JSON or a pipeline parameter, where 224 may arrive as 224.0).

        Raises:
            UserError: naming each wrong field by its dotted path under `where`, what was found and what was expected.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _explain(error, cls, values, where) from None

    def canonical_json(self, *, exclude: set[str] | None = None) -> str:
        """The validated values, but those to exclude, as JSON with sorted keys: equal values give equal text."""
        return json.dumps(self.model_dump(mode="json", exclude=exclude), sort_keys=True, separators=(",", ":"))


def content_hash(*parts: str | bytes) -> str:
    """First 16 hex digits of the SHA-256 over the parts, each preceded by its length.

    >>> content_hash("ab", "c") == content_hash("a", "bc")
    False
    """
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:16]


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a configuration file whose top-level keys are SECTIONS (all optional).

    Raises:
        UserError: as load_mapping, or an unknown section.
    """
    values = load_mapping(path, what="configuration")
    for name in values:
        if name not in SECTIONS:
            raise UserError(
                "unknown-config-section", "unknown section", where=f"{path}: {name}", **_suggestion(str(name), SECTIONS)
            )
    return values


def load_mapping(path: Path, *, what: str) -> dict[str, Any]:
    """Read a YAML file of names and values; empty where it is.

    Args:
        what: the file's part in the errors; `--<what>` is taken for its option, but config for the configuration.

    Raises:
        UserError: no such file, not YAML, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        option = "config" if what == "configuration" else what
        raise UserError(
            "unreadable-config",
            f"cannot read the {what}",
            where=path,
            found=error.strerror,
            remedy=f"Check --{option}.",
        ) from None
    except UnicodeDecodeError:
        raise UserError("bad-yaml", f"{what} is not UTF-8", where=path, remedy="Save it as UTF-8.") from None
    try:
        values = _read_yaml(text)
    except (yaml.YAMLError, ValueError) as error:  # a ValueError is of a date such as 2026-02-30
        detail = " ".join(str(error).split())
        raise UserError("bad-yaml", f"{what} is not valid YAML", where=path, found=detail) from None
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise UserError(
            "bad-config",
            f"{what} is not a mapping",
            where=path,
            found=type(values).__name__,
            expected="names and values",
        )
    return values


def _read_yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # as safe_load, by its parent


def with_overrides(values: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """A copy of the configuration with each `section.field=value` applied; values are read as YAML.

    >>> with_overrides({"train": {"epochs": 18}}, ["train.epochs=3", "root=gs://bucket/runs"])
    {'train': {'epochs': 3}, 'root': 'gs://bucket/runs'}

    Raises:
        UserError: an assignment without `=`, or through something that is not a mapping.
    """
    result: dict[str, Any] = json.loads(json.dumps(values, default=str))
    for assignment in assignments:
        dotted, equals, text = assignment.partition("=")
        keys = dotted.strip().split(".")
        if not equals or not all(keys):
            raise UserError("bad-override", "bad override", where=f"--set {assignment}", expected="section.field=value")
        if keys[0] not in SECTIONS:
            raise UserError(
                "unknown-config-section", "unknown section", where=f"--set {dotted}", **_suggestion(keys[0], SECTIONS)
            )
        try:
            value = _read_yaml(text)
        except (yaml.YAMLError, ValueError):
            raise UserError(
                "bad-override", "bad override", where=f"--set {assignment}", expected="a YAML value after ="
            ) from None
        node = result
        for key in keys[:-1]:
            child = {} if node.get(key) is None else node[key]
            if not isinstance(child, dict):
                raise UserError(
                    "bad-override",
                    "bad override",
                    where=f"--set {dotted}",
                    found=f"{key} is a value",
                    expected="a section",
                )
            node[key] = node = child
        node[keys[-1]] = value
    return result


def section(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The named section as a dict; empty when absent.

    Raises:
        UserError: the section is not a mapping.
    """
    found = values.get(name)
    found = {} if found is None else found
    if not isinstance(found, dict):
        raise UserError(
            "bad-config", "section is not a mapping", where=name, found=repr(found), expected="fields under it"
        )
    return found


def _suggestion(name: str, known: Iterable[str]) -> dict[str, str]:
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    suggestion = {"found": name, "expected": f"one of {', '.join(known)}"}
    return suggestion | ({"remedy": f"Did you mean {close[0]}?"} if close else {})


def _explain(error: ValidationError, model: type[BaseModel], values: Mapping[str, Any], where: str) -> UserError:
    """The first problem in full, and how many more there are; alternatives of one field are one problem."""
    every = [(_written(problem["loc"], model, values), problem) for problem in error.errors(include_url=False)]
    paths = dict.fromkeys(path for path, _ in every)
    deepest = [path for path in paths if not any(other[: len(path)] == path != other for other in paths)]
    path = ".".join([where, *deepest[0]])
    problems = [problem for of, problem in every if of == deepest[0]]
    more = f" ({len(deepest) - 1} more)" if len(deepest) > 1 else ""
    first = problems[0]
    if first["type"] == "extra_forbidden":
        fields = _fields_at(model, first["loc"][:-1])
        return UserError(
            "unknown-config-field",
            f"unknown configuration field{more}",
            where=path,
            **_suggestion(str(first["loc"][-1]), fields),
        )
    if first["type"] == "missing":
        return UserError(
            "missing-config-field",
            f"missing configuration field{more}",
            where=path,
            remedy="Set it in the YAML or with --set.",
        )
    found = repr(first["input"])
    wanted = ("a mapping" if problem["type"] == "model_type" else problem["msg"] for problem in problems)
    return UserError(
        "bad-config-value",
        f"bad configuration value{more}",
        where=path,
        found=found[:80],
        expected=" or ".join(dict.fromkeys(each.removeprefix("Input should be ") for each in wanted)),
    )


def _written(location: tuple[Any, ...], model: type[BaseModel], values: Mapping[str, Any]) -> tuple[str, ...]:
    """A problem's path as the configuration has it: without pydantic's names of a union's alternatives."""
    path: list[str] = []
    node: Any = values
    for depth, key in enumerate(location):
        inside = isinstance(key, int) or (isinstance(node, Mapping) and key in node)
        if inside or key in _fields_at(model, location[:depth]):
            path.append(str(key))
            node = node[key] if isinstance(node, list) else node.get(key) if isinstance(node, Mapping) else None
    return tuple(path)


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Field names of the nested model at `location`; a union's tag in the path picks the variant."""
    current: list[type[BaseModel]] = [model]
    for key in location:
        step: list[type[BaseModel]] = []
        for candidate in current:
            if str(key) in candidate.model_fields:
                step += _models_in(candidate.model_fields[str(key)].annotation)
            elif any(str(key) == field.default for field in candidate.model_fields.values()):
                step.append(candidate)
        current = step or current
    return list(dict.fromkeys(name for candidate in current for name in candidate.model_fields))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]
