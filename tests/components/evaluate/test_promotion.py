"""Every way a decision can go."""

from __future__ import annotations

import pytest

from components.cxr.report import Interval, MeanScore, Report
from components.evaluate.config import PromotionConfig
from components.evaluate.promotion import Comparison, decide

SUPERIOR = PromotionConfig()
NON_INFERIOR = PromotionConfig(policy="non_inferior", margin=0.02, reason="half the size")


def test_the_first_model_must_beat_chance(report: Report) -> None:
    decision = decide(report, None, config=SUPERIOR)
    assert decision.promoted
    assert decision.reason == (
        "nothing is deployed yet, and the model is better than chance: mean AUROC 0.900, 95 % interval [0.850, 0.950]."
    )
    assert decision.challenger_bundle == report.bundle_hash
    assert decision.champion_bundle is None
    guessing = decide(_with_mean(report, auroc=0.55, low=0.5, high=0.6), None, config=SUPERIOR)
    assert not guessing.promoted
    assert "not shown to be better than chance" in guessing.reason


@pytest.mark.parametrize(
    ("config", "low", "promoted"),
    [
        (SUPERIOR, 0.001, True),
        (SUPERIOR, 0.0, False),
        (SUPERIOR, -0.001, False),
        (NON_INFERIOR, -0.019, True),
        (NON_INFERIOR, -0.02, False),
    ],
)
def test_the_lower_bound_of_the_difference_decides(
    report: Report, config: PromotionConfig, low: float, promoted: bool
) -> None:
    comparison = Comparison("c" * 64, difference=0.03, difference_ci=Interval(low=low, high=0.08))
    decision = decide(report, comparison, config=config)
    assert decision.promoted is promoted
    assert decision.champion_bundle == "c" * 64
    assert decision.difference == 0.03
    assert f"mean AUROC +0.030, 95 % interval [{low:+.3f}, +0.080]" in decision.reason
    assert ("half the size" in decision.reason) is (promoted and config is NON_INFERIOR)


def test_the_deployed_bundle_is_not_promoted_again(report: Report) -> None:
    decision = decide(report, Comparison(report.bundle_hash), config=NON_INFERIOR)
    assert (decision.promoted, decision.reason) == (False, "already deployed.")


def test_a_deployed_bundle_that_cannot_be_scored_stays(report: Report) -> None:
    decision = decide(report, Comparison("c" * 64, problem="other pixels. Do this."), config=SUPERIOR)
    assert not decision.promoted
    assert "other pixels. Do this." in decision.reason


def test_a_leaky_model_is_never_promoted(report: Report) -> None:
    decision = decide(
        report.model_copy(update={"leaks": ("the model was trained on 3 of the 9 test patients",)}),
        None,
        config=SUPERIOR,
    )
    assert not decision.promoted
    assert "LEAKY" in decision.reason


def test_without_a_score_nothing_is_promoted(report: Report) -> None:
    decision = decide(_with_mean(report, mean=MeanScore(pathologies=())), None, config=SUPERIOR)
    assert not decision.promoted
    rare = report.headline.mean.model_copy(update={"intervals": {}, "resamples": {"auroc": 850}})
    decision = decide(_with_mean(report, mean=rare), None, config=SUPERIOR)
    assert not decision.promoted
    assert "defined in 850 of 1,000 resamples" in decision.reason
    undefined = decide(report, Comparison("c" * 64), config=SUPERIOR)
    assert not undefined.promoted
    assert "no paired difference" in undefined.reason


def _with_mean(
    report: Report, *, mean: MeanScore | None = None, auroc: float = 0, low: float = 0, high: float = 0
) -> Report:
    first, *rest = report.scores
    mean = mean or first.mean.model_copy(update={"auroc": auroc, "intervals": {"auroc": Interval(low=low, high=high)}})
    return report.model_copy(update={"scores": (first.model_copy(update={"mean": mean}), *rest)})
