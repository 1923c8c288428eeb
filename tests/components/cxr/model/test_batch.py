"""A batch: padded studies in which what is absent or hidden is masked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from components.cxr.bundle import load_bundle
from components.cxr.model.batch import Batch, Study, collate
from components.cxr.storage.storage import Storage

SIZE = 8


@pytest.fixture(scope="module")
def tokenizer(untrained_bundle: Storage) -> PreTrainedTokenizerBase:
    return load_bundle(untrained_bundle).tokenizer


@pytest.fixture(scope="module")
def batch(tokenizer: PreTrainedTokenizerBase) -> Batch:
    """One study with everything, one with films of an unknown view alone, one with text alone."""
    films = list(np.arange(3 * SIZE * SIZE, dtype=np.uint8).reshape(3, SIZE, SIZE))
    studies = [
        Study(films=films[:2], view_positions=["AP", "LL"], text="cough fever", age_years=61.5, sex="F"),
        Study(films=films[2:], view_positions=["OBLIQUE"], text="  ", age_years=None, sex=None),
        Study(films=[], view_positions=[], text="cough fever pain dyspnea cough", age_years=0.0, sex="M"),
    ]
    return collate(studies, tokenizer=tokenizer, max_tokens=4, size=SIZE)


def test_studies_are_padded_to_the_most_views_and_masked(batch: Batch) -> None:
    assert len(batch) == 3
    assert batch.films_BVHW.shape == (3, 2, SIZE, SIZE)
    assert batch.films_BVHW.dtype == torch.uint8
    assert batch.film_mask_BV.tolist() == [[True, True], [True, False], [False, False]]
    assert batch.films_BVHW[0].flatten().tolist() == [i % 256 for i in range(2 * SIZE * SIZE)]
    assert not batch.films_BVHW[~batch.film_mask_BV].any()
    assert batch.view_BV.tolist() == [[2, 3], [0, 0], [0, 0]]
    assert batch.present_N.tolist() == [0, 1, 2]


def test_texts_start_with_cls_are_cut_and_an_empty_one_is_masked(
    batch: Batch, tokenizer: PreTrainedTokenizerBase
) -> None:
    assert batch.tokens_BT.shape == (3, 4)
    assert batch.tokens_BT[:, 0].tolist() == [tokenizer.cls_token_id] * 3
    assert batch.token_mask_BT.sum(dim=1).tolist() == [3, 0, 4]
    assert batch.has_text().tolist() == [True, False, True]
    assert batch.tokens_BT[0, 1:3].tolist() == batch.tokens_BT[2, 1:3].tolist()


def test_an_age_of_zero_is_known_and_an_absent_one_is_not(batch: Batch) -> None:
    assert batch.age_B.isnan().tolist() == [False, True, False]
    assert batch.age_B[[0, 2]].tolist() == [61.5, 0.0]
    assert batch.sex_B.tolist() == [1, 0, 2]


def test_without_any_film_there_is_a_masked_one(tokenizer: PreTrainedTokenizerBase) -> None:
    """Distributed training wants every parameter in the graph."""
    study = Study(films=[], view_positions=[], text="cough", age_years=None, sex=None)
    batch = collate([study], tokenizer=tokenizer, max_tokens=4, size=SIZE)
    assert batch.films_BVHW.shape == (1, 1, SIZE, SIZE)
    assert not batch.film_mask_BV.any()
    assert batch.present_N.tolist() == [0]


def test_what_is_kept_is_a_studys_own(batch: Batch) -> None:
    first = torch.tensor([True, False, False])
    shown = batch.keep(image_B=~first, text_B=first, meta_B=first)
    assert shown.film_mask_BV.tolist() == [[False, False], [True, False], [False, False]]
    assert shown.present_N.tolist() == [2]
    assert shown.has_text().tolist() == [True, False, False]
    assert shown.age_B.isnan().tolist() == [False, True, True]
    assert shown.sex_B.tolist() == [1, 0, 0]
    assert shown.view_BV.tolist() == [[2, 3], [0, 0], [0, 0]]
    hidden = batch.keep(meta_B=~first)
    assert hidden.view_BV.tolist() == [[0, 0], [0, 0], [0, 0]], "the view is metadata too"
    assert batch.film_mask_BV.sum() == 3, "and the batch itself is as it was"


def test_rows_find_their_own_films(batch: Batch) -> None:
    part = batch.rows(slice(1, 3))
    assert len(part) == 2
    assert part.present_N.tolist() == [0], "places count from the part's first study"
    assert torch.equal(part.films_BVHW, batch.films_BVHW[1:])
    assert part.sex_B.tolist() == [0, 2]
