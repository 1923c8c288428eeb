"""What a sweep varies: fields of section `train` by their dotted names, each with a range or a list of choices."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import model_validator

from components.cxr.config import Config, load_mapping
from components.cxr.errors import UserError
from components.train.config import TrainConfig

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = ["ENSEMBLE", "Dimension", "Space", "load_space", "with_values"]

LUCK = {"seed", "labeled_seed"}
"""The best of many seeds is lucky, and nothing is learned from it."""
ENSEMBLE = "num_models"
"""A trial is scored while it trains, which one model does."""


class Dimension(Config):
    """One field: `low` and `high`, or `choices`."""

    low: float | int | None = None
    """Smallest value; a whole number where both ends are."""
    high: float | int | None = None
    """Largest value."""
    log: bool = False
    """Draw the logarithm evenly."""
    choices: tuple[Any, ...] = ()
    """Values of any kind, such as [none, flip] or whole sections."""

    @model_validator(mode="after")
    def _is_a_range_or_a_list(self) -> Self:
        if self.choices:
            if not (self.low is self.high is None) or self.log:
                raise ValueError("choices alone, or low and high")
            if len({_text(each) for each in self.choices}) < 2:
                raise ValueError("two choices or more")
        elif self.low is None or self.high is None or not self.low < self.high:
            raise ValueError("choices, or low and high with low < high")
        elif self.log and self.low <= 0:
            raise ValueError("low above 0 where log is true")
        return self

    @property
    def distribution(self) -> BaseDistribution:
        """Optuna's. A choice is drawn as JSON, which may be a section of its own."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.low is None or self.high is None:
            return CategoricalDistribution([_text(each) for each in self.choices])
        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def value(self, drawn: Any) -> Any:
        """A field's value from what Optuna drew."""
        return json.loads(drawn) if self.choices else drawn

    @property
    def examples(self) -> tuple[Any, ...]:
        """The ends of the range, or every choice."""
        return self.choices or (self.low, self.high)


Space = dict[str, Dimension]


def load_space(path: Path, train: Mapping[str, Any]) -> Space:
    """Read a space and check that every field exists and takes both ends of its range, or every choice.

    Args:
        train: section `train` of the configuration, which the rest comes from.

    Raises:
        UserError: an unreadable file, nothing to vary, no such field or value, a seed, or the number of models.
    """
    found = load_mapping(path, what="space")
    if not found:
        raise UserError(
            "empty-space", "nothing to vary", where=path, expected="fields of section train",
            remedy="For example: learning_rate: {low: 1.0e-4, high: 3.0e-3, log: true}.",
        )  # fmt: skip
    space = {}
    for name, values in found.items():
        where = f"{path}: {name}"
        if name.rpartition(".")[2] in LUCK:
            raise UserError(
                "sweep-over-luck", "a seed is nothing to choose", where=where,
                remedy="Sweep over what it should work for, and train the winner with several seeds.",
            )  # fmt: skip
        if name == ENSEMBLE:
            raise UserError(
                "sweep-over-models", "a trial trains one model", where=where,
                remedy="Sweep over what it learns by, and train the winner with several models.",
            )  # fmt: skip
        if not isinstance(values, dict):
            raise UserError(
                "bad-space", "neither a range nor choices", where=where, found=type(values).__name__,
                expected="{low: …, high: …} or {choices: […]}",
            )  # fmt: skip
        space[name] = Dimension.parse(values, where=where)
        for example in space[name].examples:
            TrainConfig.parse(with_values(train, {name: example}), where=f"{path}: train")
    return space


def with_values(train: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of section `train` with each field set by its dotted name."""
    result: dict[str, Any] = json.loads(json.dumps(train))
    for name, value in values.items():
        node = result
        *parents, last = name.split(".")
        for parent in parents:
            child = node.get(parent)
            node[parent] = node = child if isinstance(child, dict) else {}
        node[last] = value
    return result


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
