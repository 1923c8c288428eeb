"""Folds of real films: a patient is in one alone, and scores of two folds are never compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.film_folds import LEAKING, NUM_FOLDS, OutOfFold, fold_of, out_of_fold, prepare_fold
from components.cxr.errors import UserError
from components.cxr.model.dataset import StudyDataset
from components.cxr.shards import LoadedManifest
from components.cxr.text.text import TextConfig


def test_a_patient_is_tested_in_one_fold_and_teaches_the_others(films: Path, folds: list[LoadedManifest]) -> None:
    tested: list[str] = []
    for loaded in folds:
        test, training, validation = (
            set(StudyDataset(loaded, splits=[split], text=TextConfig()).patient_ids)
            for split in ("test", "train", "validate")
        )
        assert not test & training
        assert not test & validation, "what picks the weights is no patient of the fold"
        assert not training & validation
        assert len(test | training | validation) == 30
        tested += test
    assert len(tested) == len(set(tested)) == 30


def test_folds_stay_whatever_the_table_holds() -> None:
    assert [fold_of(patient) for patient in ("1", "2", "3", "13", "27")] == [4, 4, 0, 0, 1]
    counts = np.bincount([fold_of(str(patient)) for patient in range(2000)])
    assert len(counts) == NUM_FOLDS
    assert counts.min() > 300


def test_every_film_has_its_label_and_source(films: Path, folds: list[LoadedManifest]) -> None:
    labels = out_of_fold(films, folds)
    assert labels.positives()["Effusion"] == [15, 5]
    assert labels.positives()["Mass"] == labels.positives()[LEAKING] == [15, 5]
    assert sum(map(sum, (labels.positives()[name] for name in ("No Finding", "Effusion", "Mass")))) == 60
    assert labels.scored(least=20) == ["No Finding", "Effusion", "Mass"]
    assert labels.scored("1024", least=6) == []
    for patient in set(labels.patient_S):
        assert len({fold for fold, of in zip(labels.fold_S, labels.patient_S, strict=True) if of == patient}) == 1


def test_pairs_of_two_folds_are_not_compared() -> None:
    """The second fold's scores lie far above the first's, as another training's may."""
    rng = np.random.default_rng(1)
    fold_S, truth_S = np.repeat([0, 1], 100), rng.integers(0, 2, 200)
    score_S = truth_S + rng.normal(size=200)
    labels = OutOfFold(
        ("A",), truth_S[:, None].astype(np.int8), [str(i) for i in range(200)], fold_S, np.full(200, "64")
    )
    pairs, right = 0.0, 0.0
    for fold in (0, 1):
        mine = fold_S == fold
        count = truth_S[mine].sum() * (1 - truth_S[mine]).sum()
        pairs, right = pairs + count, right + count * roc_auc_score(truth_S[mine], score_S[mine])
    moved_SP = (score_S + 50 * fold_S)[:, None]
    samples = labels.samples(moved_SP, ["A"], num=20)
    assert samples[0] == pytest.approx(right / pairs)
    assert samples == pytest.approx(labels.samples(score_S[:, None], ["A"], num=20))
    assert samples[1:].std() > 0.005


def test_resamples_draw_whole_patients_alike_for_every_arm() -> None:
    rng = np.random.default_rng(2)
    truth_SP = np.repeat(rng.integers(0, 2, (50, 2)), 4, axis=0).astype(np.int8)
    patients, fold_S = [str(i // 4) for i in range(200)], np.arange(200) // 40
    score_SP = truth_SP + rng.normal(size=(50, 2)).repeat(4, axis=0)
    whole = OutOfFold(("A", "B"), truth_SP, patients, fold_S, np.full(200, "64"))
    once = OutOfFold(("A", "B"), truth_SP[::4], patients[::4], fold_S[::4], np.full(50, "64"))
    assert whole.samples(score_SP, ["A", "B"], num=30) == pytest.approx(once.samples(score_SP[::4], ["A", "B"], num=30))
    better = whole.samples(score_SP, ["A"], num=30) - whole.samples(score_SP - 1e-6, ["A"], num=30)
    assert better == pytest.approx(0.0), "one arm twice is no difference in any resample"


def test_without_the_films_it_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no real films: .*labels.csv and images/ .*--films") as error:
        prepare_fold(tmp_path / "absent", fold=0, root=tmp_path)
    assert error.value.code == "no-real-films"
    assert "\n" not in str(error.value)
