"""AUROC and covariance by formula against definition, published numbers, and what clustering must do."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from components.cxr.delong import Areas, areas, holm, logit_interval, mean_difference, p_value
from components.cxr.labels import BLANK


def unique(count: int) -> list[str]:
    return [f"p{i}" for i in range(count)]


def drawn(rng: np.random.Generator, count: int, *, decimals: int = 1) -> tuple[np.ndarray, np.ndarray]:
    positive = rng.random(count) < 0.4
    positive[:4] = [True, True, False, False]
    score = np.round(rng.normal(size=(2, count)) + positive, decimals)
    return score, positive


def by_definition(score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DeLong's structural components, pair by pair."""
    wins = []
    for row in score:
        against = row[positive][:, None] - row[~positive]
        wins.append((against > 0) + 0.5 * (against == 0))
    of_positives, of_negatives = np.array([w.mean(axis=1) for w in wins]), np.array([w.mean(axis=0) for w in wins])
    covariance = np.cov(of_positives) / positive.sum() + np.cov(of_negatives) / (~positive).sum()
    return np.array([w.mean() for w in wins]), covariance


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_with_one_row_per_patient_it_is_delongs_definition(decimals: int) -> None:
    score, positive = drawn(np.random.default_rng(decimals), 60, decimals=decimals)
    found = areas(score, positive, unique(60))
    assert found is not None
    auroc, covariance = by_definition(score, positive)
    np.testing.assert_allclose(found.auroc_M, auroc, rtol=1e-12)
    np.testing.assert_allclose(found.auroc_M, [roc_auc_score(positive, row) for row in score], rtol=1e-12)
    np.testing.assert_allclose(found.covariance_MM, covariance, rtol=1e-10)


def test_rows_that_repeat_a_patient_tell_nothing_new() -> None:
    """Every row twice: as rows of their own they would halve the variance; as the patients' they change nothing."""
    score, positive = drawn(np.random.default_rng(5), 80)
    once, twice = areas(score, positive, unique(80)), np.repeat(np.arange(80), 2)
    same = areas(score[:, twice], positive[twice], [f"p{i}" for i in twice])
    apart = areas(score[:, twice], positive[twice], unique(160))
    assert once is not None
    assert same is not None
    assert apart is not None
    np.testing.assert_allclose(same.auroc_M, once.auroc_M, rtol=1e-12)
    np.testing.assert_allclose(same.covariance_MM, once.covariance_MM, rtol=1e-10)
    np.testing.assert_allclose(apart.covariance_MM, once.covariance_MM / 2, rtol=0.05)


def test_the_formula_of_clusters_by_hand() -> None:
    """Obuchowski's sums for three patients with a positive and a negative row each: S10/m + S01/n + 2 S11/(mn)."""
    score = np.array([[3.0, 1.0, 2.0, 2.5, 0.5, 0.0]])
    positive = np.array([True, False] * 3)
    won, lost = np.array([1.0, 2 / 3, 1 / 3]), np.array([2 / 3, 1 / 3, 1.0])
    auroc = won.mean()
    s10 = 3 / (2 * 3) * ((won - auroc) ** 2).sum()
    s01 = 3 / (2 * 3) * ((lost - auroc) ** 2).sum()
    s11 = 3 / 2 * ((won - auroc) * (lost - auroc)).sum()
    found = areas(score, positive, ["a", "a", "b", "b", "c", "c"])
    assert found is not None
    assert found.auroc_M[0] == pytest.approx(2 / 3)
    assert found.covariance_MM[0, 0] == pytest.approx(s10 / 3 + s01 / 3 + 2 * s11 / 9)


def test_the_standard_error_is_the_spread_over_many_sets_of_clustered_rows() -> None:
    rng, found, said = np.random.default_rng(7), [], []
    patients = [f"p{i // 3}" for i in range(240)]
    for _ in range(300):
        positive = np.repeat(rng.random(80) < 0.4, 3)
        effect = np.repeat(rng.normal(size=80), 3)
        score = positive + effect + rng.normal(size=240)
        one = areas(score[None], positive, patients)
        assert one is not None
        found.append(one.auroc_M[0])
        said.append(one.covariance_MM[0, 0])
    assert np.sqrt(np.mean(said)) == pytest.approx(np.std(found), rel=0.12)


def test_differences_are_paired() -> None:
    areas_of_two = Areas(np.array([0.8, 0.7]), np.array([[0.0004, 0.0003], [0.0003, 0.0005]]))
    difference, error = areas_of_two.difference(0, 1)
    assert difference == pytest.approx(0.1)
    assert error == pytest.approx(np.sqrt(0.0004 + 0.0005 - 0.0006))
    score, positive = drawn(np.random.default_rng(1), 50)
    alike = areas(np.stack([score[0], 2 * score[0] + 1]), positive, unique(50))
    assert alike is not None
    assert alike.difference(0, 1) == (0.0, 0.0)
    assert p_value(*alike.difference(0, 1)) == 1.0


def test_too_few_patients_have_no_variance() -> None:
    score = np.array([[1.0, 2.0, 3.0, 4.0]])
    assert areas(score, np.array([False, False, True, True]), ["a", "b", "c", "c"]) is None
    assert areas(score, np.array([True, True, True, True]), unique(4)) is None
    assert areas(score[:, :0], np.array([], dtype=bool), []) is None


def test_holm_rejects_what_the_step_down_procedure_rejects() -> None:
    """From the smallest on, each against .05 over those that are left; the first that is not below ends it."""
    rng = np.random.default_rng(2)
    for _ in range(50):
        values = rng.random(8) ** 5
        rejected = set()
        for left, place in zip(range(8, 0, -1), np.argsort(values), strict=True):
            if values[place] > 0.05 / left:
                break
            rejected.add(int(place))
        assert {place for place, value in enumerate(holm(list(values))) if value <= 0.05} == rejected
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_the_interval_stays_within_0_and_1() -> None:
    found = logit_interval(0.99, 0.02)
    assert found is not None
    assert 0.5 < found.low < 0.99 < found.high < 1.0
    middle = logit_interval(0.5, 0.001)
    assert middle is not None
    assert middle.high - middle.low == pytest.approx(2 * norm.ppf(0.975) * 0.001, rel=1e-3)
    assert logit_interval(1.0, 0.0) is None


def test_the_mean_difference_of_one_pathology_is_the_difference_of_its_areas() -> None:
    score, positive = drawn(np.random.default_rng(8), 200)
    patients = [f"p{i // 2}" for i in range(200)]
    found = mean_difference(score[0, :, None], score[1, :, None], positive[:, None].astype(np.int8), patients)
    alone = areas(score, positive, patients)
    assert found is not None
    assert alone is not None
    np.testing.assert_allclose(found, alone.difference(0, 1), rtol=0.01)


def test_a_pathology_that_is_another_ones_double_tells_nothing_new() -> None:
    score, positive = drawn(np.random.default_rng(9), 200)
    truth, patients = positive[:, None].astype(np.int8), unique(200)
    once = mean_difference(score[0, :, None], score[1, :, None], truth, patients)
    one, other, truth = (np.repeat(each, 2, axis=1) for each in (score[0, :, None], score[1, :, None], truth))
    assert mean_difference(one, other, truth, patients) == pytest.approx(once)


def test_the_standard_error_of_a_mean_difference_is_that_of_many_draws() -> None:
    """Two pathologies, one of them half unlabeled, in films of the same patients."""
    found = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        truth = (rng.random((120, 2)) < 0.3).astype(np.int8)
        one = rng.normal(size=(120, 2)) + truth
        other = one + rng.normal(size=(120, 1))
        truth[:60, 1] = BLANK
        found.append(mean_difference(one, other, truth, unique(120)))
    difference, error = np.array(found).T
    assert error.mean() == pytest.approx(difference.std(), rel=0.1)
    assert 0.02 < np.mean(np.abs(difference - difference.mean()) > 1.96 * error) < 0.08


def test_a_pathology_of_one_patient_is_left_out_of_the_mean() -> None:
    score, positive = drawn(np.random.default_rng(10), 60)
    one, other, truth = (np.repeat(each[:, None], 2, axis=1) for each in (score[0], score[1], positive.astype(np.int8)))
    truth[:, 1] = [1] + [0] * 59
    alone = mean_difference(one[:, :1], other[:, :1], truth[:, :1], unique(60))
    assert mean_difference(one, other, truth, unique(60)) == alone
    assert mean_difference(one[:, 1:], other[:, 1:], truth[:, 1:], unique(60)) is None
