"""The third state, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from components.cxr.labels import BLANK, UNCERTAIN
from components.cxr.operating_points import OperatingPoint, states_of
from components.evaluate.config import EvaluateConfig
from components.evaluate.predictions import Rows, Scores
from components.evaluate.uncertain import uncertain_scores, with_uncertain_thresholds

CONFIG = EvaluateConfig(num_bootstrap=200)
POINTS = {"Edema": OperatingPoint(threshold=0.5), "Fracture": OperatingPoint(threshold=0.5)}


@pytest.fixture
def data() -> tuple[Scores, Rows]:
    """Of Edema every fifth label is uncertain and the model half knows it; of Fracture none is."""
    rng = np.random.default_rng(0)
    states = np.where(rng.random((400, 2)) < 0.4, 1, BLANK).astype(np.int8)
    states[::5, 0] = UNCERTAIN
    uncertain = np.clip(rng.normal(0.3, 0.15, size=(400, 2)) + 0.2 * (states == UNCERTAIN), 0.01, 0.99)
    score = rng.normal(size=(400, 2)) + 2.0 * (states == 1) - 1.0
    rows = Rows(states, np.arange(400) < 390, [f"p{i // 2}" for i in range(400)], [f"s{i}" for i in range(400)])
    return Scores(rows.studies, score.astype(np.float32), uncertain.astype(np.float32)), rows


def test_confusion_abstention_and_auroc_by_hand(data: tuple[Scores, Rows]) -> None:
    said, rows = data
    found = uncertain_scores(said, rows, POINTS, config=CONFIG)
    assert list(found) == ["Edema"], "no label of a Fracture is uncertain"
    edema, known = found["Edema"], slice(390)
    label = rows.states_NP[known, 0]
    score, uncertain = said.score_NP[known, 0].astype(float), said.uncertain_NP[known, 0].astype(float)
    positive = (1 - uncertain) / (1 + np.exp(-score))
    likeliest = np.argmax([1 - uncertain - positive, uncertain, positive], axis=0)
    answer = np.where(likeliest == 1, -1, score >= 0)
    assert (edema.uncertain, edema.uncertain_patients) == (78, 78)
    assert edema.auroc == pytest.approx(roc_auc_score(label == -1, uncertain))
    assert edema.auroc_ci.low < edema.auroc < edema.auroc_ci.high
    assert edema.abstention == pytest.approx((answer == -1).mean())
    assert 0 < edema.abstention_ci.low < edema.abstention < edema.abstention_ci.high
    for i, labeled in enumerate((-1, 0, 1)):
        for j, answered in enumerate((-1, 0, 1)):
            is_labeled = np.isin(label, (0, BLANK)) if labeled == 0 else label == labeled
            assert edema.confusion[i][j] == (is_labeled & (answer == answered)).sum()
    assert sum(map(sum, edema.confusion)) == 390


def test_the_threshold_of_uncertain_is_the_best_cut_of_validation(data: tuple[Scores, Rows]) -> None:
    said, rows = data
    chosen = with_uncertain_thresholds(POINTS, said.uncertain_NP, rows)
    assert chosen["Fracture"] == POINTS["Fracture"]
    best = chosen["Edema"].uncertain_threshold
    is_uncertain, uncertain = rows.states_NP[:390, 0] == UNCERTAIN, said.uncertain_NP[:390, 0]

    def youden(cut: float) -> float:
        return (uncertain[is_uncertain] >= cut).mean() - (uncertain[~is_uncertain] >= cut).mean()

    assert youden(best) == pytest.approx(max(youden(cut) for cut in np.unique(uncertain)))
    answer = states_of(said.score_NP[:, 0], np.zeros(400), said.uncertain_NP[:, 0], chosen["Edema"])
    np.testing.assert_array_equal(answer == UNCERTAIN, said.uncertain_NP[:, 0] >= best)


def test_few_uncertain_patients_choose_no_threshold(data: tuple[Scores, Rows]) -> None:
    said, rows = data
    states = np.where(rows.states_NP == UNCERTAIN, BLANK, rows.states_NP)
    states[:18, 0] = UNCERTAIN  # of nine patients
    assert with_uncertain_thresholds(POINTS, said.uncertain_NP, replace(rows, states_NP=states)) == POINTS


def test_patients_whom_nobody_labeled_choose_no_threshold(data: tuple[Scores, Rows]) -> None:
    """What an unlabeled row happens to hold is no label."""
    said, rows = data
    unlabeled = replace(rows, labeled_N=np.arange(400) < 40)  # eight patients with an uncertain label
    assert with_uncertain_thresholds(POINTS, said.uncertain_NP, unlabeled) == POINTS
