from __future__ import annotations

import numpy as np
import pytest
import torch

from components.cxr.shards import LoadedManifest
from components.train.config import TrainConfig
from components.train.labeled import labels_kept
from components.train.setup import Setup

PATIENTS = [f"p{number // 3:02d}" for number in range(60)]
"""20 patients of 3 studies."""


@pytest.mark.parametrize(("fraction", "num_patients"), [(0.1, 2), (0.5, 10), (1.0, 20), (0.001, 1)])
def test_a_share_of_the_patients_keeps_all_their_labels(fraction: float, num_patients: int) -> None:
    kept_S = labels_kept(PATIENTS, fraction=fraction, seed=0)
    patients = {patient for patient, kept in zip(PATIENTS, kept_S, strict=True) if kept}
    assert len(patients) == num_patients
    assert kept_S.sum() == 3 * num_patients


def test_each_seed_draws_other_patients_whatever_the_order_of_studies() -> None:
    one, again, other = (labels_kept(PATIENTS, fraction=0.3, seed=seed) for seed in (1, 1, 2))
    assert one.tolist() == again.tolist() != other.tolist()
    assert labels_kept(PATIENTS[::-1], fraction=0.3, seed=1).tolist() == one[::-1].tolist()


def test_a_larger_share_holds_the_smaller() -> None:
    """So that a curve over shares adds labels and does not exchange them."""
    small, large = (labels_kept(PATIENTS, fraction=fraction, seed=3) for fraction in (0.1, 0.5))
    assert not (small & ~large).any()


def test_no_studies_are_no_error() -> None:
    assert labels_kept([], fraction=0.1, seed=0).shape == (0,)


@pytest.mark.parametrize("method", ["none", "self-training"])
def test_a_training_uses_the_labels_of_that_share_alone(
    tiny_data: LoadedManifest, tiny_config: TrainConfig, method: str
) -> None:
    semi = tiny_config.semi_supervised.model_copy(update={"method": method})
    every = Setup(tiny_config, tiny_data, device=torch.device("cpu"))
    config = tiny_config.model_copy(update={"labeled_fraction": 0.4, "semi_supervised": semi, "batch_size": 6})
    setup = Setup(config, tiny_data, device=torch.device("cpu"))
    for part in ("training", "validation"):
        found, before = getattr(setup, part), getattr(every, part)
        patients = {p for p, kept in zip(found.patient_ids, found.labeled_S, strict=True) if kept}
        assert 0 < found.labeled_S.sum() < before.labeled_S.sum()
        assert len(patients) <= round(0.4 * len(set(found.patient_ids)))
    taught_S = setup.supervision.taught()
    np.testing.assert_array_equal(taught_S, setup.training.labeled_S)
    seen = {study for batch in setup.order.shares(epoch=0) for study in batch}
    if method == "none":
        assert taught_S[list(seen)].all(), "nothing learns from the others"
    else:
        assert not taught_S[list(seen)].all()
