"""What the configuration refuses, and what the key of an evaluation covers."""

from __future__ import annotations

from typing import Any

import pytest

from components.cxr.errors import UserError
from components.evaluate.config import EvaluateConfig
from components.evaluate.evaluate import evaluation_key
from components.evaluate.predictions import predictions_key


@pytest.mark.parametrize(
    ("promotion", "message"),
    [
        ({"policy": "non_inferior", "margin": 0.01}, "a reason"),
        ({"policy": "non_inferior", "reason": "half the size"}, "a margin above 0"),
        ({"policy": "superior", "margin": 0.01}, "no margin"),
        ({"policy": "better"}, "superior"),
        ({"force": True}, "force with a reason"),
        ({"min_auroc": 0.4}, "greater than or equal to 0.5"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(promotion: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        EvaluateConfig.parse({"promotion": promotion}, where="evaluate")
    assert "evaluate.promotion" in str(error.value)


def test_a_pathology_counts_once_in_a_mean() -> None:
    with pytest.raises(UserError, match="at most once"):
        EvaluateConfig.parse({"headline": ["Edema", "Fracture", "Edema"]}, where="evaluate")


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
        ({"threshold": {"rule": "f1"}}, True),
        ({"num_golden": 3}, True),
    ],
)
def test_the_key_changes_with_what_changes_the_report(values: dict[str, Any], changes: bool) -> None:
    default, other = EvaluateConfig(), EvaluateConfig.parse(values, where="evaluate")
    assert (evaluation_key(default, predictions="p") != evaluation_key(other, predictions="p")) is changes


def test_every_field_of_the_configuration_changes_the_key_or_has_a_reason_not_to() -> None:
    """Another value of every field: what is not on the list of neutral ones must count."""
    values: dict[str, Any] = {
        "headline": ["Edema"],
        "threshold": {"rule": "f1"},
        "uncertain": "youden",
        "prevalence": {"Edema": 0.1},
        "num_bootstrap": 500,
        "seed": 1,
        "num_golden": 3,
        "second_truth": {"table": "truth.csv"},
        "promotion": {"policy": "non_inferior", "margin": 0.02, "reason": "smaller"},
        "registered_model": "other",
        "batch_size": 7,
        "device": "cpu",
        "tracking": {"log_images": True},
    }
    neutral = {
        "promotion": "the decision is made anew each time",
        "registered_model": "a name elsewhere",
        "batch_size": "padding is masked",
        "device": "it runs the same model",
        "tracking": "what MLflow is shown",
    }
    assert set(values) == set(EvaluateConfig.model_fields)
    default = evaluation_key(EvaluateConfig(), predictions="p")
    for name, value in values.items():
        changed = evaluation_key(EvaluateConfig.parse({name: value}, where="evaluate"), predictions="p")
        assert (changed == default) is (name in neutral), name


def test_the_keys_cover_bundle_data_and_second_truth() -> None:
    keys = {predictions_key(bundle, data) for bundle in "ab" for data in "xy"}
    assert len(keys) == 4
    config = EvaluateConfig()
    keys |= {evaluation_key(config, predictions=key, truth_hash=truth) for key in keys for truth in ("", "t")}
    assert len(keys) == 12
