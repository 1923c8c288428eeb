"""Scores by hand and against scikit-learn; undefined is None."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from components.cxr.labels import BLANK
from components.cxr.operating_points import Calibration, OperatingPoint
from components.cxr.report import Interval, PathologyScore
from components.evaluate.metrics import expected_calibration_error, mean_score, pathology_score

NO_RESAMPLES = np.array([np.nan])
PATIENTS = [f"p{i // 2}" for i in range(30)]
"""Two rows each."""
HALF = OperatingPoint(threshold=0.5)


def scored(
    score: np.ndarray, truth: np.ndarray, point: OperatingPoint = HALF, *, auroc_R: np.ndarray = NO_RESAMPLES
) -> PathologyScore:
    return pathology_score(score, truth, point, patients=PATIENTS[: len(truth)], auroc_R=auroc_R)


def test_counts_and_rates_by_hand() -> None:
    """Probability is the sigmoid of the score; the cut at 0.5 is the cut of the score at 0."""
    score = np.array([2.0, 1.0, -1.0, 3.0, -2.0, -3.0, 9.0])
    truth = np.array([1, 1, 1, 0, 0, 0, BLANK], dtype=np.int8)
    found = scored(score, truth, auroc_R=np.array([0.5, 0.6, 0.7]))
    assert (found.positives, found.negatives, found.unknown) == (3, 3, 1)
    assert (found.positive_patients, found.negative_patients) == (2, 2), "the second has one row of each"
    assert found.low_support
    assert found.auroc_resamples == 3
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.precision == pytest.approx(2 / 3)
    assert found.recall == pytest.approx(2 / 3)
    assert found.f1 == pytest.approx(2 / 3)
    assert found.auroc == pytest.approx(roc_auc_score(truth[:6], score[:6]))
    assert found.average_precision == pytest.approx(average_precision_score(truth[:6], score[:6]))
    assert found.auroc_ci == Interval(low=0.505, high=0.695)


def test_the_threshold_is_on_the_calibrated_probability() -> None:
    point = OperatingPoint(threshold=0.5, calibration=Calibration(slope=1.0, intercept=-5.0))
    found = pathology_score(
        np.array([4.0, 6.0]), np.array([1, 1], np.int8), point, patients=PATIENTS[:2], auroc_R=NO_RESAMPLES
    )
    assert found.recall == 0.5


def test_without_positives_what_needs_them_is_none() -> None:
    score, truth = np.array([-1.0, -2.0]), np.array([0, 0], np.int8)
    found = scored(score, truth)
    undefined = ("auroc", "auroc_ci", "average_precision", "precision", "recall", "f1")
    assert [getattr(found, name) for name in undefined] == [None] * len(undefined)
    assert found.accuracy == 1.0


def test_without_a_positive_answer_precision_is_none_and_f1_is_zero() -> None:
    score, truth = np.array([-1.0, -2.0]), np.array([1, 0], np.int8)
    found = scored(score, truth)
    assert (found.precision, found.recall, found.f1) == (None, 0.0, 0.0)


def test_without_any_known_study_everything_is_none() -> None:
    found = pathology_score(
        np.array([1.0]),
        np.array([BLANK], np.int8),
        OperatingPoint(threshold=0.5),
        patients=PATIENTS[:1],
        auroc_R=NO_RESAMPLES,
    )
    counts = {"positives": 0, "negatives": 0, "unknown": 1, "threshold": 0.5}
    counts |= {"positive_patients": 0, "negative_patients": 0, "auroc_resamples": 0}
    assert {name: value for name, value in found.model_dump().items() if value is not None} == counts


def test_calibration_error_by_hand() -> None:
    """Two bins: 0.8 said and 0.5 seen for two studies, 0.1 said and 0 seen for two: (0.3 * 2 + 0.1 * 2) / 4."""
    probability, positive = np.array([0.85, 0.85 - 0.1, 0.1, 0.1]), np.array([True, False, False, False])
    expected = (abs(0.85 - 1) + abs(0.75 - 0) + abs(0.1) * 2) / 4
    assert expected_calibration_error(probability, positive) == pytest.approx(expected)
    together = expected_calibration_error(np.array([0.81, 0.89, 0.15, 0.19]), positive)
    assert together == pytest.approx((abs(0.81 + 0.89 - 1) + 0.15 + 0.19) / 4)


def test_a_probability_of_one_is_in_the_last_bin() -> None:
    assert expected_calibration_error(np.array([1.0, 0.95]), np.array([True, True])) == pytest.approx(0.025)


def test_means_are_over_the_defined_part_of_the_headline() -> None:
    rng = np.random.default_rng(0)
    names = ("Edema", "Fracture", "Pneumonia")
    truth = (rng.random((30, 3)) < 0.5).astype(np.int8)
    truth[:, 1] = 0
    score = rng.normal(size=(30, 3))
    auroc_RP = rng.random((100, 3))
    scores = {
        name: pathology_score(
            score[:, p], truth[:, p], OperatingPoint(threshold=0.5), patients=PATIENTS, auroc_R=auroc_RP[:, p]
        )
        for p, name in enumerate(names)
    }
    found = mean_score(scores, headline=("Edema", "Fracture"), pathologies=names, auroc_RP=auroc_RP)
    assert found.pathologies == ("Edema",)
    assert found.auroc == scores["Edema"].auroc
    assert found.auroc_ci == scores["Edema"].auroc_ci
    every = mean_score(scores, headline=names, pathologies=names, auroc_RP=auroc_RP)
    assert every.pathologies == ("Edema", "Pneumonia")
    assert every.f1 == pytest.approx(np.mean([scores["Edema"].f1, scores["Pneumonia"].f1]))
    auroc_RP[:11, 2] = np.nan  # the rare one's class is missing in 11 of 100
    rare = mean_score(scores, headline=names, pathologies=names, auroc_RP=auroc_RP)
    assert (rare.auroc, rare.auroc_ci, rare.auroc_resamples) == (every.auroc, None, 89)
    none = mean_score(scores, headline=("Fracture",), pathologies=names, auroc_RP=auroc_RP)
    assert (none.pathologies, none.auroc, none.auroc_ci, none.f1) == ((), None, None, None)


@pytest.mark.parametrize(("count", "few"), [(9, True), (10, False)])
def test_support_is_counted_in_patients(count: int, few: bool) -> None:
    truth = np.array([1] * 30 + [0] * 30, np.int8)
    patients = [f"p{i % count}" for i in range(30)] + [f"n{i}" for i in range(30)]
    score = np.arange(60.0)
    for labels in (truth, 1 - truth):
        found = pathology_score(score, labels, HALF, patients=patients, auroc_R=NO_RESAMPLES)
        assert found.low_support == few
