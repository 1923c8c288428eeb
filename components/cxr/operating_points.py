"""Operating points: how scores become probabilities and answers, as one evaluation chose them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from components.cxr.config import Config, content_hash
from components.cxr.errors import UserError
from components.cxr.labels import UNCERTAIN
from components.cxr.report import CONDITIONS, Condition, ThresholdRule
from components.cxr.shards import read_versioned
from components.cxr.storage.storage import Storage

__all__ = [
    "MODEL_CARD", "OPERATING_POINTS",
    "Calibration", "OperatingPoint", "OperatingPoints",
    "fitting_condition", "load_operating_points", "states_of", "write_operating_points",
]  # fmt: skip

SCHEMA_VERSION = 4
OPERATING_POINTS = "operating_points.json"
MODEL_CARD = "MODEL_CARD.md"


class Calibration(Config):
    """Platt scaling (Platt 1999): probability = sigmoid(slope * (z1 - z0) + intercept)."""

    slope: float = Field(1.0, gt=0.0)
    intercept: float = 0.0


class OperatingPoint(Config):
    """What evaluation chose for one pathology on validation."""

    threshold: float = Field(ge=0.0, le=1.0)
    """Calibrated probability in [0, 1] from which the answer is positive."""
    calibration: Calibration = Calibration()
    uncertain_threshold: float | None = Field(None, ge=0.0, le=1.0)
    """Probability of uncertain in [0, 1] from which the answer is -1; None where it must be the likeliest state."""
    edges: tuple[float, ...] = ()
    """Increasing probabilities in [0, 1] that part those of the validation studies into tenths, or into fewer parts
    where many are alike: what drift of the served ones is measured against."""
    shares: tuple[float, ...] = ()
    """Of the validation studies below, between and from the `edges` up, one more than those; empty without studies."""
    positives: int = 0
    """Validation studies behind threshold and calibration; without both kinds they are 0.5 and the identity."""
    negatives: int = 0


class OperatingPoints(Config):
    """`operating_points.json`: per input condition and pathology."""

    schema_version: int = SCHEMA_VERSION
    bundle_hash: str
    """Of the model whose scores they are for."""
    protocol: Literal["A"] = "A"
    """Of the labels they were chosen by: blank and uncertain ones count as negative."""
    threshold_rule: ThresholdRule = ThresholdRule()
    validation_studies: int = 0
    """Labeled studies that they were chosen on."""
    validation_patients: int = 0
    conditions: dict[Condition, dict[str, OperatingPoint]]

    @property
    def hash(self) -> str:
        """16 hex digits; a report, a deployment and a server name them by it."""
        return content_hash(self.canonical_json())


def fitting_condition(*, films: bool, text: bool, metadata: bool) -> Condition:
    """The evaluated condition whose operating points judge a study with these inputs: the nearest of the five.

    Calibration and thresholds of a condition are chosen on studies of which the model saw just that. A film with a text
    and no metadata is judged as `all`, a text with metadata and no film as `text`: those two were not evaluated.

    Args:
        metadata: age, sex or a view that the model knows.

    >>> fitting_condition(films=True, text=False, metadata=True)
    'image+meta'
    """
    if not films:
        return "text" if text else "meta"
    if text:
        return "all"
    return "image+meta" if metadata else "image"


def states_of(
    score: npt.ArrayLike, probability: npt.ArrayLike, uncertain: npt.ArrayLike, point: OperatingPoint
) -> npt.NDArray[np.int8]:
    """The answer of one pathology, of any shape: -1 where it is left open, else 1 from the threshold up, else 0.

    Args:
        score: z1 - z0.
        probability: calibrated, in [0, 1].
        uncertain: 3-way probability of uncertain, in [0, 1].

    >>> point = OperatingPoint(threshold=0.5)
    >>> states_of([2.0, -2.0, 0.1], [0.9, 0.1, 0.5], [0.1, 0.2, 0.6], point).tolist()
    [1, 0, -1]
    """
    score, uncertain = np.asarray(score, dtype=np.float64), np.asarray(uncertain, dtype=np.float64)
    if point.uncertain_threshold is None:
        likelier = (1.0 - uncertain) / (1.0 + np.exp(-np.abs(score)))  # of the other two states
        is_open = uncertain > likelier
    else:
        is_open = uncertain >= point.uncertain_threshold
    return np.where(is_open, UNCERTAIN, np.asarray(probability) >= point.threshold).astype(np.int8)


def write_operating_points(storage: Storage, points: OperatingPoints) -> None:
    """Write the operating points of an evaluation, or their copy beside a deployed bundle."""
    data = json.dumps(points.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"
    storage.write(OPERATING_POINTS, data.encode())


def load_operating_points(
    storage: Storage, *, bundle_hash: str | None, pathologies: Sequence[str] = ()
) -> OperatingPoints:
    """Read the operating points in an evaluation's or a deployed bundle's folder.

    Args:
        bundle_hash: of the model that they are wanted for; None for whichever they are of.
        pathologies: which every condition must have.

    Raises:
        UserError: none here, another schema version, impossible numbers, some missing, or those of another model.
    """
    where = f"{storage.uri}/{OPERATING_POINTS}"
    try:
        data = storage.read(OPERATING_POINTS).data
    except FileNotFoundError:
        raise UserError(
            "no-operating-points",
            "no operating points here",
            where=where,
            remedy="Run evaluate, and name its folder with --evaluation.",
        ) from None
    values = read_versioned(data, where=where, version=SCHEMA_VERSION, made_by="evaluate")
    points = OperatingPoints.parse(values, where=where)
    if bundle_hash is not None and points.bundle_hash != bundle_hash:
        raise UserError(
            "other-bundle-evaluated",
            "operating points are of another model",
            where=where,
            found=points.bundle_hash[:16],
            expected=bundle_hash[:16],
            remedy="Run evaluate for this model, or name its evaluation with --evaluation.",
        )
    for condition in CONDITIONS if pathologies else ():
        if missing := [name for name in pathologies if name not in points.conditions.get(condition, {})]:
            raise UserError(
                "incomplete-operating-points",
                "operating points are incomplete",
                where=f"{where}: {condition}",
                found=f"no {', '.join(missing)}",
                remedy="Run evaluate again.",
            )
    return points
