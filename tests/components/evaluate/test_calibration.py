"""Calibration stays sensible with little data, and thresholds are the best cuts there are."""

from __future__ import annotations

import numpy as np
import pytest

from components.cxr.errors import UserError
from components.cxr.labels import BLANK
from components.cxr.operating_points import Calibration
from components.cxr.report import ThresholdRule
from components.evaluate.calibration import calibrate, choose_threshold, fit_calibration, operating_points
from components.evaluate.config import EvaluateConfig


def test_recovers_the_distortion_of_many_scores() -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(scale=2.0, size=20_000)
    positive = rng.random(20_000) < 1 / (1 + np.exp(-(0.5 * score - 1.5)))
    found = fit_calibration(score.astype(np.float32), positive)
    assert found.slope == pytest.approx(0.5, abs=0.03)
    assert found.intercept == pytest.approx(-1.5, abs=0.05)


def test_few_scores_are_shrunk_toward_the_identity() -> None:
    """Four separable studies have no finite maximum of the likelihood."""
    found = fit_calibration(np.array([-2.0, -1.0, 1.0, 2.0]), np.array([False, False, True, True]))
    assert 1.0 < found.slope < 2.0
    assert found.intercept == pytest.approx(0.0, abs=1e-4)


def test_the_slope_stays_positive_so_that_ranks_stay() -> None:
    score = np.linspace(-3, 3, 200)
    found = fit_calibration(score, score < 0)
    assert found.slope > 0
    assert (np.diff(calibrate(score, found)) > 0).all()


@pytest.mark.parametrize("positive", [[True] * 3, [False] * 3, []])
def test_one_class_gives_identity_and_half(positive: list[bool]) -> None:
    score, truth = np.arange(len(positive), dtype=np.float32), np.array(positive, dtype=bool)
    assert fit_calibration(score, truth) == Calibration(slope=1.0, intercept=0.0)
    assert choose_threshold(calibrate(score, Calibration()), truth, rule=ThresholdRule()) == 0.5


@pytest.mark.parametrize("rule", ["youden", "f1"])
def test_the_threshold_is_the_best_cut(rule: str) -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        positive = rng.random(40) < 0.3
        probability = np.round(np.clip(0.4 * positive + rng.random(40) * 0.6, 0, 1), 2)
        found = choose_threshold(probability, positive, rule=ThresholdRule(rule=rule))
        best = max(_gain(probability >= cut, positive, rule) for cut in np.linspace(0, 1.01, 203))
        assert _gain(probability >= found, positive, rule) == pytest.approx(best)
        assert found not in probability


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_a_fixed_level_is_reached_and_no_more_than_needed(level: float) -> None:
    """By hand over every cut: the most specific that is sensitive enough, and the reverse."""
    rng = np.random.default_rng(7)
    for _ in range(20):
        positive = rng.random(60) < 0.4
        probability = np.round(np.clip(0.4 * positive + rng.random(60) * 0.6, 0, 1), 2)
        cuts = np.linspace(0.005, 1.005, 201)[::2]
        sensitivity = np.array([(probability >= cut)[positive].mean() for cut in cuts])
        specificity = np.array([(probability < cut)[~positive].mean() for cut in cuts])
        for rule, reached, other in (
            ("sensitivity", sensitivity, specificity),
            ("specificity", specificity, sensitivity),
        ):
            found = choose_threshold(probability, positive, rule=ThresholdRule(rule=rule, level=level))
            answer = probability >= found
            rates = {"sensitivity": answer[positive].mean(), "specificity": (~answer)[~positive].mean()}
            assert rates.pop(rule) >= level - 1e-12
            assert rates.popitem()[1] == pytest.approx(other[reached >= level - 1e-12].max())
            assert found not in probability


def test_a_level_that_only_one_answer_for_all_reaches() -> None:
    probability, positive = np.array([0.2, 0.9]), np.array([True, False])
    sensitive = choose_threshold(probability, positive, rule=ThresholdRule(rule="sensitivity", level=0.9))
    specific = choose_threshold(probability, positive, rule=ThresholdRule(rule="specificity", level=0.9))
    assert 0 < sensitive < 0.2
    assert 0.9 < specific < 1


@pytest.mark.parametrize("values", [{"rule": "sensitivity"}, {"rule": "f1", "level": 0.9}, {"level": 0.9}])
def test_a_level_goes_with_the_rules_that_have_one(values: dict[str, object]) -> None:
    with pytest.raises(UserError, match="a level with the rules sensitivity and specificity"):
        EvaluateConfig.parse({"threshold": values}, where="evaluate")
    assert ThresholdRule(rule="specificity", level=0.95).told == "at least 95 % specificity"


def test_the_studies_behind_a_point_are_counted() -> None:
    score, truth = np.arange(6.0)[:, None], np.array([[0], [1], [0], [1], [BLANK], [1]], np.int8)
    (point,) = operating_points(score, truth, pathologies=["Edema"], rule=ThresholdRule()).values()
    assert (point.positives, point.negatives) == (3, 2)


@pytest.mark.parametrize("rule", [ThresholdRule(), ThresholdRule(rule="sensitivity", level=0.9)], ids=["j", "level"])
def test_the_threshold_is_one_of_calibrated_probabilities(rule: ThresholdRule) -> None:
    rng = np.random.default_rng(6)
    truth = (rng.random((200, 1)) < 0.2).astype(np.int8)
    score = rng.normal(size=(200, 1)) + 2.0 * truth + 3.0
    (point,) = operating_points(score, truth, pathologies=["Edema"], rule=rule).values()
    said, positive = calibrate(score[:, 0], point.calibration), truth[:, 0] == 1
    assert point.threshold == choose_threshold(said, positive, rule=rule)
    assert 0.1 < (said >= point.threshold).mean() < 0.9, "uncalibrated, nearly all would be above it or below"


def test_of_equal_cuts_the_highest() -> None:
    """Cutting above 0.2 or above 0.6 gives J = 0.5 both times."""
    probability, positive = np.array([0.2, 0.4, 0.6, 0.8]), np.array([False, True, False, True])
    assert choose_threshold(probability, positive, rule=ThresholdRule()) == pytest.approx(0.7)


def test_a_score_without_skill_is_cut_at_half() -> None:
    assert choose_threshold(np.array([0.8, 0.2]), np.array([False, True]), rule=ThresholdRule()) == 0.5
    assert choose_threshold(np.array([0.3, 0.3]), np.array([False, True]), rule=ThresholdRule()) == 0.5


def test_studies_that_the_protocol_leaves_out_change_nothing() -> None:
    rng = np.random.default_rng(5)
    score, truth = rng.normal(size=(50, 1)), (rng.random((50, 1)) < 0.5).astype(np.int8)
    found = operating_points(score, truth, pathologies=["Edema"], rule=ThresholdRule())
    more_score = np.concatenate([score, [[50.0], [-50.0]]])
    more_truth = np.concatenate([truth, np.full((2, 1), BLANK, dtype=np.int8)])
    assert operating_points(more_score, more_truth, pathologies=["Edema"], rule=ThresholdRule()) == found


def test_probabilities_of_extreme_scores_do_not_overflow() -> None:
    np.testing.assert_array_equal(calibrate(np.array([-1e4, 0.0, 1e4]), Calibration()), [0.0, 0.5, 1.0])


def _gain(answer: np.ndarray, positive: np.ndarray, rule: str) -> float:
    true, false, missed = (answer & positive).sum(), (answer & ~positive).sum(), (~answer & positive).sum()
    if rule == "f1":
        return 2 * true / (2 * true + false + missed)
    return true / positive.sum() - false / (~positive).sum()
