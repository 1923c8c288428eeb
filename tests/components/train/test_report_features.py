"""Which texts are the same, and which studies are never told apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from components.cxr.errors import UserError
from components.train.report_features import ReportFeatures

TOLD = ["The lungs are clear.", "Large left effusion", "the lungs ARE clear", "", "Small nodule on the right.", "  "]
PATIENTS = ["a", "a", "b", "b", "c", "d"]


@pytest.fixture
def reports() -> ReportFeatures:
    return ReportFeatures(TOLD, patients=PATIENTS, seed=0)


def test_texts_that_differ_in_case_and_punctuation_are_one(reports: ReportFeatures) -> None:
    assert reports.text_S.tolist() == [0, 1, 0, -1, 2, -1]
    assert len(reports.feature_TF) == 3
    torch.testing.assert_close(reports.feature_TF.norm(dim=1), torch.ones(3))


def test_a_study_is_told_from_what_no_study_of_its_patient_has(reports: ReportFeatures) -> None:
    shown = reports.show(range(6), step=0, num_candidates=10)
    assert shown.candidate_K.tolist() == [0, 1, 2]
    assert shown.own_B.tolist() == reports.text_S.tolist()
    expected = [[0, 0, 1], [0, 0, 1], [0, 1, 1], [0, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert shown.negative_BK.int().tolist() == expected, "the fourth and sixth have no report"


def test_a_text_is_shared_where_another_patient_has_it_too(reports: ReportFeatures) -> None:
    shown = reports.show(range(6), step=0, num_candidates=10)
    assert shown.shared_B.tolist() == [True, False, True, False, False, False]
    alone = ReportFeatures(["same", "same", "other"], patients=["a", "a", "b"], seed=0)
    assert not alone.show(range(3), step=0, num_candidates=10).shared_B.any()


def test_candidates_are_distinct_and_drawn_by_seed_and_step_and_not_by_study() -> None:
    told = [f"finding {s}" for s in range(60)]
    one, other = (ReportFeatures(told, patients=told, seed=seed) for seed in (1, 2))
    first = one.show([0, 1], step=0, num_candidates=20).candidate_K
    assert len(set(first.tolist())) == 20
    assert torch.equal(one.show([5], step=0, num_candidates=20).candidate_K, first)
    assert not torch.equal(one.show([0, 1], step=1, num_candidates=20).candidate_K, first)
    assert not torch.equal(other.show([0, 1], step=0, num_candidates=20).candidate_K, first)


def test_like_reports_lie_closer_than_unlike_ones() -> None:
    told = ["large left pleural effusion", "small left pleural effusion", "the lungs are clear", "lungs are clear"]
    feature_TF = ReportFeatures(told, patients=told, seed=0).feature_TF.numpy()
    near_TT = feature_TF @ feature_TF.T
    assert near_TT[0, 1] > near_TT[0, 2] + 0.2
    assert near_TT[2, 3] > near_TT[0, 3] + 0.2
    np.testing.assert_array_equal(feature_TF, ReportFeatures(told, patients=told, seed=5).feature_TF.numpy())


@pytest.mark.parametrize("told", [[], ["", ""], ["one text", "One text."]])
def test_reports_that_do_not_differ_are_one_clean_error(told: list[str]) -> None:
    with pytest.raises(UserError, match=r"train\.report_alignment; found [01] distinct texts") as caught:
        ReportFeatures(told, patients=told, seed=0)
    assert caught.value.code == "no-reports"


def test_two_texts_of_one_word_each_are_told_apart() -> None:
    feature_TF = ReportFeatures(["effusion", "clear"], patients=["a", "b"], seed=0).feature_TF
    assert not torch.equal(feature_TF[0], feature_TF[1])
