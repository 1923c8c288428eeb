"""The change of calibration, against the metric itself in every resample."""

from __future__ import annotations

import numpy as np
import pytest

from components.cxr.labels import BLANK
from components.evaluate.calibration_change import ece_difference
from components.evaluate.metrics import bins_of

PATIENTS = [f"p{i // 3}" for i in range(120)]


def _data(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth_SP = (rng.random((120, 2)) < 0.3).astype(np.int8)
    truth_SP[:9, 1] = BLANK
    one_SP, other_SP = rng.random((120, 2)), np.clip(0.3 + 0.2 * rng.normal(size=(120, 2)), 0, 1)
    return one_SP, other_SP, truth_SP


def _mean(values_SP: np.ndarray, truth_SP: np.ndarray) -> float:
    """Over both pathologies: by bin, the distance of mean probability and frequency, by size."""
    errors = []
    for value_S, truth_S in zip(values_SP.T, truth_SP.T, strict=True):
        known_S = truth_S != BLANK
        value_K, positive_K = value_S[known_S], truth_S[known_S] == 1
        bin_K = bins_of(value_K)
        parts = [abs(value_K[bin_K == k].sum() - positive_K[bin_K == k].sum()) for k in range(10)]
        errors.append(sum(parts) / len(value_K))
    return float(np.mean(errors))


def test_it_is_the_metrics_difference_in_the_sample_and_in_resamples() -> None:
    one_SP, other_SP, truth_SP = _data(0)
    found = ece_difference(one_SP, other_SP, truth_SP, PATIENTS, num_resamples=200, seed=3)
    assert found.difference == pytest.approx(_mean(one_SP, truth_SP) - _mean(other_SP, truth_SP))
    names, rng = np.unique(PATIENTS), np.random.default_rng(3)
    drawn_RG = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=200)
    place, by_hand = {name: g for g, name in enumerate(names)}, []
    for drawn_G in drawn_RG:
        rows = np.repeat(np.arange(120), [drawn_G[place[name]] for name in PATIENTS])
        by_hand.append(_mean(one_SP[rows], truth_SP[rows]) - _mean(other_SP[rows], truth_SP[rows]))
    low, high = np.percentile(by_hand, [2.5, 97.5])
    assert (found.ci.low, found.ci.high) == pytest.approx((low, high))


def test_equal_models_do_not_differ_in_any_resample() -> None:
    one_SP, _, truth_SP = _data(1)
    found = ece_difference(one_SP, one_SP, truth_SP, PATIENTS, num_resamples=100, seed=0)
    assert (found.difference, found.ci.low, found.ci.high) == (0.0, 0.0, 0.0)
