import pytest
import torch

from components.cxr.errors import UserError
from components.cxr.model.architecture import Architecture, EncoderConfig, VisionConfig
from components.train.build import build_model
from components.train.config import TrainConfig

TEXTS = ["cough and fever", "shortness of breath", "chest pain"]


def test_from_scratch_there_is_no_batch_norm() -> None:
    _, model, _ = build_model(TrainConfig(), texts=TEXTS, film_size=64, num_pathologies=3)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())


def test_unknown_encoder_is_one_clean_error() -> None:
    vision = VisionConfig(model_type="resnot")
    with pytest.raises(UserError, match=r"unusable encoder.*resnot"):
        build_model(TrainConfig(architecture=Architecture(vision=vision)), texts=TEXTS, film_size=64, num_pathologies=3)


@pytest.mark.parametrize(
    ("encoder", "wrong"),
    [
        (VisionConfig(model_type="resnet", config={"layer_type": "foo"}), "foo is not one of"),
        (VisionConfig(model_type="resnet", config={"hidden_sizes": [8, 16], "depths": [1, 1, 1]}), "out of range"),
        (EncoderConfig(model_type="bert", config={"hidden_size": 100, "num_attention_heads": 3}), "not a multiple"),
        (EncoderConfig(model_type="bert", config={"hidden_act": "foo"}), "foo"),
        (EncoderConfig(model_type="bert", config={"hidden_size": "96"}), "expected int, got str"),
    ],
)
def test_values_that_the_library_refuses_are_one_clean_error(encoder: EncoderConfig, wrong: str) -> None:
    name = "vision" if isinstance(encoder, VisionConfig) else "text"
    config = TrainConfig(architecture=Architecture(**{name: encoder}))
    with pytest.raises(UserError, match=rf"unusable encoder: train\.architecture.*: {encoder.model_type}; .*{wrong}"):
        build_model(config, texts=TEXTS, film_size=64, num_pathologies=3)


@pytest.mark.parametrize(
    "encoder",
    [
        VisionConfig(model_type="resnet", config={"hiden_sizes": [8, 16], "depths": [1, 1]}),
        EncoderConfig(model_type="distilbert", config={"dim": 16, "intermediate_size": 32}),
    ],
)
def test_a_field_that_the_encoder_does_not_have_is_one_clean_error(encoder: EncoderConfig) -> None:
    """The library keeps it and never reads it: a network of another size would train."""
    name = "vision" if isinstance(encoder, VisionConfig) else "text"
    config = TrainConfig(architecture=Architecture(**{name: encoder}))
    with pytest.raises(
        UserError, match=rf"architecture\.{name}\.config; found (hiden_sizes|intermediate_size), "
    ) as error:
        build_model(config, texts=TEXTS, film_size=64, num_pathologies=3)
    assert error.value.code == "unknown-encoder-field"


def test_numbers_that_kfp_made_floats_mean_the_same() -> None:
    exact = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    floats = {"embedding_size": 8.0, "hidden_sizes": [8.0, 16.0], "depths": [1.0, 1.0], "layer_type": "basic"}
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_dropout_prob": 0}
    configs = [
        TrainConfig(
            architecture=Architecture(
                vision=VisionConfig(model_type="resnet", config=vision),
                text=EncoderConfig(model_type="bert", config=text),
            )
        )
        for vision in (exact, floats)
    ]
    assert configs[0].hash == configs[1].hash
    architecture, _, _ = build_model(configs[1], texts=TEXTS, film_size=64, num_pathologies=3)
    assert architecture.vision.config["hidden_sizes"] == [8, 16]
