from __future__ import annotations

import numpy as np
import pytest
import torch

from components.cxr.labels import BLANK, NEGATIVE, POSITIVE, UNCERTAIN, LabelPolicy
from components.cxr.model.architecture import Architecture
from components.cxr.model.network import CxrModel
from components.train.build import build_model
from components.train.config import SemiSupervised, TrainConfig
from components.train.objectives.mean_teacher import MeanTeacher
from components.train.supervision import supervision_of

STATES_SP = np.array([[NEGATIVE, POSITIVE, UNCERTAIN, BLANK], [BLANK, BLANK, BLANK, BLANK]], dtype=np.int8)
LABELED_S = np.array([True, False])


@pytest.mark.parametrize(
    ("uncertain", "blank", "counts"),
    [
        ("multiclass", "negative", [True, True, False, True]),
        ("multiclass", "ignore", [True, True, False, False]),
        ("multiclass", "unlabeled", [True, True, False, True]),
        ("ignore", "ignore", [True, True, True, False]),
        ("zeros", "ignore", [True, True, True, False]),
    ],
)
def test_what_the_policy_leaves_unused_or_calls_uncertain_is_left_out(
    uncertain: str, blank: str, counts: list[bool]
) -> None:
    policy = LabelPolicy.model_validate({"uncertain": uncertain, "blank": blank})
    consistent_SP = supervision_of(STATES_SP, LABELED_S, policy=policy).consistent_SP
    assert consistent_SP[0].tolist() == counts
    assert consistent_SP[1].all(), "a study without labels counts in every entry"


def test_the_weight_rises_to_its_peak() -> None:
    config = SemiSupervised(weight=2.0, ramp_up=0.5)
    teacher = MeanTeacher(model(), config=config, num_steps=8, autocast=torch.autocast("cpu", enabled=False))
    assert [teacher.weight(step) for step in (0, 2, 4, 7)] == [0.0, 1.0, 2.0, 2.0]


def test_the_teachers_weights_are_not_among_those_that_are_trained_or_kept() -> None:
    teacher = MeanTeacher(model(), config=SemiSupervised(), num_steps=8, autocast=torch.autocast("cpu", enabled=False))
    assert not list(teacher.parameters())
    assert not teacher.state_dict()


def model() -> CxrModel:
    encoder = {"embedding_size": 8, "hidden_sizes": [8], "depths": [1], "layer_type": "basic"}
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    architecture = Architecture.model_validate(
        {
            "vision": {"model_type": "resnet", "config": encoder},
            "text": {"model_type": "bert", "config": text | {"max_position_embeddings": 32}},
            "fusion": {"width": 16, "num_heads": 2},
            "max_tokens": 16,
        }
    )
    return build_model(TrainConfig(architecture=architecture), texts=["cough"], num_pathologies=4)[1]
