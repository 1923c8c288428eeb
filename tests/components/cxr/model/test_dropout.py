"""Masks of dropout depend on seed, step, study and place, and on nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.cxr.model.dropout import KeyedDropout, attention, dropout_keys, key_dropout, keyed, keyed_dropout

STUDIES = [4, 7, 11, 30]


def dropped(
    studies: list[int], *, seed: int = 0, step: int = 3, place: int = 5, tokens: int = 6, p: float = 0.3
) -> Tensor:
    """Ones after dropout, (studies, tokens, 64)."""
    with keyed(dropout_keys(studies, seed=seed, step=step)):
        return keyed_dropout(torch.ones(len(studies), tokens, 64), p=p, place=place)


def test_a_study_keeps_its_mask_whatever_stands_beside_it() -> None:
    together, reversed_ = dropped(STUDIES), dropped(STUDIES[::-1])
    assert torch.equal(together.flip(0), reversed_)
    for row, study in enumerate(STUDIES):
        assert torch.equal(dropped([study])[0], together[row])
    assert not torch.equal(together[0], together[1])


def test_padding_changes_no_mask() -> None:
    assert torch.equal(dropped(STUDIES, tokens=20)[:, :6], dropped(STUDIES, tokens=6))


@pytest.mark.parametrize("other", [{"seed": 1}, {"step": 4}, {"place": 6}])
def test_another_seed_step_or_place_gives_another_mask(other: dict[str, int]) -> None:
    assert ((dropped(STUDIES) == 0) != (dropped(STUDIES, **other) == 0)).float().mean() > 0.3  # type: ignore[arg-type]


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_the_rate_is_right_and_the_expectation_kept(p: float) -> None:
    y = dropped(list(range(100)), tokens=50, p=p)
    five_sigma = 5 * (p * (1 - p) / y.numel()) ** 0.5
    assert abs((y == 0).double().mean().item() - p) < five_sigma
    assert torch.allclose(y[y != 0], torch.tensor(1 / (1 - p)))


def test_evaluation_drops_nothing_and_every_dropout_is_replaced() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.2)))
    key_dropout(model)
    found = [module for module in model.modules() if isinstance(module, KeyedDropout)]
    assert not [module for module in model.modules() if type(module) is nn.Dropout]
    assert [module.p for module in found] == [0.5, 0.2]
    assert found[0].dropout_place != found[1].dropout_place
    x = torch.ones(2, 4)
    with keyed(dropout_keys([1, 2], seed=0, step=0)):
        assert torch.equal(found[0].eval()(x), x)


def test_without_keys_it_is_torchs() -> None:
    x = torch.ones(8, 64)
    torch.manual_seed(0)
    ours = keyed_dropout(x, p=0.5, place=1)
    torch.manual_seed(0)
    assert torch.equal(ours, F.dropout(x, 0.5))


def test_attention_without_dropout_is_torchs() -> None:
    query, key, value = torch.randn(3, 2, 2, 5, 8)
    mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    mask[1, ..., 3:] = False
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    with keyed(dropout_keys([1, 2], seed=0, step=0)):
        assert torch.equal(attention(query, key, value, mask=mask, p=0.0, place=1), expected)
        nearly = attention(query, key, value, mask=mask, p=1e-6, place=1)  # the written-out way, dropping nothing
    assert torch.allclose(nearly, expected, atol=1e-5)
