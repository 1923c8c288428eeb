"""LoRA: thin matrices beside each linear layer learn, all else of the encoder stays, and a bundle has nothing of it."""

from __future__ import annotations

import copy
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from components.cxr.bundle import load_bundle
from components.cxr.errors import UserError
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.predictor import predict
from components.cxr.model.vision import MODEL_TYPES
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.train.build import build_model
from components.train.config import TrainConfig
from components.train.key import training_key
from components.train.lora import adapt, merge
from components.train.optimizer import build_optimizer
from components.train.setup import Setup
from components.train.tokenizer import learn_tokenizer
from components.train.train import train
from tests.components.cxr.model.vision_types import TINY

HOST = torch.device("cpu")
LORA = {"lora": {"rank": 2}}
WITHOUT_LINEAR_LAYERS = {"bit", "efficientnet", "mobilenet_v2", "regnet", "resnet"}


def pretrained(config: TrainConfig, folder: Path, *, model_type: str = "dinov2", **tuning: object) -> TrainConfig:
    """Both encoders from random checkpoints on disk, 2 epochs of 4 steps."""
    values = config.model_dump(mode="json")
    architecture = values["architecture"]
    tokenizer = learn_tokenizer(["cough and fever", "chest pain"] * 3, vocabulary_size=200, max_tokens=16)
    text = architecture["text"]["config"] | {"vocab_size": len(tokenizer), "pad_token_id": 0}
    torch.manual_seed(1)
    for name, kind, values_of_type in (("vision", model_type, TINY[model_type]), ("text", "bert", text)):
        AutoModel.from_config(AutoConfig.for_model(kind, **values_of_type)).save_pretrained(folder / name)
        architecture[name] = {"model_type": kind, "pretrained": str(folder / name)}
    tokenizer.save_pretrained(folder / "text")
    return TrainConfig.parse(values | {"epochs": 2, "tuning": tuning}, where="train")


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_in_every_encoder_the_thin_matrices_alone_learn_and_all_of_them_do(
    model_type: str, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    config = pretrained(tiny_config, tmp_path, model_type=model_type)
    _, model, _ = build_model(config, texts=[], film_size=64, num_pathologies=3)
    config = TrainConfig.parse(
        config.model_dump(mode="json") | {"tuning": {"vision": LORA}, "learning_rate": 0.01}, where="train"
    )
    films_NHW = torch.randint(0, 256, (2, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        before = model.vision.eval()(films_NHW)
    if model_type in WITHOUT_LINEAR_LAYERS:
        with pytest.raises(UserError, match=rf"no linear layer.*tuning\.vision\.lora.*found {model_type}"):
            adapt(model, config)
        return
    adapt(model, config)
    optimizer = build_optimizer(model, config)
    start = {name: value.clone() for name, value in model.vision.named_parameters()}
    for _ in range(2):  # A sees no gradient while B is 0
        (model.vision(films_NHW) * torch.randn_like(before)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name for name, value in model.vision.named_parameters() if not torch.equal(start[name], value)}
    assert moved == {name for name in start if re.search(r"\.lora_[AB]\.", name)}
    with torch.no_grad():
        learned = model.vision.eval()(films_NHW)
        merge(model)
        again = model.vision(films_NHW)
    assert not torch.equal(learned, before)
    assert (learned - again).abs().max() < 1e-4  # Swin V2's cosines make 2e-5 of the rounding
    assert not any("lora" in name for name, _ in model.named_parameters())


def test_the_answer_is_the_pretrained_ones_before_the_first_step(
    tiny_config: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    plain = pretrained(tiny_config, tmp_path)
    adapted = pretrained(tiny_config, tmp_path, vision=LORA, text=LORA)
    studies = list(StudyDataset(tiny_data, splits=["test"], text=plain.text))
    one, other = (predict(Setup(c, tiny_data, device=HOST).average(), studies).score_SP for c in (plain, adapted))
    assert np.array_equal(one, other)


def test_what_is_learned_is_new_and_has_the_rate_of_what_is_new(tiny_config: TrainConfig, tmp_path: Path) -> None:
    config = pretrained(tiny_config, tmp_path, vision=LORA, text={**LORA, "learning_rate": 2e-4})
    _, model, _ = build_model(config, texts=[], film_size=64, num_pathologies=3)
    adapt(model, config)
    assert {layer.scaling["default"] for layer in model.modules() if hasattr(layer, "lora_A")} == {16.0 / 2}
    peaks = {id(p): group["peak"] for group in build_optimizer(model, config).param_groups for p in group["params"]}
    for encoder, rate in ((model.vision, config.learning_rate), (model.text, 2e-4)):
        assert {peaks[id(p)] for p in encoder.parameters() if p.requires_grad} == {rate}


def test_the_bundle_holds_plain_weights_that_answer_as_the_adapted_model(
    tiny_config: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    config, root = pretrained(tiny_config, tmp_path, vision=LORA, text=LORA), Root(tmp_path / "root")
    train(config, loaded=tiny_data, root=root)
    setup = Setup(config, tiny_data, device=HOST)
    untrained = setup.average().model.state_dict()
    bundle = load_bundle(root.bundle(training_key(config, tiny_data.hash)))
    names = bundle.model.state_dict().keys()
    assert not any("lora" in name or "base_layer" in name for name in names)
    assert bundle.info.num_parameters == sum(p.numel() for p in bundle.model.parameters())
    setup.ema.model.load_state_dict(kept_weights(root, config, tiny_data))
    learned = copy.deepcopy(setup.ema.model)
    studies = list(StudyDataset(tiny_data, splits=["test"], text=config.text))
    adapted, plain = (predict(b, studies).score_SP for b in (setup.average(), bundle))
    assert np.abs(adapted - plain).max() < 1e-5
    for name, value in learned.state_dict().items():
        if "lora_B" in name:
            assert value.abs().max() > 1e-5, name
        elif "base_layer" in name:
            assert torch.equal(value, untrained[name]), name


def kept_weights(root: Root, config: TrainConfig, loaded: LoadedManifest) -> dict[str, torch.Tensor]:
    return checkpoint(root, config, loaded)["progress"]["kept_weights"]


def checkpoint(root: Root, config: TrainConfig, loaded: LoadedManifest) -> dict:
    folder = root.checkpoints(training_key(config, loaded.hash))
    name = json.loads(folder.read("latest.json").data)["checkpoint"]
    return torch.load(io.BytesIO(folder.read(name).data), weights_only=True)


def test_a_resumed_training_has_the_same_weights(
    tiny_config: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    config = pretrained(tiny_config, tmp_path, vision={**LORA, "gradient_checkpointing": True}, text=LORA)
    straight, resumed = Root(tmp_path / "straight"), Root(tmp_path / "resumed")
    train(config, loaded=tiny_data, root=straight, stop_after=7)
    train(config, loaded=tiny_data, root=resumed, stop_after=3)
    train(config, loaded=tiny_data, root=resumed, stop_after=7)
    for part in ("model", "ema"):
        one, other = (checkpoint(root, config, tiny_data)[part] for root in (straight, resumed))
        assert any("lora_B" in name and value.any() for name, value in one.items())
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_dropout_of_an_adapted_encoder_is_still_drawn_from_the_studies(
    tiny_config: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    setup = Setup(pretrained(tiny_config, tmp_path, vision=LORA, text=LORA), tiny_data, device=HOST)
    model = setup.network.classifier.train()
    assert not any(isinstance(module, nn.Dropout) for module in model.modules())
    shown = setup.show(setup.batches[[0, 1, 2]], studies=[0, 1, 2], step=0)
    torch.manual_seed(1)
    first = model(shown.student, shown.dropout_B)
    torch.manual_seed(2)
    assert torch.equal(model(shown.student, shown.dropout_B), first)
    assert not torch.equal(model(shown.student, shown.dropout_B + 1), first)


@pytest.mark.parametrize("tuning", [{**LORA, "frozen": True}, LORA])
def test_what_cannot_be_meant_is_one_clean_error(
    tuning: dict[str, object], tiny_config: TrainConfig, tmp_path: Path
) -> None:
    config = pretrained(tiny_config, tmp_path).model_dump(mode="json") if "frozen" in tuning else {}
    with pytest.raises(UserError, match=r"tuning\.vision\.lora with pretrained weights that are not frozen"):
        TrainConfig.parse(config | {"tuning": {"vision": tuning}}, where="train")
