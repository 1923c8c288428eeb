import pytest
import torch
from torch.nn import functional as F

from components.train.objectives.losses import supervised_loss


def test_supervised_loss_is_the_weighted_mean_over_entries_with_a_target() -> None:
    logits_BP3 = torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(0))
    target_BP = torch.tensor([[0, 1, 2], [2, -1, 0], [-1, -1, -1], [1, 1, 0]])
    weight_BP = torch.tensor([[1.0, 1.0, 1.0], [0.5, 0.0, 0.25], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    expected, total = 0.0, 0.0
    for b in range(4):
        for p in range(3):
            if target_BP[b, p] >= 0:
                entropy = -F.log_softmax(logits_BP3[b, p], dim=0)[target_BP[b, p]]
                expected += float(weight_BP[b, p] * entropy)
                total += float(weight_BP[b, p])
    target_BP3 = torch.cat([torch.zeros(1, 3), torch.eye(3)])[target_BP + 1]
    found = supervised_loss(logits_BP3[None], target_BP3, weight_BP[None], weight_BP.sum()[None])
    assert found.item() == pytest.approx(expected / total, rel=1e-5)


def test_supervised_loss_without_any_target_is_zero_and_has_a_gradient() -> None:
    logits_BP3 = torch.randn(2, 3, 3, requires_grad=True)
    loss = supervised_loss(logits_BP3[None], torch.zeros(2, 3, 3), torch.zeros(1, 2, 3), torch.zeros(1))
    loss.backward()
    assert loss.item() == 0.0
    assert logits_BP3.grad is not None
    assert not logits_BP3.grad.any()
