"""Batches come in their order, however they are made ahead."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from components.cxr.bundle import load_bundle
from components.cxr.model.batch import Batch
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.study_batches import StudyBatches
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Storage
from components.cxr.text.text import TextConfig
from components.train.loading.batches import loaded
from components.train.loading.order import Order


@pytest.fixture(scope="module")
def made(tiny_data: LoadedManifest, fitted_bundle: Storage) -> StudyBatches:
    studies = StudyDataset(tiny_data, splits=["train"], text=TextConfig())
    tokenizer = cast(PreTrainedTokenizerBase, load_bundle(fitted_bundle).tokenizer)
    return StudyBatches(studies, tokenizer=tokenizer, max_tokens=16)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("num_batches", [0, 1, 7])
def test_batches_are_those_of_their_studies_however_they_are_made(
    num_workers: int, num_batches: int, made: StudyBatches, capfd: pytest.CaptureFixture[str]
) -> None:
    shares = Order(made.studies.labeled_S, batch_size=8, seed=1).shares(epoch=0)[:num_batches]
    found = list(loaded(made, shares, num_workers=num_workers))
    assert len(found) == num_batches
    for batch, studies in zip(found, shares, strict=True):
        for name, value in vars(made[studies]).items():
            torch.testing.assert_close(getattr(batch, name), value, rtol=0, atol=0, equal_nan=True, msg=name)
    assert capfd.readouterr().err == ""


def test_a_few_batches_are_made_ahead_and_no_more(made: StudyBatches, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    get = StudyBatches.__getitem__

    def recording(self: StudyBatches, studies: list[int]) -> Batch:
        asked.append(studies[0])
        return get(self, studies)

    monkeypatch.setattr(StudyBatches, "__getitem__", recording)
    batches = loaded(made, [[s] for s in range(20)])
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert asked == [0, 1, 2], "the first, and two that wait"


def test_a_failure_of_the_thread_is_that_of_the_training(made: StudyBatches) -> None:
    batches = loaded(made, [[0], [10_000], [1]])
    assert len(next(batches)) == 1
    with pytest.raises(IndexError):
        next(batches)
