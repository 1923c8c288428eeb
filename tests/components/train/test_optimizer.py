from itertools import pairwise

import pytest
import torch

from components.train.build import build_model
from components.train.config import TrainConfig
from components.train.optimizer import build_optimizer, learning_rate_factor

TEXTS = ["cough and fever", "shortness of breath", "chest pain"]


def test_learning_rate_rises_and_falls_to_zero() -> None:
    factors = [learning_rate_factor(step, num_steps=100, warm_up=0.1) for step in range(101)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert factors[10] == 1.0
    assert all(a >= b for a, b in pairwise(factors[10:]))
    assert factors[100] == pytest.approx(0.0)


def test_every_parameter_is_trained_once_and_learns() -> None:
    torch.manual_seed(0)
    _, model, _ = build_model(TrainConfig(), texts=TEXTS, num_pathologies=3)
    optimizer = build_optimizer(model, TrainConfig())
    trained = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(trained) == sorted(id(p) for p in model.parameters())
    decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    by_name = dict(model.named_parameters())
    assert id(by_name["view_embedding.weight"]) not in decayed
    assert id(by_name["queries.norm.weight"]) not in decayed
    assert id(by_name["queries.queries_PD"]) not in decayed
    assert id(by_name["image_projection.weight"]) in decayed
