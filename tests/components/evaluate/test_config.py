"""What the configuration refuses, and what the key of an evaluation covers."""

from __future__ import annotations

from typing import Any

import pytest

from components.cxr.errors import UserError
from components.evaluate.config import EvaluateConfig
from components.evaluate.evaluate import evaluation_key


@pytest.mark.parametrize(
    ("promotion", "message"),
    [
        ({"policy": "non_inferior", "margin": 0.01}, "a reason"),
        ({"policy": "non_inferior", "reason": "half the size"}, "a margin above 0"),
        ({"policy": "superior", "margin": 0.01}, "no margin"),
        ({"policy": "better"}, "superior"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(promotion: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        EvaluateConfig.parse({"promotion": promotion}, where="evaluate")
    assert "evaluate.promotion" in str(error.value)


def test_a_typo_gets_a_suggestion() -> None:
    with pytest.raises(UserError, match="Did you mean num_bootstrap"):
        EvaluateConfig.parse({"num_bootstraps": 10}, where="evaluate")


@pytest.mark.parametrize(
    ("values", "changes"),
    [
        ({"num_bootstrap": 1000.0}, False),
        ({"device": "cpu", "batch_size": 7, "registered_model": "other"}, False),
        ({"promotion": {"policy": "non_inferior", "margin": 0.02, "reason": "smaller"}}, False),
        ({"num_bootstrap": 500}, True),
        ({"seed": 1}, True),
        ({"headline": ["Edema"]}, True),
        ({"threshold": "f1"}, True),
        ({"num_golden": 3}, True),
    ],
)
def test_the_key_changes_with_what_changes_the_report(values: dict[str, Any], changes: bool) -> None:
    hashes = {"bundle_hash": "b", "manifest_hash": "m"}
    default, other = EvaluateConfig(), EvaluateConfig.parse(values, where="evaluate")
    assert (evaluation_key(default, **hashes) != evaluation_key(other, **hashes)) is changes
    assert evaluation_key(default, **hashes) != evaluation_key(default, bundle_hash="m", manifest_hash="b")
