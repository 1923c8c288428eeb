from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from components.train.objectives.losses import pseudo_label_loss
from components.train.objectives.self_training import pseudo_labels


def test_pseudo_labels_have_the_prevalence_of_the_labels_and_the_order_of_the_scores() -> None:
    score_SP = np.random.default_rng(0).normal(2.0, 3.0, (200, 3)).astype(np.float32)
    unlabeled_SP = np.arange(200)[:, None] >= np.array([50, 50, 0])
    prevalence_P = np.array([0.02, 0.5, 0.9])
    pseudo_SP = pseudo_labels(score_SP, unlabeled_SP, prevalence_P)
    assert pseudo_SP.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(pseudo_SP), ~unlabeled_SP)
    np.testing.assert_allclose(np.nanmean(pseudo_SP, axis=0), prevalence_P, atol=1e-5)
    logit_U = np.log(pseudo_SP[50:, 1] / (1 - pseudo_SP[50:, 1]))
    np.testing.assert_allclose(logit_U - score_SP[50:, 1], (logit_U - score_SP[50:, 1]).mean(), atol=1e-3)


@pytest.mark.parametrize("prevalence", [0.0, 1.0])
def test_a_pathology_whose_labels_are_all_the_same_gets_none(prevalence: float) -> None:
    found_SP = pseudo_labels(np.zeros((4, 2)), np.ones((4, 2), dtype=bool), np.array([prevalence, 0.5]))
    assert np.isnan(found_SP[:, 0]).all()
    assert (found_SP[:, 1] == 0.5).all()


def test_without_unlabeled_entries_there_are_none() -> None:
    assert np.isnan(pseudo_labels(np.zeros((3, 1)), np.zeros((3, 1), dtype=bool), np.array([0.5]))).all()


def test_the_loss_is_the_entropy_toward_q_over_the_entries_that_count() -> None:
    logits_EBP3 = torch.randn(2, 3, 2, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    pseudo_BP = torch.tensor([[0.1, 0.9], [torch.nan, 0.5], [0.0, 1.0]])
    known_EB = torch.tensor([[True, True, True], [True, False, False]])
    mask_EBP = known_EB[:, :, None] & ~pseudo_BP.isnan()
    expected = torch.zeros(())
    for e in range(2):
        score_BP = logits_EBP3[e, :, :, 2] - logits_EBP3[e, :, :, 0]
        kept = mask_EBP[e]
        expected = expected + F.binary_cross_entropy(score_BP[kept].sigmoid(), pseudo_BP[kept])
    found = pseudo_label_loss(logits_EBP3, pseudo_BP, mask_EBP, mask_EBP.sum(dim=(1, 2)).float())
    torch.testing.assert_close(found, expected)
    found.backward()
    assert logits_EBP3.grad is not None
    assert logits_EBP3.grad.isfinite().all()
    assert not logits_EBP3.grad[..., 1].any(), "the uncertain logit is never pseudo-labeled"
    assert not logits_EBP3.grad[0, 1, 0].any()
    assert not logits_EBP3.grad[1, 1:].any()
