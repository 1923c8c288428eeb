from __future__ import annotations

from math import nan

import pytest
import torch

from components.cxr.labels import NO_TARGET
from components.cxr.model.architecture import Architecture
from components.cxr.model.batch import Batch
from components.cxr.model.network import CxrModel
from components.train.build import build_model
from components.train.config import TrainConfig
from components.train.objectives.losses import pseudo_label_loss, supervised_loss
from components.train.objectives.network import TrainingNetwork
from components.train.objectives.self_training import SelfTraining
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
    return build_model(TrainConfig(architecture=architecture), texts=["cough"], film_size=64, num_pathologies=3)[
        1
    ].train()


def classes(target_BP: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.zeros(1, 3), torch.eye(3)])[target_BP + 1]


@pytest.fixture(scope="module")
def shown() -> Shown:
    torch.manual_seed(1)
    student = Batch(
        films_BVHW=torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8),
        film_mask_BV=torch.ones(2, 1, dtype=torch.bool),
        view_BV=torch.ones(2, 1, dtype=torch.int64),
        tokens_BT=torch.full((2, 3), 2),
        token_mask_BT=torch.ones(2, 3, dtype=torch.bool),
        age_B=torch.tensor([40.0, 70.0]),
        sex_B=torch.ones(2, dtype=torch.int64),
    )
    return Shown(
        student=student,
        known_EB=torch.tensor([[True, True], [True, False], [True, False]]),
        dropout_B=torch.tensor([11, 12]),
        target_BP3=classes(torch.tensor([[0, 2, NO_TARGET], [1, NO_TARGET, 0]])),
        weight_BP=torch.tensor([[1.0, 0.5, 0.0], [1.0, 0.0, 1.0]]),
        pseudo_BP=torch.tensor([[nan, nan, 0.7], [nan, 0.2, nan]]),
    )


def trained(classifier: CxrModel, *, autocast: torch.autocast = FLOAT32) -> TrainingNetwork:
    return TrainingNetwork(classifier, [Supervised(), SelfTraining(4.0)], autocast=autocast)


def test_every_objective_has_its_loss_and_its_weight_by_name(classifier: CxrModel, shown: Shown) -> None:
    network = trained(classifier)
    counts = network.counts([shown])
    losses = network(shown, counts)
    logits_EBP3 = classifier.experts(shown.student, shown.dropout_B)
    assert list(losses) == list(counts) == ["supervised", "pseudo_label"]
    assert counts["supervised"].tolist() == [3.5, 1.5, 1.5]
    assert counts["pseudo_label"].tolist() == [2.0, 1.0, 1.0]
    known_EB1 = shown.known_EB[:, :, None]
    expected = supervised_loss(logits_EBP3, shown.target_BP3, shown.weight_BP * known_EB1, counts["supervised"])
    torch.testing.assert_close(losses["supervised"], expected)
    assert shown.pseudo_BP is not None
    mask_EBP = ~shown.pseudo_BP.isnan() & known_EB1
    expected = pseudo_label_loss(logits_EBP3, shown.pseudo_BP, mask_EBP, counts["pseudo_label"])
    assert expected > 1e-4
    torch.testing.assert_close(losses["pseudo_label"], expected)
    assert network.weights(3) == {"supervised": 1.0, "pseudo_label": 4.0}


def test_losses_are_float32_in_half_precision_too(classifier: CxrModel, shown: Shown) -> None:
    networks = [trained(classifier, autocast=autocast) for autocast in (BFLOAT16, FLOAT32)]
    losses, whole = (network(shown, network.counts([shown])) for network in networks)
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert loss != whole[name], "something was computed in half precision"
        torch.testing.assert_close(loss, whole[name], rtol=0.2, atol=0.02)
