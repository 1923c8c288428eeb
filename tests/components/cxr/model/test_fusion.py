"""Each expert alone: what the absent text adds, what the present one adds, and whose loss reaches whose weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from components.cxr.model.architecture import Architecture
from components.cxr.model.batch import Batch, Study, collate
from components.cxr.model.network import CxrModel
from components.train.build import build_model
from components.train.config import TrainConfig

SIZE, NUM_PATHOLOGIES = 16, 3
TEXTS = ("cough and fever", "fall from a ladder", "", "chest pain since two days")


def build(kind: str) -> tuple[CxrModel, Batch]:
    """A small network in evaluation mode, and four studies, the third without text."""
    vision = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    architecture = Architecture.model_validate(
        {
            "vision": {"model_type": "resnet", "config": vision},
            "text": {"model_type": "bert", "config": text | {"max_position_embeddings": 32}},
            "fusion": {"kind": kind, "width": 16, "num_heads": 2},
            "max_tokens": 16,
        }
    )
    torch.manual_seed(0)
    config = TrainConfig(architecture=architecture)
    _, model, tokenizer = build_model(config, texts=list(TEXTS) * 3, film_size=64, num_pathologies=NUM_PATHOLOGIES)
    rng = np.random.default_rng(0)
    studies = [
        Study(
            films=[rng.integers(0, 255, (SIZE, SIZE), dtype=np.uint8)],
            view_positions=["PA"],
            text=text,
            age_years=50.0,
            sex="F",
        )
        for text in TEXTS
    ]
    if model.text_expert is not None:
        nn.init.normal_(model.text_expert.norm.bias)  # as after training
    model.start_at(torch.tensor([[-0.1, -3.0, -3.0], [-0.5, -4.0, -1.0], [-0.2, -2.0, -4.0]]))
    return model.eval(), collate(studies, tokenizer=tokenizer, max_tokens=16, size=SIZE)


@pytest.fixture
def experts() -> tuple[CxrModel, Batch]:
    return build("experts")


def test_an_absent_text_adds_exactly_nothing(experts: tuple[CxrModel, Batch]) -> None:
    model, batch = experts
    films_BP3, _, _ = model.experts(batch)
    answer_BP3 = model(batch)
    assert torch.equal(answer_BP3[2], films_BP3[2])
    assert not torch.equal(answer_BP3[0], films_BP3[0])
    with_text = [True, True, False, True]
    assert model.known(batch).tolist() == [[True] * 4, with_text, with_text]
    assert torch.equal(model(batch.keep(text_B=False)), films_BP3)


def test_the_answer_is_the_sum_of_the_logits_beyond_the_prior(experts: tuple[CxrModel, Batch]) -> None:
    model, batch = experts
    assert model.text_expert is not None
    with torch.no_grad():
        model.text_expert.scale.fill_(0.5)
    films_BP3, text_BP3, both_BP3 = model.experts(batch)
    ratio_BP3 = text_BP3 - model.text_expert.prior_P3
    torch.testing.assert_close(model(batch), films_BP3 + 0.5 * ratio_BP3)
    torch.testing.assert_close(model(batch), both_BP3)


def test_the_text_expert_sees_the_text_alone(experts: tuple[CxrModel, Batch]) -> None:
    model, batch = experts
    alone = batch.keep(image_B=False, meta_B=False)
    torch.testing.assert_close(model.experts(batch)[1], model.experts(alone)[1])
    changed = replace(batch, tokens_BT=batch.tokens_BT.flip(0), token_mask_BT=batch.token_mask_BT.flip(0))
    assert torch.equal(model.experts(batch)[0], model.experts(changed)[0])


def test_the_number_of_words_and_of_neighbors_words_does_not_scale_the_text(experts: tuple[CxrModel, Batch]) -> None:
    model, _ = experts
    assert model.text_expert is not None
    word_C = torch.randn(16)
    hidden_BTC = word_C.expand(2, 6, -1)
    mask_BT = torch.tensor([[True, True, False, False, False, False], [True] * 6])
    few_P3, many_P3 = model.text_expert(hidden_BTC, mask_BT)
    torch.testing.assert_close(few_P3, many_P3)


@pytest.mark.parametrize("expert", [0, 1, 2])
def test_each_experts_loss_reaches_its_own_weights_alone(experts: tuple[CxrModel, Batch], expert: int) -> None:
    model, batch = experts
    model.zero_grad()
    logits_BP3, known_B = model.experts(batch)[expert], model.known(batch)[expert]
    (logits_BP3 * known_B[:, None, None]).square().sum().backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    mine = [
        lambda name: not name.startswith(("text.", "text_expert.")),
        lambda name: name.startswith(("text.", "text_expert.")) and name != "text_expert.scale",
        lambda name: name == "text_expert.scale",
    ][expert]
    assert reached, "something is learned"
    assert all(map(mine, reached))


def test_both_experts_start_at_the_classes_shares(experts: tuple[CxrModel, Batch]) -> None:
    model, _ = experts
    assert model.text_expert is not None
    assert model.queries.head_bias_P3[1].tolist() == model.text_expert.prior_P3[1].tolist() == [-0.5, -4.0, -1.0]
    assert "text_expert.prior_P3" in model.state_dict(), "a bundle answers with the prior that it was trained with"


def test_concat_is_one_answer_that_reads_the_text() -> None:
    model, batch = build("concat")
    (whole_BP3,) = model.experts(batch)
    assert torch.equal(whole_BP3, model(batch))
    assert model.known(batch).tolist() == [[True] * 4]
    assert not torch.equal(model(batch)[0], model(batch.keep(text_B=False))[0])
    assert torch.equal(model(batch)[2], model(batch.keep(text_B=False))[2])


@pytest.mark.parametrize("kind", ["experts", "concat"])
def test_every_parameter_takes_part(kind: str) -> None:
    """DistributedDataParallel waits for a gradient of every parameter."""
    model, batch = build(kind)
    model.experts(batch).square().sum().backward()
    assert [name for name, p in _parameters(model) if p.grad is None] == []


def _parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return model.named_parameters()
