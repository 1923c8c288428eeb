"""Masks of dropout depend on seed, step, study and place, and on nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.cxr.model.architecture import Architecture
from components.cxr.model.batch import Batch
from components.cxr.model.dropout import (
    KeyedDropout,
    attention,
    dropout_keys,
    film_keys,
    key_dropout,
    keyed,
    keyed_dropout,
)
from components.cxr.model.network import CxrModel
from components.train.build import build_model
from components.train.config import TrainConfig

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


def test_a_film_keeps_its_key_however_many_places_there_are() -> None:
    keys_B = dropout_keys(STUDIES, seed=0, step=3)
    few, many = film_keys(keys_B, 2), film_keys(keys_B, 5)
    assert few is not None
    assert many is not None
    assert torch.equal(many.reshape(4, 5)[:, :2], few.reshape(4, 2))
    assert len({*many.tolist(), *keys_B.tolist()}) == 24, "every film has its own, and none its study's"
    assert film_keys(None, 3) is None


def test_a_column_keeps_its_mask_by_its_number() -> None:
    columns_C = torch.tensor([2, 0, 4, 8, 1, 5, 3, 7])
    x = torch.ones(4, 6, 8)
    with keyed(dropout_keys(STUDIES, seed=0, step=3)):
        y = keyed_dropout(x, p=0.5, place=1, columns_C=columns_C)
        chosen = torch.tensor([6, 0, 3])
        assert torch.equal(keyed_dropout(x[..., :3], p=0.5, place=1, columns_C=columns_C[chosen]), y[..., chosen])
    masks = {tuple(mask) for mask in (y == 0).flatten(0, 1).T.tolist()}
    assert len(masks) == 8


def test_keys_in_the_middle_that_are_masked_change_no_attention() -> None:
    query, key, value = torch.randn(3, 4, 2, 5, 8)
    columns_K, mask = torch.tensor([2, 0, 4, 1, 3]), torch.tensor([True, True, False, True, True])
    with keyed(dropout_keys(STUDIES, seed=0, step=3)):
        padded = attention(query, key, value, mask=mask, p=0.4, place=1, columns_K=columns_K)
        bare = attention(
            query, key[:, :, mask], value[:, :, mask], mask=None, p=0.4, place=1, columns_K=columns_K[mask]
        )
    torch.testing.assert_close(padded, bare)


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


WORDS = ["cough and fever", "chest pain", "shortness of breath since two days and nights", "fall"]


@pytest.fixture(scope="module")
def network() -> tuple[CxrModel, Batch]:
    """A network with dropout in encoder and fusion, and four studies of one or two films and texts of other lengths."""
    torch.manual_seed(0)
    encoder = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    text = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    architecture = Architecture.model_validate(
        {
            "vision": {"model_type": "resnet", "config": encoder},
            "text": {"model_type": "bert", "config": text},
            "fusion": {"kind": "concat"},
        }
    )
    _, model, tokenizer = build_model(
        TrainConfig(architecture=architecture), texts=WORDS * 3, film_size=64, num_pathologies=3
    )
    tokens = tokenizer(WORDS, padding=True, return_tensors="pt")
    batch = Batch(
        films_BVHW=torch.randint(0, 256, (4, 2, 32, 32), dtype=torch.uint8),
        film_mask_BV=torch.tensor([[True, True], [True, False], [True, False], [True, True]]),
        view_BV=torch.ones(4, 2, dtype=torch.int64),
        tokens_BT=tokens["input_ids"],
        token_mask_BT=tokens["attention_mask"].bool(),
        age_B=torch.full((4,), 60.0),
        sex_B=torch.ones(4, dtype=torch.int64),
    )
    return model.train(), batch


@torch.no_grad()
def test_a_study_in_training_answers_alone_as_beside_longer_texts_and_more_films(
    network: tuple[CxrModel, Batch],
) -> None:
    model, batch = network
    keys_B = dropout_keys(STUDIES, seed=0, step=5)
    together_BP3 = model(batch, keys_B)
    assert not torch.allclose(together_BP3, model(batch, dropout_keys(STUDIES, seed=0, step=6)), atol=1e-2)
    for row in range(len(batch)):
        alone = batch.rows(slice(row, row + 1))
        num_tokens, num_films = int(batch.token_mask_BT[row].sum()), int(batch.film_mask_BV[row].sum())
        short = replace(
            alone,
            films_BVHW=alone.films_BVHW[:, :num_films],
            film_mask_BV=alone.film_mask_BV[:, :num_films],
            view_BV=alone.view_BV[:, :num_films],
            tokens_BT=alone.tokens_BT[:, :num_tokens],
            token_mask_BT=alone.token_mask_BT[:, :num_tokens],
        )
        torch.testing.assert_close(model(short, keys_B[row : row + 1])[0], together_BP3[row], atol=1e-5, rtol=0)


@torch.no_grad()
def test_answers_spread_as_they_do_with_torchs_own_dropout(network: tuple[CxrModel, Batch]) -> None:
    model, batch = network
    keyed_NBP3 = torch.stack([model(batch, dropout_keys(STUDIES, seed=0, step=step)) for step in range(150)])
    torchs_NBP3 = torch.stack([model(batch) for _ in range(150)])
    error_BP3 = ((keyed_NBP3.var(dim=0) + torchs_NBP3.var(dim=0)) / 150).sqrt()
    assert ((keyed_NBP3.mean(dim=0) - torchs_NBP3.mean(dim=0)).abs() / error_BP3).max() < 4.5
    assert (keyed_NBP3.std(dim=0) / torchs_NBP3.std(dim=0)).mean() == pytest.approx(1.0, abs=0.12)


def test_no_dropout_of_the_network_is_left_to_torch(network: tuple[CxrModel, Batch]) -> None:
    kinds = [type(module) for module in network[0].modules()]
    assert KeyedDropout in kinds
    assert nn.Dropout not in kinds
