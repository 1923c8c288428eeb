"""The one mean AUROC, against scikit-learn on rows that are picked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from components.cxr.auroc import auroc, aurocs, mean_auroc
from components.cxr.labels import BLANK


def test_it_is_sklearns_over_the_rows_that_count() -> None:
    rng = np.random.default_rng(0)
    score_NP = rng.integers(0, 20, size=(300, 5)).astype(np.float32)  # with ties
    truth_NP = rng.choice([1, 0, BLANK], size=(300, 5)).astype(np.int8)
    expected = []
    for p in range(5):
        rows = [n for n in range(300) if truth_NP[n, p] in (0, 1)]
        expected.append(roc_auc_score([truth_NP[n, p] for n in rows], [score_NP[n, p] for n in rows]))
    assert aurocs(score_NP, truth_NP) == pytest.approx(expected)
    assert mean_auroc(score_NP, truth_NP) == pytest.approx(sum(expected) / 5)


def test_a_missing_class_is_left_out_and_never_0() -> None:
    truth_NP = np.array([[1, 1, BLANK], [0, 1, BLANK], [BLANK, 1, BLANK]], dtype=np.int8)
    score_NP = np.array([[0.9, 0.1, 0.5], [0.1, 0.2, 0.5], [0.5, 0.3, 0.5]])
    assert aurocs(score_NP, truth_NP) == [1.0, None, None]
    assert mean_auroc(score_NP, truth_NP) == 1.0
    assert mean_auroc(score_NP[:, 1:], truth_NP[:, 1:]) is None
    assert auroc(score_NP[:0, 0], truth_NP[:0, 0]) is None
