"""The index's chance distribution is the known one, and drift raises it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import chi2
from typer.testing import CliRunner

from benchmarks import drift_alarms


def test_without_drift_the_index_is_a_scaled_chi_squared() -> None:
    """Yurdakul 2018: with ten places, (1/n + 1/m) times a chi-squared with nine degrees; patients widen it a little."""
    index_DP = drift_alarms.indices(1_000, 1_000, 0.0, draws=30)
    assert index_DP.shape == (30, drift_alarms.PATHOLOGIES)
    scale = 2 / 1_000
    assert np.mean(index_DP) == pytest.approx(9 * scale, rel=0.25)
    assert np.quantile(index_DP, 0.95) == pytest.approx(chi2.ppf(0.95, 9) * scale, rel=0.3)


def test_drift_of_a_quarter_of_a_standard_deviation_raises_it() -> None:
    still, moved = (drift_alarms.indices(1_000, 1_000, shift, draws=10) for shift in (0.0, 0.25))
    assert moved.min() > np.median(still)


def test_shares_above_the_limits_are_counted() -> None:
    index_DP = np.array([[0.05, 0.05], [0.15, 0.05], [0.3, 0.3], [0.05, 0.05]])
    found = drift_alarms.alarms(index_DP, chance=0.01)
    assert {name: share[0] for name, share in found["any_above"].items()} == {"0.1": 0.5, "0.25": 0.25, "chance": 1.0}
    low, high = found["any_above"]["0.25"][1:]
    assert low < 0.25 < high
    assert found["median"] == 0.05


def test_it_ends_with_a_line_of_json() -> None:
    app = drift_alarms.typer.Typer()
    app.command()(drift_alarms.main)
    options = ["--validation", "100", "--answers", "100", "--shift", "0", "--draws", "3"]
    lines = CliRunner().invoke(app, options, catch_exceptions=False).stdout.splitlines()
    (row,) = json.loads(lines[-1])["rows"]
    assert (row["validation"], row["answers"], row["shift"]) == (100, 100, 0.0)
    assert f"{row['median']:.3f}" in lines[1]
