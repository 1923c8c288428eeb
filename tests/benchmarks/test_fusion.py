"""What the benchmark of fusion is made of: the exact ratio, the late fusion, the AUROC over weights."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.fusion import _late, _ratio
from benchmarks.resampled import mean_auroc, resampled
from components.cxr.labels import BLANK, PATHOLOGIES
from pipeline.synthetic.reports.indications import MAX_SYMPTOMS, SYMPTOMS

NUM_DRAWS = 500_000


def test_the_ratio_is_what_counting_finds() -> None:
    """Symptoms are drawn as an indication does; each written set is counted with and without every pathology."""
    rng = np.random.default_rng(0)
    known_SP = rng.integers(0, 2, (12, len(PATHOLOGIES)))
    names = list(SYMPTOMS)
    truth_NP = known_SP[rng.integers(len(known_SP), size=NUM_DRAWS)]
    weights_PC = np.array([[SYMPTOMS[n].causes.get(cause, 0.0) for n in names] for cause in PATHOLOGIES])
    logit_NC = np.array([SYMPTOMS[n].base for n in names]) + truth_NP @ weights_PC
    order_NC = np.where(rng.random(logit_NC.shape) < 1 / (1 + np.exp(-logit_NC)), rng.random(logit_NC.shape), 2.0)
    largest_N1 = np.sort(order_NC, axis=1)[:, MAX_SYMPTOMS - 1 : MAX_SYMPTOMS]
    written_NC = (order_NC <= largest_N1) & (order_NC < 2.0)
    codes_N = written_NC @ (1 << np.arange(len(names)))

    found, counts = np.unique(codes_N, return_counts=True)
    common = found[np.argsort(-counts)[:40]]
    written = [tuple(name for c, name in enumerate(names) if code >> c & 1) for code in common]
    assert {len(each) for each in written} >= {0, 1, 2}
    ratio_SP = _ratio(written, known_SP)
    for p in range(len(PATHOLOGIES)):
        has_N = truth_NP[:, p] == 1
        for s, code in enumerate(common):
            here_N = codes_N == code
            with_it, without = (here_N & has_N).sum(), (here_N & ~has_N).sum()
            counted = np.log(with_it / has_N.sum()) - np.log(without / (~has_N).sum())
            error = np.sqrt(1 / with_it + 1 / without)
            assert ratio_SP[s, p] == pytest.approx(counted, abs=5 * error), (PATHOLOGIES[p], written[s])
            assert error < 0.15


def test_late_fusion_is_the_mean_of_both_calibrated() -> None:
    rng = np.random.default_rng(1)
    shape = (4000, len(PATHOLOGIES))
    logit_SP = rng.normal(-0.5, 1.5, shape)
    labels_SP = (rng.random(shape) < 1 / (1 + np.exp(-logit_SP))).astype(np.int8)
    labels_SP[:1000] = BLANK
    scores = {
        "validate/labels": labels_SP.astype(np.float64),
        "validate/image+meta": 0.5 * logit_SP + 2.0,
        "validate/text": 4.0 * logit_SP,
        "validate/image": rng.normal(size=shape),
        "image": rng.normal(size=(50, shape[1])),
    }
    films_SP, text_SP = rng.normal(0, 1.5, (2, 50, shape[1]))
    scores |= {"image+meta": 0.5 * films_SP + 2.0, "text": 4.0 * text_SP}
    assert np.abs(_late(scores) - (films_SP + text_SP) / 2).max() < 0.6
    assert np.abs(_late(scores) - (films_SP + text_SP) / 2).mean() < 0.1


def test_the_weighted_auroc_is_scikit_learns() -> None:
    rng = np.random.default_rng(2)
    scores_SP = rng.integers(0, 30, (200, 3)).astype(np.float64)  # with ties
    labels_SP = rng.choice([0, 1, BLANK], p=[0.5, 0.3, 0.2], size=(200, 3)).astype(np.int8)
    weight_NS = np.stack([np.ones(200), rng.integers(0, 4, 200), rng.random(200)])
    expected = []
    for weight_S in weight_NS:
        each = []
        for scores_S, labels_S in zip(scores_SP.T, labels_SP.T, strict=True):
            known_S = labels_S != BLANK
            each.append(roc_auc_score(labels_S[known_S], scores_S[known_S], sample_weight=weight_S[known_S]))
        expected.append(np.mean(each))
    assert mean_auroc(scores_SP, labels_SP, weight_NS) == pytest.approx(expected, abs=1e-12)


def test_resamples_draw_whole_patients_and_whole_seeds() -> None:
    rng = np.random.default_rng(3)
    patient_S = np.repeat(np.arange(40), 3)
    labels_SP = np.repeat(rng.integers(0, 2, (40, 2)), 3, axis=0).astype(np.int8)
    good_SP, bad_SP = labels_SP + rng.normal(0, 0.1, labels_SP.shape), rng.normal(size=labels_SP.shape)
    of = resampled({"one": [good_SP, bad_SP], "other": [bad_SP, good_SP]}, labels_SP, patient_S)
    every = np.ones((1, len(patient_S)))
    means = [mean_auroc(scores, labels_SP, every)[0] for scores in (good_SP, bad_SP)]
    assert of[0] == pytest.approx([np.mean(means)] * 2)
    assert np.isfinite(of).all()
    same, swapped = np.isclose(of[1:, 0], of[1:, 1]), of[1:, 0] - of[1:, 1]
    assert 0.3 < same.mean() < 0.7, "both seeds once in half of the draws, and the arms share the draw"
    assert np.abs(swapped).max() > 0.3, "else one seed twice"
