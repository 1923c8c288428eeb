"""A batch out of columns and mapped pixels is the one that its studies make one by one."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from components.cxr.bundle import load_bundle
from components.cxr.model.batch import collate
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.study_batches import StudyBatches
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Storage
from components.cxr.text.text import TextConfig


@pytest.fixture(scope="module")
def tokenizer(fitted_bundle: Storage) -> PreTrainedTokenizerBase:
    return cast(PreTrainedTokenizerBase, load_bundle(fitted_bundle).tokenizer)


@pytest.mark.parametrize("max_views", [None, 1])
@pytest.mark.parametrize("max_tokens", [16, 3])
def test_a_batch_equals_the_collated_studies(
    max_views: int | None, max_tokens: int, tiny_data: LoadedManifest, tokenizer: PreTrainedTokenizerBase
) -> None:
    studies = StudyDataset(tiny_data, splits=["train", "test"], text=TextConfig(), max_views=max_views)
    batches = StudyBatches(studies, tokenizer=tokenizer, max_tokens=max_tokens)
    rng, seen = np.random.default_rng(0), set()
    for size in (1, 1, 1, 1, 2, 7, 32, len(studies)):
        chosen = rng.permutation(len(studies))[:size].tolist()
        found = batches[chosen]
        expected = collate([studies[s] for s in chosen], tokenizer=tokenizer, max_tokens=max_tokens, size=studies.size)
        assert vars(found).keys() == vars(expected).keys()
        for name, value in vars(expected).items():
            torch.testing.assert_close(getattr(found, name), value, rtol=0, atol=0, equal_nan=True, msg=name)
        seen.add((found.films_BVHW.shape[1], found.tokens_BT.shape[1]))
        assert not found.films_BVHW[~found.film_mask_BV].any()
    assert len(seen) > 1 or (max_views, max_tokens) == (1, 3), "batches of one padding prove little"


def test_studies_without_a_text_make_a_batch(tiny_data: LoadedManifest, tokenizer: PreTrainedTokenizerBase) -> None:
    studies = StudyDataset(tiny_data, splits=["test"], text=TextConfig(sections=()))
    batch = StudyBatches(studies, tokenizer=tokenizer, max_tokens=16)[[3, 0]]
    assert batch.tokens_BT.tolist() == [[tokenizer.cls_token_id]] * 2
    assert not batch.has_text().any()
