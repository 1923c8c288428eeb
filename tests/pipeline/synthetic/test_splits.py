"""Splits by patient: shares, and positives of everything where scores are counted."""

import numpy as np
import pytest

from components.cxr.labels import PATHOLOGIES
from pipeline.synthetic.dataset import draw_readings, read_labels
from pipeline.synthetic.splits import SHARES, split_patients


@pytest.mark.parametrize("seed", [1, 7, 23])
def test_400_studies_leave_positives_of_all_14_to_test_and_validate(seed: int) -> None:
    readings = draw_readings(400, seed=seed)
    labels = read_labels(readings)
    positives = np.zeros((len(readings), len(PATHOLOGIES)), dtype=int)
    for row, patient in enumerate(readings):
        for reading in patient:
            states = labels.get((reading.study.patient.subject_id, reading.study.study_id), (None,) * 14)
            positives[row] += [state == 1 for state in states]
    split = np.array(split_patients(positives))
    assert positives[split == "test"].sum(axis=0).min() >= 5
    assert positives[split == "validate"].sum(axis=0).min() >= 2
    for name, share in SHARES.items():
        assert abs((split == name).mean() - share) < 0.07


def test_no_split_is_empty_with_three_patients() -> None:
    assert set(split_patients([[0, 1], [0, 0], [0, 0]])) == {"train", "validate", "test"}


def test_a_single_patient_is_for_training() -> None:
    assert split_patients([[1, 0]]) == ["train"]
