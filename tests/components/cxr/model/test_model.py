"""The classifier's answer depends on what is there, in whatever order and padding, and on nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from components.cxr.bundle import load_bundle
from components.cxr.model.batch import Batch, Study, collate
from components.cxr.model.network import CxrModel, positive_score, probabilities
from components.cxr.storage.storage import Storage

SIZE = 32


@pytest.fixture
def model(untrained_bundle: Storage) -> CxrModel:
    torch.manual_seed(1)
    return CxrModel(load_bundle(untrained_bundle).info.architecture, num_pathologies=4).eval()


@pytest.fixture(scope="module")
def batch(untrained_bundle: Storage) -> Batch:
    films = list(np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE), dtype=np.uint8))
    studies = [
        Study(films=films[:2], view_positions=["AP", "LATERAL"], text="cough fever", age_years=61.5, sex="F"),
        Study(films=films[2:3], view_positions=["PA"], text="", age_years=None, sex=None),
        Study(films=[], view_positions=[], text="pain", age_years=33.0, sex="M"),
    ]
    return collate(studies, tokenizer=load_bundle(untrained_bundle).tokenizer, max_tokens=16, size=SIZE)


def nothing(batch: Batch) -> Batch:
    return batch.keep(image_B=False, text_B=False, meta_B=False)


def answers(model: CxrModel, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return model(batch)


def test_a_study_has_three_logits_per_pathology_and_each_study_its_own(model: CxrModel, batch: Batch) -> None:
    logits_BP3 = answers(model, batch)
    assert logits_BP3.shape == (3, 4, 3)
    assert logits_BP3.isfinite().all()
    assert all(not torch.allclose(logits_BP3[a], logits_BP3[b], atol=1e-4) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_the_order_of_a_studys_films_does_not_matter(model: CxrModel, batch: Batch) -> None:
    turned = replace(
        batch,
        films_BVHW=batch.films_BVHW.flip(1),
        film_mask_BV=batch.film_mask_BV.flip(1),
        view_BV=batch.view_BV.flip(1),
        present_N=None,
    )
    assert torch.allclose(answers(model, turned), answers(model, batch), atol=1e-5)
    swapped = replace(batch, view_BV=batch.view_BV.flip(1))
    assert not torch.allclose(answers(model, swapped)[0], answers(model, batch)[0], atol=1e-5), "but whose view it is"


def test_padding_is_not_seen(model: CxrModel, batch: Batch) -> None:
    """Three more places for films and five for tokens, with something in them."""
    padded = replace(
        batch,
        films_BVHW=F.pad(batch.films_BVHW, (0, 0, 0, 0, 0, 3), value=200),
        film_mask_BV=F.pad(batch.film_mask_BV, (0, 3)),
        view_BV=F.pad(batch.view_BV, (0, 3), value=1),
        tokens_BT=F.pad(batch.tokens_BT, (0, 5), value=4),
        token_mask_BT=F.pad(batch.token_mask_BT, (0, 5)),
        present_N=None,
    )
    assert torch.allclose(answers(model, padded), answers(model, batch), atol=1e-5)


def test_studies_of_which_nothing_is_known_answer_alike(model: CxrModel, batch: Batch) -> None:
    logits_BP3 = answers(model, nothing(batch))
    assert logits_BP3.isfinite().all()
    assert torch.allclose(logits_BP3, logits_BP3[:1].expand_as(logits_BP3), atol=1e-6)


def test_age_and_sex_count_where_they_are_known(model: CxrModel, batch: Batch) -> None:
    other = replace(batch, age_B=batch.age_B + 30.0)
    changed = (answers(model, other) - answers(model, batch)).abs().amax(dim=(1, 2)) > 1e-5
    assert changed.tolist() == [True, False, True]
    before = answers(model, batch)
    with torch.no_grad():
        model.sex_embedding.weight[0].neg_()  # unknown
        assert torch.allclose(answers(model, batch), before, atol=1e-6)
        model.sex_embedding.weight[1].neg_()  # F
    changed = (answers(model, batch) - before).abs().amax(dim=(1, 2)) > 1e-5
    assert changed.tolist() == [True, False, False]


@pytest.mark.parametrize("shown", ["all", "nothing"])
def test_every_parameter_has_a_gradient_whatever_is_there(model: CxrModel, batch: Batch, shown: str) -> None:
    """Distributed training waits for each."""
    model.train()
    model(batch if shown == "all" else nothing(batch)).square().sum().backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_an_answer_is_one_of_negative_and_positive_with_uncertain_beside_it() -> None:
    logits_BP3 = torch.tensor([[[0.2, -1.0, 1.3], [4.0, 6.0, -2.0]]])
    weights_BP3 = logits_BP3.exp()
    positive_BP, uncertain_BP = probabilities(logits_BP3)
    assert torch.allclose(positive_BP, weights_BP3[..., 2] / (weights_BP3[..., 0] + weights_BP3[..., 2]))
    assert torch.allclose(uncertain_BP, weights_BP3[..., 1] / weights_BP3.sum(dim=-1))
    assert torch.allclose(positive_score(logits_BP3), torch.tensor([[1.1, -6.0]]))
