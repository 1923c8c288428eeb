from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from components.cxr.labels import NO_TARGET
from components.cxr.model.architecture import Architecture
from components.cxr.model.batch import Batch
from components.cxr.model.network import CxrModel
from components.train.build import build_model
from components.train.config import SemiSupervised, TrainConfig
from components.train.objectives.losses import consistency_loss, supervised_loss
from components.train.objectives.mean_teacher import MeanTeacher
from components.train.objectives.network import Objective, TrainingNetwork
from components.train.objectives.shown import Shown
from components.train.objectives.supervised import Supervised

FLOAT32 = torch.autocast("cpu", enabled=False)
BFLOAT16 = torch.autocast("cpu", torch.bfloat16)


@pytest.fixture(scope="module")
def classifier() -> CxrModel:
    torch.manual_seed(0)
    encoder = {"embedding_size": 8, "hidden_sizes": [8], "depths": [1], "layer_type": "basic"}
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    architecture = Architecture.model_validate(
        {
            "vision": {"model_type": "resnet", "config": encoder},
            "text": {"model_type": "bert", "config": text | {"max_position_embeddings": 32}},
            "fusion": {"width": 16, "num_heads": 2, "dropout": 0.3},
            "max_tokens": 16,
        }
    )
    return build_model(TrainConfig(architecture=architecture), texts=["cough"], num_pathologies=3)[1].train()


def classes(target_BP: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.zeros(1, 3), torch.eye(3)])[target_BP + 1]


@pytest.fixture(scope="module")
def shown() -> Shown:
    torch.manual_seed(1)
    student, teacher = (
        Batch(
            films_BVHW=torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8),
            film_mask_BV=torch.ones(2, 1, dtype=torch.bool),
            view_BV=torch.ones(2, 1, dtype=torch.int64),
            tokens_BT=torch.full((2, 3), 2),
            token_mask_BT=torch.ones(2, 3, dtype=torch.bool),
            age_B=torch.tensor([40.0, 70.0]),
            sex_B=torch.ones(2, dtype=torch.int64),
        )
        for _ in range(2)
    )
    return Shown(
        student=student,
        known_EB=torch.tensor([[True, True], [True, False], [True, False]]),
        dropout_B=torch.tensor([11, 12]),
        teacher=teacher,
        target_BP3=classes(torch.tensor([[0, 2, NO_TARGET], [1, NO_TARGET, 0]])),
        weight_BP=torch.tensor([[1.0, 0.5, 0.0], [1.0, 0.0, 1.0]]),
        consistent_BP=torch.tensor([[True, True, True], [False, True, False]]),
    )


def trained(classifier: CxrModel, *, teacher: CxrModel | None, autocast: torch.autocast = FLOAT32) -> TrainingNetwork:
    objectives: list[Objective] = [Supervised()]
    if teacher is not None:
        config = SemiSupervised(method="mean-teacher", weight=4.0, ramp_up=0.5)
        objectives.append(MeanTeacher(teacher, config=config, num_steps=16, autocast=autocast))
    return TrainingNetwork(classifier, objectives, autocast=autocast)


def test_every_objective_has_its_loss_and_its_weight_by_name(classifier: CxrModel, shown: Shown) -> None:
    teacher = copy.deepcopy(classifier).eval()
    network = trained(classifier, teacher=teacher)
    assert network.has_teacher
    counts = network.counts([shown])
    losses = network(shown, counts)
    logits_EBP3, teacher_BP3 = classifier.experts(shown.student, shown.dropout_B), teacher(shown.teacher)
    assert list(losses) == list(counts) == ["supervised", "consistency"]
    assert counts["supervised"].tolist() == [3.5, 1.5, 1.5]
    assert counts["consistency"].tolist() == [4.0, 3.0, 3.0]
    known_EB1 = shown.known_EB[:, :, None]
    expected = supervised_loss(logits_EBP3, shown.target_BP3, shown.weight_BP * known_EB1, counts["supervised"])
    torch.testing.assert_close(losses["supervised"], expected)
    expected = consistency_loss(logits_EBP3, teacher_BP3, shown.consistent_BP & known_EB1, counts["consistency"])
    assert expected > 1e-4
    torch.testing.assert_close(losses["consistency"], expected)
    assert [network.weights(step) for step in (0, 2, 8, 15)] == [
        {"supervised": 1.0, "consistency": weight} for weight in (0.0, 1.0, 4.0, 4.0)
    ]


def test_without_a_teacher_nobody_looks_at_its_view(classifier: CxrModel, shown: Shown) -> None:
    network = trained(classifier, teacher=None)
    assert not network.has_teacher
    unseen = replace(shown, teacher=None)
    assert list(network(unseen, network.counts([unseen]))) == ["supervised"]
    assert network.weights(3) == {"supervised": 1.0}


def test_the_teachers_weights_are_neither_trained_nor_kept(classifier: CxrModel, shown: Shown) -> None:
    teacher = copy.deepcopy(classifier).eval()
    network = trained(classifier, teacher=teacher)
    theirs = {id(weight) for weight in teacher.parameters()}
    assert {id(weight) for weight in network.parameters()} == {id(weight) for weight in classifier.parameters()}
    assert not theirs & {id(weight) for weight in network.parameters()}
    assert list(network.state_dict()) == [f"classifier.{name}" for name in classifier.state_dict()]
    network.train()
    assert not teacher.training
    sum(network(shown, network.counts([shown])).values(), start=torch.zeros(())).backward()
    assert all(weight.grad is None for weight in teacher.parameters())
    assert any(weight.grad is not None and weight.grad.any() for weight in classifier.parameters())
    network.zero_grad()


def test_losses_are_float32_in_half_precision_too(classifier: CxrModel, shown: Shown) -> None:
    teacher = copy.deepcopy(classifier).eval()
    networks = [trained(classifier, teacher=teacher, autocast=autocast) for autocast in (BFLOAT16, FLOAT32)]
    losses, whole = (network(shown, network.counts([shown])) for network in networks)
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert loss != whole[name], "something was computed in half precision"
        torch.testing.assert_close(loss, whole[name], rtol=0.2, atol=0.02)
