"""Which epoch's weights go out: the latest that validation does not show to be worse than the best."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.stats import norm
from torch import nn

from components.cxr.auroc import mean_auroc
from components.cxr.delong import mean_difference
from components.train.checkpoint import Progress
from components.train.export import keep_unless_worse, weights_to_export
from components.train.validation import Validated

NUM_PATHOLOGIES = 3


class Epochs(NamedTuple):
    """Answers of networks that come out with given AUROCs, up to chance."""

    score_ESP: npt.NDArray[np.float32]
    truth_SP: npt.NDArray[np.int8]
    patients: list[str]

    def auroc(self, epoch: int) -> float:
        found = mean_auroc(self.score_ESP[epoch], self.truth_SP)
        assert found is not None
        return found

    def lost(self, best: int, epoch: int) -> tuple[float, float]:
        found = mean_difference(self.score_ESP[best], self.score_ESP[epoch], self.truth_SP, self.patients)
        assert found is not None
        return found


def epochs(*aurocs: float, num_studies: int, patients: int | None = None) -> Epochs:
    rng = np.random.default_rng(5)
    truth_SP = rng.integers(0, 2, (num_studies, NUM_PATHOLOGIES)).astype(np.int8)
    apart = [2**0.5 * norm.ppf(auroc) for auroc in aurocs]
    score_ESP = np.stack([truth_SP * d + rng.normal(size=truth_SP.shape) for d in apart]).astype(np.float32)
    return Epochs(score_ESP, truth_SP, [f"p{s % (patients or num_studies)}" for s in range(num_studies)])


def kept(told: Epochs, *, first: int = 0, progress: Progress | None = None) -> list[bool]:
    """What each epoch's weights, which are its number, came to; the whole answers' AUROCs go down by 0.1."""
    average: Any = nn.Linear(1, 1, bias=False)
    progress, found = progress or Progress(), []
    for epoch, score_SP in enumerate(told.score_ESP, start=first):
        nn.init.constant_(average.weight, epoch)
        validated = Validated(1.0 - 0.1 * (epoch - first), told.auroc(epoch - first), score_SP)
        found.append(
            keep_unless_worse(
                progress,
                validated,
                truth_SP=told.truth_SP,
                patients=told.patients,
                epoch=epoch,
                average=average,
            )
        )
    if progress.kept_weights is not None:
        assert progress.kept_epoch is not None
        assert float(weights_to_export(progress, average)["weight"]) == progress.kept_epoch - 1, "of the same epoch"
        assert progress.kept_auroc == pytest.approx(1.0 - 0.1 * (progress.kept_epoch - 1 - first)), "its whole answer"
    return found


def test_an_epoch_that_is_shown_to_be_worse_does_not_go_out() -> None:
    told, progress = epochs(0.6, 0.9, 0.7, 0.8, num_studies=400), Progress()
    assert kept(told, progress=progress) == [True, True, False, False]
    assert (progress.kept_epoch, progress.best_network) == (2, told.auroc(1))
    assert progress.best_score_SP is not None
    assert torch.equal(progress.best_score_SP, torch.from_numpy(told.score_ESP[1]))


def test_an_epoch_that_is_not_shown_to_be_worse_goes_out() -> None:
    """Of twenty studies a difference of a few hundredths tells nothing; of four thousand, it does."""
    few, many = epochs(0.82, 0.78, num_studies=20), epochs(0.82, 0.78, num_studies=4000)
    for told, as_bad in ((few, True), (many, False)):
        lost, error = told.lost(0, 1)
        assert lost > 0
        assert (lost < error) is as_bad, "or this test shows nothing"
        assert kept(told) == [True, as_bad]


def test_one_standard_error_is_the_limit() -> None:
    """Found by moving the later epoch's answers step by step from those of the best toward noise."""
    best, noise = epochs(0.85, 0.5, num_studies=120).score_ESP
    told = epochs(0.85, 0.5, num_studies=120)
    decided = {}
    for part in np.linspace(0.0, 0.6, 25):
        between = told._replace(score_ESP=np.stack([best, (1 - part) * best + part * noise]).astype(np.float32))
        lost, error = between.lost(0, 1)
        if between.auroc(1) < between.auroc(0):
            decided[lost / error] = kept(between)[1]
    ratios = sorted(decided)
    assert 0 < ratios[0] < 0.9 < 1.1 < ratios[-1]
    assert any(0.8 < ratio < 1.0 for ratio in ratios)
    assert any(1.0 < ratio < 1.3 for ratio in ratios)
    assert all(decided[ratio] is (ratio <= 1.0) for ratio in ratios)


def test_every_epoch_is_measured_at_the_best_and_not_at_the_one_before() -> None:
    """Steps down that are each too small to be shown add up."""
    told = epochs(0.84, 0.83, 0.79, num_studies=100)
    assert all(np.less_equal(*told.lost(e, e + 1)) for e in (0, 1)), "or this test shows nothing"
    assert np.greater(*told.lost(0, 2)), "or this test shows nothing"
    assert kept(told) == [True, True, False]


def test_patients_of_several_studies_count_once() -> None:
    """The same 60 studies twice over look like 120 to whoever takes each for a patient."""
    once = epochs(0.8, 0.75, num_studies=60)
    twice = Epochs(np.tile(once.score_ESP, (1, 2, 1)), np.tile(once.truth_SP, (2, 1)), once.patients * 2)
    alone = twice._replace(patients=[f"p{s}" for s in range(120)])
    ratios = [lost / error for lost, error in (each.lost(0, 1) for each in (once, twice, alone))]
    assert ratios[0] == pytest.approx(ratios[1])
    assert ratios[0] < 1.0 < ratios[2], "or this test shows nothing"
    assert kept(twice) == kept(once) == [True, True]
    assert kept(alone) == [True, False]


def test_the_later_of_equals_goes_out() -> None:
    told = epochs(0.7, num_studies=50)
    told = told._replace(score_ESP=np.repeat(told.score_ESP, 2, axis=0))
    assert kept(told) == [True, True]


def test_the_bundle_that_training_starts_from_stays_until_an_epoch_beats_it() -> None:
    told, progress = epochs(0.82, 0.78, 0.78, num_studies=20), Progress()
    for epoch in (1, 2):
        lost, error = told.lost(0, epoch)
        assert 0 < lost < error, "or this test shows nothing"
    assert kept(told, first=-1, progress=progress) == [True, False, False]
    assert progress.kept_epoch == 0
    better = told._replace(score_ESP=told.score_ESP[[1, 0, 2]])
    assert kept(better, first=-1, progress=progress) == [False, False, False], "equal to it is not better"
    assert kept(better, first=-1) == [True, True, True]


def test_with_too_few_patients_to_tell_the_latest_goes_out() -> None:
    told = epochs(0.9, 0.6, num_studies=8)
    truth_SP = np.zeros_like(told.truth_SP)
    truth_SP[0, 0] = 1
    told = told._replace(truth_SP=truth_SP, score_ESP=np.stack([truth_SP, -truth_SP]).astype(np.float32))
    assert told.auroc(0) > told.auroc(1)
    assert kept(told) == [True, True]


def test_without_validation_the_last_weights_go_out() -> None:
    average: Any = nn.Linear(1, 1, bias=False)
    for epoch in range(3):
        nn.init.constant_(average.weight, epoch)
        assert float(weights_to_export(Progress(), average)["weight"]) == epoch
