from itertools import pairwise

import pytest
import torch
from transformers import AutoConfig, AutoModel

from components.cxr.model.architecture import Architecture, VisionConfig
from components.train.build import build_model
from components.train.config import TrainConfig
from components.train.optimizer import build_optimizer, learning_rate_factor, set_learning_rates
from components.train.tuning import layer_depths

TEXTS = ["cough and fever", "shortness of breath", "chest pain"]


def test_learning_rate_rises_and_falls_to_zero() -> None:
    factors = [learning_rate_factor(step, num_steps=100, warm_up=0.1) for step in range(101)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert factors[10] == 1.0
    assert all(a >= b for a, b in pairwise(factors[10:]))
    assert factors[100] == pytest.approx(0.0)


def test_every_parameter_is_trained_once_and_learns() -> None:
    torch.manual_seed(0)
    _, model, _ = build_model(TrainConfig(), texts=TEXTS, film_size=64, num_pathologies=3)
    optimizer = build_optimizer(model, TrainConfig())
    trained = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(trained) == sorted(id(p) for p in model.parameters())
    decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    by_name = dict(model.named_parameters())
    assert id(by_name["view_embedding.weight"]) not in decayed
    assert id(by_name["queries.norm.weight"]) not in decayed
    assert id(by_name["queries.queries_PD"]) not in decayed
    assert id(by_name["image_projection.weight"]) in decayed


def test_what_is_unfrozen_later_warms_up_from_there() -> None:
    early, late = (
        [learning_rate_factor(step, num_steps=100, warm_up=0.1, start=start) for step in range(101)]
        for start in (0, 40)
    )
    assert late[:40] == [0.0] * 40
    assert late[40:50] == pytest.approx([early[40 + i] * (i + 1) / 10 for i in range(10)])
    assert late[50:] == early[50:]


def encoder_of(model_type: str) -> torch.nn.Module:
    small = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 3}
    values = {
        "bert": small | {"vocab_size": 50},
        "vit": small | {"image_size": 32, "patch_size": 8},
        "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16, 16], "depths": [1, 2, 1], "layer_type": "basic"},
        "convnextv2": {"hidden_sizes": [8, 16, 16], "depths": [1, 2, 1], "num_stages": 3},
        "swin": {"embed_dim": 8, "depths": [1, 2, 1], "num_heads": [2, 2, 2], "image_size": 32, "patch_size": 2},
    }
    encoder = AutoModel.from_config(AutoConfig.for_model(model_type, **values[model_type]))
    if model_type == "vit":
        encoder.pooler = None
    return encoder


@pytest.mark.parametrize(
    ("model_type", "first", "layers", "behind"),
    [
        ("bert", "embeddings.", "encoder.layer.{}.", "pooler."),
        ("vit", "embeddings.", "layers.{}.", "layernorm."),
        ("resnet", "embedder.", "encoder.stages.{}.", None),
        ("convnextv2", "embeddings.", "encoder.stages.{}.", "layernorm."),
        ("swin", "embeddings.", "encoder.layers.{}.", "layernorm."),
    ],
)
def test_layers_of_transformers_and_stages_of_cnns_are_found(
    model_type: str, first: str, layers: str, behind: str | None
) -> None:
    encoder = encoder_of(model_type)
    depths = layer_depths(encoder)
    places = [(first, 0), *((layers.format(i), i + 1) for i in range(3)), *([(behind, 3)] if behind else [])]
    found = {prefix: set[int]() for prefix, _ in places}
    for name, parameter in encoder.named_parameters():
        (prefix,) = (prefix for prefix in found if name.startswith(prefix))
        found[prefix].add(depths[parameter])
    assert found == {prefix: {depth} for prefix, depth in places}


def test_each_layer_has_its_share_of_the_encoders_own_learning_rate() -> None:
    tuning = {"text": {"learning_rate": 0.01, "layer_decay": 0.5}, "vision": {"learning_rate": 0.02}}
    layers = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 2}
    architecture = {"text": {"model_type": "bert", "config": layers}}
    values = {"tuning": tuning, "learning_rate": 0.04, "architecture": architecture}
    config = TrainConfig.parse(values, where="train")
    _, model, _ = build_model(config, texts=TEXTS, film_size=64, num_pathologies=3)
    optimizer = build_optimizer(model, config)
    set_learning_rates(optimizer, step=0, num_steps=10, steps_per_epoch=5, warm_up=0.2)
    rates = {id(p): 2 * group["lr"] for group in optimizer.param_groups for p in group["params"]}
    found = {name: rates[id(p)] for name, p in model.named_parameters()}
    assert found["text.embeddings.word_embeddings.weight"] == pytest.approx(0.0025)
    assert found["text.encoder.layer.0.output.dense.weight"] == pytest.approx(0.005)
    assert found["text.encoder.layer.1.output.dense.weight"] == pytest.approx(0.01)
    assert {rate for name, rate in found.items() if name.startswith("vision.")} == {0.02}
    assert {rate for name, rate in found.items() if not name.startswith(("vision.", "text."))} == {0.04}


def test_pretrained_encoders_learn_slower_unless_told_otherwise(tmp_path) -> None:
    _, model, _ = build_model(TrainConfig(), texts=TEXTS, film_size=64, num_pathologies=3)
    vision = VisionConfig(model_type="resnet", pretrained=str(tmp_path))
    optimizer = build_optimizer(model, TrainConfig(architecture=Architecture(vision=vision)))
    peaks = {id(p): group["peak"] for group in optimizer.param_groups for p in group["params"]}
    assert {peaks[id(p)] for p in model.vision.parameters()} == {1e-4}
    assert {peaks[id(p)] for p in model.text.parameters()} == {1e-3}
