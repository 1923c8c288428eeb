"""What follows from a report: whether the evaluated bundle replaces the deployed one; deployment acts on it."""

from __future__ import annotations

import json
from typing import Literal

from components.cxr.config import Config
from components.cxr.errors import UserError
from components.cxr.report import Interval
from components.cxr.shards import read_versioned
from components.cxr.storage.storage import StaleWriteError, Storage

__all__ = ["DECISION", "Check", "Decision", "Rule", "Verdict", "load_decision", "write_decision"]

SCHEMA_VERSION = 4
DECISION = "decision.json"

Rule = Literal["low_above", "not_shown_below", "not_shown_above"]
"""The interval's lower end is above the bound. Or no loss beyond the bound is shown: the value is not below it or the
interval's upper end not below 0; the value is not above it or the lower end not above 0."""

Verdict = Literal[
    "first", "superior", "non_inferior", "forced", "unfinished",
    "not_shown", "vetoed", "incomparable", "below_floor", "deployed", "leaky", "undefined",
]  # fmt: skip
"""Promoted: the first model, as the policy asks, by force, or again because its deployment did not finish.

Not promoted: not shown to be as good as the policy asks, stopped by a further check, not to be compared, not above the
floor, deployed already, LEAKY, or without the numbers."""


class Check(Config):
    """One condition of a promotion, with its number."""

    name: str
    """`floor`, `mean`, `films`, `calibration`, `pathology/<name>`, `subgroup/<attribute>: <group>`."""
    rule: Rule
    value: float | None
    """None where it is undefined: the check fails."""
    ci: Interval | None
    bound: float
    passed: bool


class Decision(Config):
    """`decision.json`: whether the evaluated bundle replaces the deployed one, and why."""

    schema_version: int = SCHEMA_VERSION
    promoted: bool
    verdict: Verdict
    policy: Literal["superior", "non_inferior"]
    reason: str
    """One sentence with the numbers."""
    checks: tuple[Check, ...] = ()
    """Every one that was made, passed or not."""
    earlier_decisions: int = 0
    """Of other models, or under other settings, on the same test studies: each was a chance to pass by luck."""
    challenger_bundle: str
    champion_bundle: str | None
    """Bundle hash of the deployed model that was compared; None when nothing is deployed."""
    difference: float | None
    """Mean AUROC of challenger minus champion on the same rows."""
    difference_ci: Interval | None
    registered_model: str | None = None
    """Name in MLflow's registry; None when MLflow did not answer."""
    challenger_version: str | None = None
    """Of the registered model; None when MLflow did not answer."""
    champion_version: str | None = None
    """Version that had the alias `champion` when the decision was made."""


def write_decision(storage: Storage, decision: Decision, *, over: int | None = None) -> None:
    """Write the decision beside the report.

    Args:
        over: generation of the file that it may replace, ABSENT for none; None for whichever.

    Raises:
        UserError: another evaluation has decided otherwise meanwhile.
    """
    data = json.dumps(decision.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"
    try:
        storage.write(DECISION, data.encode(), if_generation=over)
    except StaleWriteError:
        if storage.read(DECISION).data == data.encode():
            return
        raise UserError(
            "decided-meanwhile",
            "another evaluation of this model has decided otherwise meanwhile",
            where=f"{storage.uri}/{DECISION}",
            remedy="Its decision stays. Run evaluate again to decide anew.",
        ) from None


def load_decision(storage: Storage) -> Decision:
    """Read a decision.

    Raises:
        UserError: not JSON, or another schema version.
        FileNotFoundError: there is none.
    """
    where = f"{storage.uri}/{DECISION}"
    values = read_versioned(storage.read(DECISION).data, where=where, version=SCHEMA_VERSION, made_by="evaluate")
    return Decision.parse(values, where=where)
