"""The simulated truth is the truth, what is counted is counted, and the docs show what is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks import promotion_draws, statistics
from benchmarks.coverage import AUROCS, MEANS, METHODS, PREVALENCES, bca_interval, coverage, draw_test_set
from components.cxr.labels import PATHOLOGIES
from components.evaluate.bootstrap import interval

REPOSITORY = Path(__file__).parents[2]


def test_simulated_sets_have_the_prevalences_and_aurocs_that_they_are_measured_by() -> None:
    drawn = draw_test_set(60_000, np.random.default_rng(0))
    assert 2.3 < len(drawn.patient_N) / 60_000 < 2.6
    assert drawn.positive_NP.mean(axis=0) == pytest.approx(PREVALENCES, rel=0.05)
    for p, auroc in enumerate(AUROCS):
        error = 0.02 if PREVALENCES[p] < 0.05 else 0.01
        assert roc_auc_score(drawn.positive_NP[:, p], drawn.score_NP[:, p]) == pytest.approx(auroc, abs=error)


def test_studies_of_a_patient_resemble_each_other() -> None:
    drawn = draw_test_set(20_000, np.random.default_rng(1))
    same_N = drawn.patient_N[1:] == drawn.patient_N[:-1]
    positive_N = drawn.positive_NP[:, 7]
    again, anyway = positive_N[1:][same_N & positive_N[:-1]].mean(), positive_N.mean()
    assert again > anyway + 0.15
    noise_N = drawn.score_NP[:, 7] - np.where(positive_N, drawn.score_NP[positive_N, 7].mean(), 0)
    assert np.corrcoef(noise_N[1:][same_N], noise_N[:-1][same_N])[0, 1] > 0.3


def test_every_set_is_counted_once() -> None:
    rows = coverage(60, num_sets=12, num_resamples=100)
    assert [row["row"] for row in rows] == [f"{100 * share:.0f} %" for share in PREVALENCES] + list(MEANS)
    for row in rows:
        for method in METHODS:
            counts = row[method]
            assert counts["supported_covered"] <= counts["supported_defined"] <= row["supported"]
            assert counts["starred_covered"] <= counts["starred_defined"] <= 12 - row["supported"]
            assert counts["supported_defined"] == row["BCa"]["supported_defined"], "all on the same sets"
    common = rows[7]
    assert common["supported"] == 12
    assert common["percentile"]["supported_covered"] >= 8
    assert "Mean of 8" in statistics.coverage_table(rows, enough=5)


def test_a_shifted_interval_of_a_symmetric_value_is_the_percentiles() -> None:
    """No bias, no skewness: Efron's correction changes nothing; a skewed influence moves both ends up."""
    value_R = np.linspace(-1.0, 1.0, 4001)
    plain, moved_G = interval(value_R), np.tile([-1.0, 1.0], 50)
    assert plain is not None
    found = bca_interval(value_R, 0.0, moved_G, reach=1.959964)
    assert (found.low, found.high) == (pytest.approx(plain.low, abs=1e-3), pytest.approx(plain.high, abs=1e-3))
    skewed = bca_interval(value_R, 0.0, np.concatenate([np.full(9, -1.0), [9.0]]), reach=1.959964)
    assert skewed.low > found.low
    assert skewed.high > found.high


def test_the_docs_show_what_is_kept() -> None:
    kept = json.loads(statistics.RESULTS.read_text())
    page = (REPOSITORY / "docs" / "evaluation.md").read_text()
    shown = "\n".join(line.rstrip() for line in statistics.coverage_table(kept["coverage"]).splitlines())
    assert f"```text\n{shown}\n```" in page
    assert {row["patients"] for row in kept["coverage"]} == {150, 300, 3000}
    assert {row["sets"] for row in kept["coverage"]} == {500}
    low, high = statistics.coverage_range(kept["coverage"])
    assert f"{low:.3f} to {high:.3f}" in page
    assert f"{kept['evaluate_s']:.0f} seconds" in page


def test_one_line_tells_everything() -> None:
    line = statistics.json_line(json.loads(statistics.RESULTS.read_text()))
    assert line["benchmark"] == "statistics"
    expected = {"benchmark", "coverage_low", "coverage_high", "evaluate_s"}
    if promotion_draws.RESULTS.exists():
        expected |= {"false_promotion", "power_0.02"} & json.loads(promotion_draws.RESULTS.read_text()).keys()
    assert set(line) == expected


def test_the_timed_evaluation_is_full_size() -> None:
    from benchmarks.evaluation_cost import FILMS, STUDIES, drawn_predictions
    from components.evaluate.predictions import PASSES, Pass

    predictions = drawn_predictions()
    assert set(predictions.scores) == set(PASSES)
    assert predictions.scores[Pass("films", "image")].score_NP.shape == (FILMS, len(PATHOLOGIES))
    assert len(predictions.test) == STUDIES
