"""What is drawn, and what the intervals promise."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from components.cxr.labels import BLANK
from components.evaluate.bootstrap import auroc_resamples, interval, mean_resamples, num_defined


def test_a_drawn_patient_brings_all_rows() -> None:
    """With one patient every resample is the whole set; with rows as patients it is not."""
    rng = np.random.default_rng(0)
    truth = (rng.random((60, 1)) < 0.4).astype(np.int8)
    score = (rng.normal(size=(60, 1)) + truth).astype(np.float32)
    whole = auroc_resamples(score, truth, ["p"] * 60, num_resamples=100, seed=0)
    assert np.ptp(whole) == 0.0
    assert whole[0, 0] == pytest.approx(roc_auc_score(truth[:, 0], score[:, 0]))
    assert np.ptp(auroc_resamples(score, truth, list(map(str, range(60))), num_resamples=100, seed=0)) > 0.1


def test_rows_that_the_protocol_leaves_out_do_not_count() -> None:
    rng = np.random.default_rng(1)
    truth = (rng.random((50, 2)) < 0.5).astype(np.int8)
    score = rng.normal(size=(50, 2))
    truth[:20, 1] = BLANK
    other = score.copy()
    other[:20, 1] = 100.0
    patients = [f"p{i // 2}" for i in range(50)]
    settings = {"num_resamples": 100, "seed": 3}
    found = auroc_resamples(score, truth, patients, **settings)
    np.testing.assert_array_equal(found, auroc_resamples(other, truth, patients, **settings))


def test_equal_models_have_no_difference_in_any_resample() -> None:
    rng = np.random.default_rng(2)
    truth = (rng.random((40, 3)) < 0.4).astype(np.int8)
    score = rng.normal(size=(40, 3))
    patients = [f"p{i // 3}" for i in range(40)]
    first = auroc_resamples(score, truth, patients, num_resamples=200, seed=5)
    second = auroc_resamples(2 * score + 1, truth, patients, num_resamples=200, seed=5)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, auroc_resamples(score, truth, patients, num_resamples=200, seed=6))


def test_memory_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    truth, score = (rng.random((30, 2)) < 0.5).astype(np.int8), rng.normal(size=(30, 2))
    settings = {"patients": list(map(str, range(30))), "num_resamples": 100, "seed": 0}
    whole = auroc_resamples(score, truth, **settings)
    monkeypatch.setattr("components.evaluate.bootstrap._CHUNK", 7)
    np.testing.assert_array_equal(auroc_resamples(score, truth, **settings), whole)


def test_a_resample_without_a_class_of_one_pathology_has_no_mean() -> None:
    """A mean of what is left would be of other pathologies: easier ones, where the hard one is the rare one."""
    found = mean_resamples(np.array([[0.5, 0.9], [0.6, np.nan], [np.nan, np.nan]]))
    np.testing.assert_array_equal(found, [0.7, np.nan, np.nan])


def test_an_interval_needs_nine_resamples_in_ten() -> None:
    values = np.linspace(0.6, 0.8, 20)
    values[:2] = np.nan
    found = interval(values)
    assert found is not None
    assert found.low == pytest.approx(np.percentile(values[2:], 2.5))
    values[2] = np.nan
    assert interval(values) is None
    assert num_defined(values) == 17
    assert interval(np.array([])) is None


def test_the_interval_covers_the_truth_about_95_times_in_100() -> None:
    """Binormal scores with a patient effect: 150 simulated test sets of 60 patients with 3 studies each."""
    rng = np.random.default_rng(11)
    patients = [f"p{i // 3}" for i in range(180)]
    covered = 0
    truth_auroc = 0.7602  # Phi(1 / sqrt(2)), positives one standard deviation above negatives
    for trial in range(150):
        truth = np.repeat(rng.random(60) < 0.5, 3).astype(np.int8)[:, None]
        effect = np.repeat(rng.normal(scale=np.sqrt(0.5), size=60), 3)
        score = truth[:, 0] + effect + rng.normal(scale=np.sqrt(0.5), size=180)
        found = interval(auroc_resamples(score[:, None], truth, patients, num_resamples=200, seed=trial)[:, 0])
        assert found is not None
        covered += found.low <= truth_auroc <= found.high
    assert 0.88 <= covered / 150 <= 0.99
