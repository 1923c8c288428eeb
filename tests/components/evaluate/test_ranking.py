"""Metrics of an order under weights, against scikit-learn and against every threshold by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from components.evaluate.ranking import RANKING_METRICS, Ranking, ranking_of

SIZE = 80


def by_row(score: np.ndarray, positive: np.ndarray) -> Ranking:
    """Every row a patient of its own, so that weights of patients are weights of rows."""
    return ranking_of(score, positive, np.arange(len(score)), num_patients=len(score))


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_areas_are_scikit_learns_with_ties_and_weights(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    positive = rng.random(SIZE) < 0.3
    score = np.round(rng.normal(size=SIZE) + positive, decimals).astype(np.float32)
    weight = rng.integers(0, 4, size=(25, SIZE)).astype(np.float64)
    ranking = by_row(score, positive)
    found = ranking.metrics(weight.T)
    for name, reference in (("auroc", roc_auc_score), ("average_precision", average_precision_score)):
        expected = [reference(positive, score, sample_weight=row) for row in weight]
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(ranking.auroc(weight.T), found["auroc"])


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_sensitivity_at_a_specificity_is_the_best_of_all_thresholds(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    positive = rng.random(SIZE) < 0.3
    score = np.round(rng.normal(size=SIZE) + positive, decimals)
    weight = rng.integers(0, 4, size=(25, SIZE)).astype(np.float64)
    found = by_row(score, positive).metrics(weight.T)
    for r, row in enumerate(weight):
        false, true, _ = roc_curve(positive, score, sample_weight=row, drop_intermediate=False)
        for percent in (90, 95):
            level = percent / 100 - 1e-12
            at_specificity = true[1 - false >= level].max()
            assert found[f"sensitivity_at_{percent}_specificity"][r] == pytest.approx(at_specificity, abs=1e-12)
            at_sensitivity = (1 - false)[true >= level].max()
            assert found[f"specificity_at_{percent}_sensitivity"][r] == pytest.approx(at_sensitivity, abs=1e-12)


def test_exactly_one_negative_in_ten_may_be_called_positive() -> None:
    """1 - 0.9 is a little less than 0.1 in binary; the count is not."""
    score = np.array([*np.arange(10.0), 8.5])
    positive = np.array([False] * 10 + [True])
    once = np.ones((11, 1))
    found = by_row(score, positive).metrics(once)
    assert found["sensitivity_at_90_specificity"] == [1.0]
    assert found["sensitivity_at_95_specificity"] == [0.0]
    assert found["specificity_at_95_sensitivity"] == [pytest.approx(0.9)]


def test_without_a_class_everything_is_undefined() -> None:
    score, positive = np.array([0.1, 0.7, 0.4]), np.array([False, True, False])
    weight = np.array([[1, 1, 1], [1, 0, 2], [0, 3, 0]], dtype=np.float64)
    found = by_row(score, positive).metrics(weight.T)
    assert tuple(found) == RANKING_METRICS
    for name in RANKING_METRICS:
        np.testing.assert_array_equal(found[name], [1.0, np.nan, np.nan])
    for labels in (np.zeros(3, bool), np.ones(3, bool)):
        found = by_row(score, labels).metrics(weight.T)
        assert all(np.isnan(found[name]).all() for name in RANKING_METRICS)
        assert np.isnan(by_row(score, labels).auroc(weight.T)).all()


def test_a_patients_weight_counts_for_all_of_his_rows() -> None:
    rng = np.random.default_rng(3)
    positive, score = rng.random(SIZE) < 0.4, rng.normal(size=SIZE).round(1)
    patient = np.arange(SIZE) // 4
    weight = rng.integers(0, 3, size=(SIZE // 4, 6)).astype(np.float64)
    summed = ranking_of(score, positive, patient, num_patients=SIZE // 4).metrics(weight)
    spread = by_row(score, positive).metrics(weight[patient])
    for name in RANKING_METRICS:
        np.testing.assert_allclose(summed[name], spread[name], rtol=0, atol=1e-15)
