"""Agreement of two label sets against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import cohen_kappa_score

from components.cxr.labels import BLANK, NEGATIVE, POSITIVE, UNCERTAIN
from components.cxr.report import Agreement
from components.evaluate.agreement import agreement_of


def agree(first: list[int], second: list[int], patients: list[str] | None = None) -> Agreement:
    columns: list[npt.NDArray[np.int8]] = [np.array(states, dtype=np.int8).reshape(-1, 1) for states in (first, second)]
    names = patients or [str(i) for i in range(len(first))]
    return agreement_of(*columns, names, pathologies=["Edema"], num_resamples=300, seed=0)["Edema"]


def test_counts_and_kappa_by_hand() -> None:
    """Cohen's own kind of table: 20 both, 5 first alone, 10 second alone, 15 neither; chance is 0.5, kappa 0.4."""
    found = agree([1] * 25 + [0] * 25, [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15)
    assert (found.studies, found.both_positive, found.first_alone, found.second_alone) == (50, 20, 5, 10)
    assert found.agreement == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)
    assert found.kappa_ci is not None
    assert found.kappa_ci.low < 0.4 < found.kappa_ci.high


def test_blank_and_uncertain_are_not_positive() -> None:
    found = agree([POSITIVE, UNCERTAIN, BLANK, NEGATIVE], [POSITIVE, BLANK, NEGATIVE, UNCERTAIN])
    assert (found.agreement, found.kappa) == (1.0, 1.0)


def test_interval_is_that_of_resampled_patients() -> None:
    """The resamples' kappa is scikit-learn's of the drawn rows; a patient with many studies widens the interval."""
    rng = np.random.default_rng(3)
    first = rng.random(400) < 0.4
    second = np.where(rng.random(400) < 0.8, first, rng.random(400) < 0.4)
    alone = agree(first.astype(int).tolist(), second.astype(int).tolist())
    drawn = [rng.integers(0, 400, 400) for _ in range(300)]
    expected = np.percentile([cohen_kappa_score(first[rows], second[rows]) for rows in drawn], [2.5, 97.5])
    assert alone.kappa_ci is not None
    assert [alone.kappa_ci.low, alone.kappa_ci.high] == pytest.approx(expected.tolist(), abs=0.02)
    order = np.lexsort((second, first))
    patients = [str(i // 40) for i in range(400)]
    grouped = agree(first[order].astype(int).tolist(), second[order].astype(int).tolist(), patients)
    assert grouped.kappa == alone.kappa
    assert grouped.kappa_ci is not None
    assert grouped.kappa_ci.high - grouped.kappa_ci.low > 2 * (alone.kappa_ci.high - alone.kappa_ci.low)


@pytest.mark.parametrize(("first", "second", "agreement"), [([0, 0], [0, BLANK], 1.0), ([1, 1], [1, 1], 1.0)])
def test_without_both_classes_kappa_is_undefined(first: list[int], second: list[int], agreement: float) -> None:
    found = agree(first, second)
    assert (found.agreement, found.kappa, found.kappa_ci) == (agreement, None, None)


def test_one_set_all_positive_has_kappa_zero() -> None:
    found = agree([1, 1, 1, 1], [1, 0, 1, 0])
    assert (found.agreement, found.kappa) == (0.5, 0.0)


def test_no_study_in_common() -> None:
    found = agree([], [])
    assert (found.studies, found.agreement, found.kappa, found.kappa_ci) == (0, None, None, None)
