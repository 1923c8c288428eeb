"""Every way a decision can go."""

from __future__ import annotations

from typing import Any

import pytest

from components.cxr.report import Difference, Interval, MeanScore, Report
from components.evaluate.config import PromotionConfig
from components.evaluate.promotion import Comparison, checks_of, decide

SUPERIOR = PromotionConfig()
NON_INFERIOR = PromotionConfig(policy="non_inferior", margin=0.02, reason="half the size")
FORCED = PromotionConfig(force=True, reason="a list of 20 findings")


def test_the_first_model_must_beat_chance(report: Report) -> None:
    decision = decide(report, None, config=SUPERIOR)
    assert (decision.promoted, decision.verdict) == (True, "first")
    assert decision.reason == (
        "nothing is deployed yet, and the model is better than chance: mean AUROC 0.900, 95 % interval [0.850, 0.950]."
    )
    assert decision.challenger_bundle == report.bundle_hash
    assert decision.champion_bundle is None
    guessing = decide(_with_mean(report, auroc=0.55, low=0.5, high=0.6), None, config=SUPERIOR)
    assert (guessing.promoted, guessing.verdict) == (False, "below_floor")
    assert "not shown to be better than chance" in guessing.reason


@pytest.mark.parametrize(("floor", "promoted"), [(0.849, True), (0.85, False), (0.9, False)])
def test_the_floor_of_a_first_model_is_configured(report: Report, floor: float, promoted: bool) -> None:
    decision = decide(report, None, config=PromotionConfig(min_auroc=floor))
    assert decision.promoted is promoted
    assert f"better than {floor:g}: mean AUROC 0.900" in decision.reason
    (check,) = decision.checks
    assert (check.name, check.value, check.bound, check.passed) == ("floor", 0.9, floor, promoted)


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
    decision = decide(report, _comparison(mean=_difference(0.03, low, 0.08)), config=config)
    assert decision.promoted is promoted
    assert decision.verdict == (config.policy if promoted else "not_shown")
    assert decision.champion_bundle == "c" * 64
    assert decision.difference == 0.03
    assert f"mean AUROC +0.030, 95 % interval [{low:+.3f}, +0.080]" in decision.reason
    assert ("half the size" in decision.reason) is (promoted and config is NON_INFERIOR)


@pytest.mark.parametrize(("low", "promoted"), [(-0.019, True), (-0.02, False), (-0.04, False)])
def test_films_alone_must_be_shown_to_lose_little(report: Report, low: float, promoted: bool) -> None:
    """Better with everything and not on films: it guesses better from the text."""
    decision = decide(report, _comparison(films=_difference(0.01, low, 0.04)), config=SUPERIOR)
    assert decision.promoted is promoted
    assert decision.verdict == ("superior" if promoted else "vetoed")
    if not promoted:
        assert "but on films alone it is not shown to lose less than 0.02 (+0.010, 95 % interval" in decision.reason


@pytest.mark.parametrize(
    ("found", "promoted"),
    [
        ((-0.06, -0.11, -0.01), False),
        ((-0.06, -0.13, 0.01), True),  # a loss that is not shown
        ((-0.04, -0.06, -0.02), True),  # shown, and small
    ],
)
def test_a_pathology_that_is_shown_to_lose_much_stops_the_promotion(
    report: Report, found: tuple[float, float, float], promoted: bool
) -> None:
    comparison = _comparison(pathologies={"Edema": _difference(0.1, 0.05, 0.15), "Fracture": _difference(*found)})
    decision = decide(report, comparison, config=SUPERIOR)
    assert decision.promoted is promoted
    assert ("Fracture loses more than 0.05 (-0.060, 95 % interval [-0.110, -0.010])" in decision.reason) is not promoted
    assert "Edema" not in decision.reason
    assert decide(report, comparison, config=PromotionConfig(max_pathology_drop=0.1)).promoted


def test_a_subgroup_that_is_shown_to_lose_much_stops_the_promotion(report: Report) -> None:
    groups = {"sex: female": _difference(0.1, 0.05, 0.15), "sex: male": _difference(-0.06, -0.11, -0.01)}
    decision = decide(report, _comparison(subgroups=groups), config=SUPERIOR)
    assert decision.verdict == "vetoed"
    assert "but sex: male loses more than 0.05 (-0.060, 95 % interval [-0.110, -0.010])." in decision.reason
    assert decide(report, _comparison(subgroups=groups), config=PromotionConfig(max_subgroup_drop=0.1)).promoted
    unshown = groups | {"sex: male": _difference(-0.06, -0.13, 0.01)}
    assert decide(report, _comparison(subgroups=unshown), config=SUPERIOR).promoted


@pytest.mark.parametrize(
    ("increase", "low", "promoted"), [(0.02, 0.01, True), (0.021, 0.01, False), (0.021, 0.0, True), (-0.3, -0.4, True)]
)
def test_calibration_must_not_be_shown_to_get_much_worse(
    report: Report, increase: float, low: float, promoted: bool
) -> None:
    decision = decide(report, _comparison(ece=_difference(increase, low, 0.5)), config=SUPERIOR)
    assert decision.promoted is promoted
    assert ("its calibration error grows by more than 0.02 (+0.021," in decision.reason) is not promoted


def test_the_decision_names_every_check_with_its_number(report: Report) -> None:
    comparison = _comparison(ece=_difference(0.5, 0.4, 0.6), films=_difference(-0.1, -0.2, 0.0))
    decision = decide(report, comparison, config=SUPERIOR)
    assert [(check.name, check.value, check.bound, check.passed) for check in decision.checks] == [
        ("mean", 0.03, 0.0, True),
        ("films", -0.1, -0.02, False),
        ("calibration", 0.5, 0.02, False),
        ("pathology/Edema", 0.02, -0.05, True),
    ]
    assert decision.reason.count(" and ") == 1, "both that failed"
    assert decision.checks == checks_of(comparison, SUPERIOR)


@pytest.mark.parametrize("name", ["films", "ece", "pathologies", "subgroups"])
def test_what_nobody_could_compute_shows_nothing(report: Report, name: str) -> None:
    """Nor does films' difference without an interval, however large."""
    undefined = Difference(difference=None, ci=None, p_value=None)
    cases: list[Any] = [undefined] if name in ("films", "ece") else [{"Edema": undefined}]
    if name == "films":
        cases.append(Difference(difference=0.1, ci=None, p_value=None))
    for case in cases:
        decision = decide(report, _comparison(**{name: case}), config=SUPERIOR)
        assert (decision.promoted, decision.verdict) == (False, "vetoed")


def test_no_further_check_makes_up_for_the_first(report: Report) -> None:
    decision = decide(report, _comparison(mean=_difference(0.0, -0.01, 0.01)), config=SUPERIOR)
    assert (decision.verdict, [check.passed for check in decision.checks]) == ("not_shown", [False, True, True, True])


def test_the_deployed_bundle_is_not_promoted_again(report: Report) -> None:
    decision = decide(report, Comparison(report.bundle_hash), config=NON_INFERIOR)
    assert (decision.verdict, decision.reason) == ("deployed", "already deployed.")
    assert not decision.promoted


def test_what_cannot_be_compared_stays_unless_forced(report: Report) -> None:
    other = Comparison("c" * 64, problem="data and bundle have different pathologies. Do this.")
    decision = decide(report, other, config=SUPERIOR)
    assert (decision.promoted, decision.verdict) == (False, "incomparable")
    assert "different pathologies. Do this." in decision.reason
    forced = decide(report, other, config=FORCED)
    assert (forced.promoted, forced.verdict) == (True, "forced")
    assert "force is set because: a list of 20 findings, and the model is better than chance" in forced.reason
    guessing = decide(_with_mean(report, auroc=0.55, low=0.5, high=0.6), other, config=FORCED)
    assert (guessing.promoted, guessing.verdict) == (False, "below_floor")


def test_force_helps_nothing_that_was_compared_or_leaks(report: Report) -> None:
    lost = _comparison(mean=_difference(0.0, -0.01, 0.01))
    assert decide(report, lost, config=FORCED).verdict == "not_shown"
    assert decide(report, _comparison(ece=_difference(0.5, 0.4, 0.6)), config=FORCED).verdict == "vetoed"
    assert decide(report, Comparison("c" * 64), config=FORCED).verdict == "undefined"
    leaky = report.model_copy(update={"leaks": ("it was trained on test patients",)})
    assert decide(leaky, Comparison("c" * 64, problem="other pixels."), config=FORCED).verdict == "leaky"


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


def test_earlier_decisions_are_told_where_there_was_a_judgment(report: Report) -> None:
    one = decide(report, _comparison(), config=SUPERIOR, earlier_decisions=1)
    assert one.earlier_decisions == 1
    assert one.reason.endswith("; after 1 earlier decision on these test studies.")
    assert "earlier" not in decide(report, _comparison(), config=SUPERIOR).reason
    assert "earlier" not in decide(report, Comparison(report.bundle_hash), config=SUPERIOR, earlier_decisions=3).reason


def _difference(value: float, low: float, high: float) -> Difference:
    return Difference(difference=value, ci=Interval(low=low, high=high), p_value=None)


def _comparison(**changes: Any) -> Comparison:
    """One that passes every check."""
    passing = {
        "mean": _difference(0.03, 0.01, 0.05),
        "films": _difference(0.01, -0.01, 0.03),
        "pathologies": {"Edema": _difference(0.02, -0.01, 0.05)},
        "ece": _difference(0.001, -0.002, 0.004),
    }
    return Comparison("c" * 64, **passing | changes)


def _with_mean(
    report: Report, *, mean: MeanScore | None = None, auroc: float = 0, low: float = 0, high: float = 0
) -> Report:
    first, *rest = report.scores
    mean = mean or first.mean.model_copy(update={"auroc": auroc, "intervals": {"auroc": Interval(low=low, high=high)}})
    return report.model_copy(update={"scores": (first.model_copy(update={"mean": mean}), *rest)})
