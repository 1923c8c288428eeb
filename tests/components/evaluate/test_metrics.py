"""Scores by hand and against scikit-learn, under any resample; undefined is None."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, t
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from components.cxr.labels import BLANK
from components.cxr.operating_points import OperatingPoint, states_of
from components.cxr.report import METRICS, Interval, PathologyScore
from components.evaluate.bootstrap import Draws, draw
from components.evaluate.metrics import Scored, mean_score, pathology_score

PATIENTS = [f"p{i // 2}" for i in range(30)]
"""Two rows each."""


def scored(
    score: np.ndarray,
    truth: np.ndarray,
    *,
    draws: Draws | None = None,
    threshold: float = 0.5,
    prevalence: float | None = None,
) -> Scored:
    """The probability is the sigmoid of the score."""
    draws = draws or draw(PATIENTS[: len(truth)], num_resamples=100, seed=0)
    probability = 1 / (1 + np.exp(-score))
    return pathology_score(
        score, truth, draws=draws, threshold=threshold, probability_N=probability, prevalence=prevalence
    )


def test_counts_and_rates_by_hand() -> None:
    """The cut at 0.5 is the cut of the score at 0."""
    score = np.array([2.0, 1.0, -1.0, 3.0, -2.0, -3.0, 9.0])
    truth = np.array([1, 1, 1, 0, 0, 0, BLANK], dtype=np.int8)
    found = scored(score, truth).score
    assert (found.positives, found.negatives, found.unknown) == (3, 3, 1)
    assert (found.positive_patients, found.negative_patients) == (2, 2), "the second has one row of each"
    assert found.low_support
    assert found.prevalence == 0.5
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.precision == found.ppv == pytest.approx(2 / 3)
    assert found.recall == pytest.approx(2 / 3)
    assert found.specificity == found.npv == pytest.approx(2 / 3)
    assert found.f1 == pytest.approx(2 / 3)
    assert found.auroc == pytest.approx(roc_auc_score(truth[:6], score[:6]))


@pytest.mark.parametrize("prevalence", [None, 0.02])
def test_every_metric_of_every_resample_is_scikit_learns(prevalence: float | None) -> None:
    """A row that is drawn k times counts k times."""
    rng = np.random.default_rng(1)
    truth = (rng.random(30) < 0.4).astype(np.int8)
    score = (rng.normal(size=30) + truth).round(1)
    probability, draws = 1 / (1 + np.exp(-score)), draw(PATIENTS, num_resamples=40, seed=2)
    resamples = scored(score, truth, draws=draws, threshold=0.6, prevalence=prevalence).resamples
    assert set(resamples) == set(METRICS)
    for r in range(40):
        rows = np.repeat(np.arange(30), draws.drawn_GR[draws.patient_N, r])
        positive, said = truth[rows] == 1, probability[rows]
        answer = said >= 0.6
        recall, specificity = recall_score(positive, answer), recall_score(~positive, ~answer)
        share = positive.mean() if prevalence is None else prevalence
        right, wrong = recall * share, (1 - specificity) * (1 - share)
        expected = {
            "auroc": roc_auc_score(positive, score[rows]),
            "average_precision": average_precision_score(positive, score[rows]),
            "accuracy": accuracy_score(positive, answer),
            "precision": precision_score(positive, answer),
            "recall": recall,
            "specificity": specificity,
            "f1": f1_score(positive, answer),
            "ppv": right / (right + wrong),
            "npv": specificity * (1 - share) / (specificity * (1 - share) + (1 - recall) * share),
            "brier": brier_score_loss(positive, said),
        }
        for name, value in expected.items():
            assert resamples[name][r] == pytest.approx(value, abs=1e-12), name


def test_the_value_lies_in_its_interval_and_the_interval_is_of_its_own_resamples() -> None:
    rng = np.random.default_rng(2)
    truth = (rng.random(300) < 0.4).astype(np.int8)
    score = rng.normal(size=300) + truth
    draws = draw([f"p{i // 2}" for i in range(300)], num_resamples=200, seed=0)
    found = scored(score, truth, draws=draws)
    assert set(found.score.intervals) == set(METRICS)
    assert found.score.resamples == {}
    few = {"recall": found.score.positive_patients, "specificity": found.score.negative_patients}
    few |= dict.fromkeys(("accuracy", "brier", "ece"), 150)
    for name in METRICS:
        count = few.get(name, min(few.values()))
        end = norm.cdf(t.ppf(0.025, count - 1) * np.sqrt(count / (count - 1)))
        assert 0.02 < end < 0.025, "a little wider than for the normal distribution"
        low, high = np.quantile(found.resamples[name], [end, 1 - end])
        assert found.score.intervals[name] == Interval(low=low, high=high)
        if name != "ece":  # resampled gaps are wider than the set's own
            assert low < getattr(found.score, name) < high


def test_the_answer_is_cut_from_the_probability_where_there_is_one() -> None:
    score, truth = np.array([4.0, 6.0, 5.0]), np.array([1, 1, 0], np.int8)
    draws = draw(PATIENTS[:3], num_resamples=10, seed=0)
    said = np.array([0.3, 0.7, 0.1])
    calibrated = pathology_score(score, truth, draws=draws, threshold=0.5, probability_N=said).score
    assert (calibrated.recall, calibrated.specificity) == (0.5, 1.0)
    raw = pathology_score(score, truth, draws=draws, threshold=4.5).score
    assert (raw.recall, raw.specificity, raw.brier, raw.ece) == (0.5, 0.0, None, None)
    ranks = pathology_score(score, truth, draws=draws).score
    assert (ranks.auroc, ranks.recall, ranks.ppv, ranks.threshold) == (0.5, None, None, None)


def test_without_positives_what_needs_them_is_none() -> None:
    found = scored(np.array([-1.0, -2.0]), np.array([0, 0], np.int8)).score
    undefined = ("auroc", "average_precision", "precision", "recall", "f1", "ppv", "sensitivity_at_90_specificity")
    assert [getattr(found, name) for name in undefined] == [None] * len(undefined)
    assert not set(undefined) & set(found.intervals)
    assert {found.resamples[name] for name in undefined} == {0}
    assert (found.accuracy, found.specificity, found.npv) == (1.0, 1.0, 1.0)


def test_without_a_positive_answer_precision_is_none_and_f1_is_zero() -> None:
    found = scored(np.array([-1.0, -2.0]), np.array([1, 0], np.int8)).score
    assert (found.precision, found.recall, found.f1) == (None, 0.0, 0.0)


def test_without_any_known_study_everything_is_none() -> None:
    found = scored(np.array([1.0]), np.array([BLANK], np.int8)).score
    expected = PathologyScore(
        threshold=0.5, positives=0, negatives=0, unknown=1, positive_patients=0, negative_patients=0,
        resamples=dict.fromkeys(METRICS, 0),
    )  # fmt: skip
    assert found == expected


def test_a_metric_that_few_resamples_define_has_no_interval() -> None:
    """Of the patients one in seven has a positive: 0.86^7 = 35 % of the resamples lack him."""
    truth = np.array([1, 1] + [0] * 12, np.int8)
    found = scored(np.arange(14.0) - 7, truth, draws=draw(PATIENTS[:14], num_resamples=1000, seed=0)).score
    assert 600 < found.resamples["auroc"] == found.resamples["recall"] < 700
    assert found.auroc is not None
    assert not {"auroc", "recall", "f1"} & set(found.intervals)
    assert "specificity" in found.intervals


def test_calibration_error_by_hand() -> None:
    """Two bins: of four studies 0.81 and 0.89 said and one of two seen, 0.15 and 0.19 said and none seen."""

    def error(probability: list[float], truth: list[int]) -> float | None:
        draws = draw(PATIENTS[: len(truth)], num_resamples=10, seed=0)
        said, labels = np.array(probability), np.array(truth, np.int8)
        return pathology_score(said, labels, draws=draws, probability_N=said).score.ece

    assert error([0.85, 0.75, 0.1, 0.1], [1, 0, 0, 0]) == pytest.approx((0.15 + 0.75 + 0.2) / 4)
    assert error([0.81, 0.89, 0.15, 0.19], [1, 0, 0, 0]) == pytest.approx((abs(0.81 + 0.89 - 1) + 0.15 + 0.19) / 4)
    assert error([1.0, 0.95], [1, 1]) == pytest.approx(0.025), "1 is in the last bin"


def test_one_patient_has_no_interval_and_no_mean_over_him_has_one() -> None:
    """All resamples of him are alike: as an interval they would say that nothing is uncertain."""
    draws = draw(["only"] * 4, num_resamples=100, seed=0)
    alone = scored(np.array([2.0, 1.0, -1.0, -2.0]), np.array([1, 0, 1, 0], dtype=np.int8), draws=draws)
    mean = mean_score({"Edema": alone}, headline=["Edema"])
    assert mean.auroc == alone.score.auroc == 0.75
    assert not alone.score.intervals
    assert not mean.intervals


def test_means_are_over_the_same_pathologies_whatever_the_metric() -> None:
    rng = np.random.default_rng(0)
    names = ("Edema", "Fracture", "Pneumonia")
    truth = (rng.random((30, 3)) < 0.5).astype(np.int8)
    truth[:, 1] = 0
    score = rng.normal(size=(30, 3))
    draws = draw(PATIENTS, num_resamples=100, seed=0)
    found = {name: scored(score[:, p], truth[:, p], draws=draws) for p, name in enumerate(names)}
    one = mean_score(found, headline=("Edema", "Fracture"))
    assert one.pathologies == ("Edema",)
    assert one.model_dump(include=set(METRICS)) == found["Edema"].score.model_dump(include=set(METRICS))
    assert set(one.intervals) == set(found["Edema"].score.intervals)
    every = mean_score(found, headline=names)
    assert every.pathologies == ("Edema", "Pneumonia")
    for name in METRICS:
        assert getattr(every, name) == pytest.approx(
            np.mean([getattr(found[p].score, name) for p in ("Edema", "Pneumonia")])
        )
    found["Pneumonia"].resamples["auroc"][:11] = np.nan  # the rare one's class is missing in 11 of 100
    rare = mean_score(found, headline=names)
    assert (rare.auroc, rare.intervals.get("auroc"), rare.resamples) == (every.auroc, None, {"auroc": 89})
    assert rare.intervals["recall"] == every.intervals["recall"]
    silent = scored(np.full(30, -9.0), truth[:, 2], draws=draws)  # no answer is positive
    partly = mean_score(found | {"Pneumonia": silent}, headline=names)
    assert (partly.pathologies, partly.precision) == (every.pathologies, None)
    assert partly.recall == pytest.approx(found["Edema"].score.recall / 2)
    none = mean_score(found, headline=("Fracture",))
    assert (none.pathologies, none.auroc, none.intervals, none.f1) == ((), None, {}, None)


@pytest.mark.parametrize(("count", "few"), [(9, True), (10, False)])
def test_support_is_counted_in_patients(count: int, few: bool) -> None:
    truth = np.array([1] * 30 + [0] * 30, np.int8)
    patients = [f"p{i % count}" for i in range(30)] + [f"n{i}" for i in range(30)]
    draws = draw(patients, num_resamples=10, seed=0)
    for labels in (truth, 1 - truth):
        assert pathology_score(np.arange(60.0), labels, draws=draws).score.low_support == few


def test_a_probability_at_the_threshold_is_positive_as_it_is_served() -> None:
    score = np.array([0.25, 0.5, 0.5, 0.75])
    draws = draw(["a", "b", "c", "d"], num_resamples=10, seed=0)
    found = pathology_score(score, np.array([0, 1, 0, 1], dtype=np.int8), draws=draws, threshold=0.5).score
    assert (found.recall, found.specificity) == (1.0, 0.5)
    points = OperatingPoint(threshold=0.5)
    assert states_of(np.zeros(4), score, np.zeros(4), points).tolist() == [0, 1, 1, 1]
