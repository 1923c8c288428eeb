"""Calibration stays sensible with little data, and thresholds are the best cuts there are."""

from __future__ import annotations

import numpy as np
import pytest

from components.cxr.labels import BLANK
from components.cxr.operating_points import Calibration
from components.evaluate.calibration import calibrate, choose_threshold, fit_calibration, operating_points


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
    assert choose_threshold(calibrate(score, Calibration()), truth, rule="youden") == 0.5


@pytest.mark.parametrize("rule", ["youden", "f1"])
def test_the_threshold_is_the_best_cut(rule: str) -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        positive = rng.random(40) < 0.3
        probability = np.round(np.clip(0.4 * positive + rng.random(40) * 0.6, 0, 1), 2)
        found = choose_threshold(probability, positive, rule=rule)
        best = max(_gain(probability >= cut, positive, rule) for cut in np.linspace(0, 1.01, 203))
        assert _gain(probability >= found, positive, rule) == pytest.approx(best)
        assert found not in probability


def test_of_equal_cuts_the_highest() -> None:
    """Cutting above 0.2 or above 0.6 gives J = 0.5 both times."""
    probability, positive = np.array([0.2, 0.4, 0.6, 0.8]), np.array([False, True, False, True])
    assert choose_threshold(probability, positive, rule="youden") == pytest.approx(0.7)


def test_a_score_without_skill_is_cut_at_half() -> None:
    assert choose_threshold(np.array([0.8, 0.2]), np.array([False, True]), rule="youden") == 0.5
    assert choose_threshold(np.array([0.3, 0.3]), np.array([False, True]), rule="youden") == 0.5


def test_studies_that_the_protocol_leaves_out_change_nothing() -> None:
    rng = np.random.default_rng(5)
    score, truth = rng.normal(size=(50, 1)), (rng.random((50, 1)) < 0.5).astype(np.int8)
    found = operating_points(score, truth, pathologies=["Edema"], rule="youden")
    more_score = np.concatenate([score, [[50.0], [-50.0]]])
    more_truth = np.concatenate([truth, np.full((2, 1), BLANK, dtype=np.int8)])
    assert operating_points(more_score, more_truth, pathologies=["Edema"], rule="youden") == found


def test_probabilities_of_extreme_scores_do_not_overflow() -> None:
    np.testing.assert_array_equal(calibrate(np.array([-1e4, 0.0, 1e4]), Calibration()), [0.0, 0.5, 1.0])


def _gain(answer: np.ndarray, positive: np.ndarray, rule: str) -> float:
    true, false, missed = (answer & positive).sum(), (answer & ~positive).sum(), (~answer & positive).sum()
    if rule == "f1":
        return 2 * true / (2 * true + false + missed)
    return true / positive.sum() - false / (~positive).sum()
