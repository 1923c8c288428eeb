"""Splits by patient: shares, and positives of everything where scores are counted."""

import numpy as np
import pytest

from pipeline.synthetic.dataset import draw_data
from pipeline.synthetic.presets import Settings
from pipeline.synthetic.tables.splits import SHARES, split_patients


@pytest.mark.parametrize("seed", [7, 23])
def test_at_the_demos_size_the_floor_leaves_15_of_each_kind_to_test(seed: int) -> None:
    drawn = draw_data(400, settings=Settings(seed=seed, prevalence="floor"))
    studies = [reading.study for patient in drawn.readings for reading in patient]
    tested = [study for study in studies if drawn.split_of[study.patient.subject_id] == "test"]
    truth = np.array([study.truth for study in tested])
    assert truth.sum(axis=0).min() >= 15
    assert (1 - truth).sum(axis=0).min() >= 15
    labels = [drawn.labels.get((study.patient.subject_id, study.study_id)) for study in tested]
    positive = np.array([[state == 1 for state in row] for row in labels if row])
    assert positive.sum(axis=0).min() >= 15
    assert (~positive).sum(axis=0).min() >= 15
    assert len(tested) > 1.5 * len({study.patient.index for study in tested})
    split = np.array(list(drawn.split_of.values()))
    for name, share in SHARES.items():
        assert abs((split == name).mean() - share) < 0.1


def test_no_split_is_empty_with_three_patients() -> None:
    assert set(split_patients([[0, 1], [0, 0], [0, 0]])) == {"train", "validate", "test"}


def test_a_single_patient_is_for_training() -> None:
    assert split_patients([[1, 0]]) == ["train"]
