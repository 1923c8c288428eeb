"""Frozen encoders stay as they were, without gradients and dropout, until they are unfrozen; then everything learns."""

from __future__ import annotations

import copy
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor
from transformers import AutoConfig, AutoModel

from components.cxr.bundle import load_bundle
from components.cxr.bundle_info import BUNDLE
from components.cxr.errors import UserError
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.predictor import predict
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.train.config import TrainConfig
from components.train.key import training_key
from components.train.setup import Setup
from components.train.tokenizer import learn_tokenizer
from components.train.train import train
from components.train.tuning import Freezer

HOST = torch.device("cpu")


@pytest.fixture(scope="module")
def pretrained(tiny_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """Both encoders from checkpoints on disk, 2 epochs of 4 steps."""
    folder = tmp_path_factory.mktemp("encoders")
    tokenizer = learn_tokenizer(["cough and fever", "chest pain"] * 3, vocabulary_size=200, max_tokens=16)
    values = tiny_config.model_dump(mode="json")
    torch.manual_seed(1)
    for name, more in (("vision", {"num_channels": 1}), ("text", {"vocab_size": len(tokenizer), "pad_token_id": 0})):
        encoder = values["architecture"][name]
        config = AutoConfig.for_model(encoder["model_type"], **encoder["config"], **more)
        AutoModel.from_config(config).save_pretrained(folder / name)
        encoder["pretrained"], encoder["config"] = str(folder / name), {}
    tokenizer.save_pretrained(folder / "text")
    return TrainConfig.parse(values | {"epochs": 2}, where="train")


def tuned(config: TrainConfig, **encoders: dict[str, object]) -> TrainConfig:
    return TrainConfig.parse(config.model_dump(mode="json") | {"tuning": encoders}, where="train")


def weights(root: Root, config: TrainConfig, loaded: LoadedManifest, *, part: str = "model") -> dict[str, Tensor]:
    folder = root.checkpoints(training_key(config, loaded.hash))
    name = json.loads(folder.read("latest.json").data)["checkpoint"]
    return torch.load(io.BytesIO(folder.read(name).data), weights_only=True)[part]


def moved(config: TrainConfig, data: LoadedManifest, after: dict[str, Tensor]) -> set[str]:
    """Encoders with another weight than at the start."""
    before = Setup(config, data, device=HOST).network.state_dict()
    names = {name for name, value in before.items() if not torch.equal(value, after[name])}
    return {name.split(".")[1] for name in names} & {"vision", "text"}


def test_a_frozen_encoder_stays_as_it_was_and_the_rest_learns(
    pretrained: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    config, root = tuned(pretrained, vision={"frozen": True}), Root(tmp_path)
    bundle = load_bundle(train(config, loaded=tiny_data, root=root))
    assert moved(config, tiny_data, weights(root, config, tiny_data)) == {"text"}
    setup = Setup(config, tiny_data, device=HOST)
    for name, value in setup.network.classifier.vision.state_dict().items():
        assert torch.equal(bundle.model.vision.state_dict()[name], value), name
    setup.ema.model.load_state_dict(bundle.model.state_dict())
    studies = list(StudyDataset(tiny_data, splits=["test"], text=config.text))
    read, kept = (predict(b, studies).score_SP for b in (bundle, setup.average()))
    assert (read == kept).all()


def test_a_frozen_encoder_has_no_gradients_and_no_dropout(pretrained: TrainConfig, tiny_data: LoadedManifest) -> None:
    config = tuned(pretrained, text={"frozen": True, "gradient_checkpointing": True})
    setup = Setup(config, tiny_data, device=HOST)
    model = setup.network.classifier
    freezer = Freezer(model, config)
    assert freezer.enter(0)
    assert not freezer.enter(1), "nothing changes"
    setup.network.train()
    assert not any(module.training for module in model.text.modules())
    assert model.vision.training
    tokens_BT = torch.tensor([[2, 5, 6, 3]])
    hidden_BTC = model.text(input_ids=tokens_BT).last_hidden_state
    assert not hidden_BTC.requires_grad
    assert torch.equal(hidden_BTC, model.text(input_ids=tokens_BT).last_hidden_state)


def test_weights_that_never_learn_are_not_unfrozen(pretrained: TrainConfig, tiny_data: LoadedManifest) -> None:
    config = tuned(pretrained, vision={"frozen": True, "unfreeze_after": 1})
    model = Setup(config, tiny_data, device=HOST).network.classifier
    fixed, *others = model.vision.parameters()
    fixed.requires_grad_(False)
    freezer = Freezer(model, config)
    for epoch, learns in ((0, False), (1, True)):
        assert freezer.enter(epoch)
        assert {other.requires_grad for other in others} == {learns}
        assert not fixed.requires_grad


def test_an_unfrozen_encoder_learns_from_its_epoch_on(
    pretrained: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    config, root = tuned(pretrained, text={"frozen": True, "unfreeze_after": 1}), Root(tmp_path)
    train(config, loaded=tiny_data, root=root, stop_after=4)
    assert moved(config, tiny_data, weights(root, config, tiny_data)) == {"vision"}
    train(config, loaded=tiny_data, root=root, stop_after=5)
    assert moved(config, tiny_data, weights(root, config, tiny_data)) == {"vision", "text"}


@pytest.mark.parametrize("stop_after", [3, 4, 5])
def test_a_training_resumed_around_the_unfreezing_has_the_same_weights(
    stop_after: int, pretrained: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    config = tuned(pretrained, vision={"frozen": True, "unfreeze_after": 1}, text={"frozen": True})
    straight, resumed = Root(tmp_path / "straight"), Root(tmp_path / "resumed")
    train(config, loaded=tiny_data, root=straight, stop_after=7)
    train(config, loaded=tiny_data, root=resumed, stop_after=stop_after)
    train(config, loaded=tiny_data, root=resumed, stop_after=7)
    for part in ("model", "ema"):
        one, other = (weights(root, config, tiny_data, part=part) for root in (straight, resumed))
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_two_processes_unfreeze_to_the_weights_of_one(
    pretrained: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    config = tuned(pretrained, vision={"frozen": True, "unfreeze_after": 1}, text={"frozen": True})
    one, two = Root(tmp_path / "one"), Root(tmp_path / "two")
    train(config, loaded=tiny_data, root=one)
    values = config.model_dump(mode="json") | {"num_processes": 2}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump({"root": two.uri, "train": values}))
    command = ["--config", str(tmp_path / "train.yaml"), "--manifest", tiny_data.storage.uri]
    subprocess.run([sys.executable, "-m", "components.train", *command], check=True, timeout=800)
    assert two.bundle(training_key(config, tiny_data.hash)).exists(BUNDLE)
    first, second = (weights(root, config, tiny_data) for root in (one, two))
    assert max((first[name] - second[name]).abs().max().item() for name in first) < 1e-5
    assert moved(config, tiny_data, second) == {"vision"}


@pytest.mark.parametrize(
    ("tuning", "message"),
    [({"frozen": True}, "must learn"), ({"unfreeze_after": 2}, r"with tuning\.vision\.frozen")],
)
def test_what_cannot_be_meant_is_one_clean_error(
    tuning: dict[str, object], message: str, tiny_config: TrainConfig
) -> None:
    with pytest.raises(UserError, match=message):
        tuned(tiny_config, vision=tuning)


def test_an_encoder_that_would_thaw_after_the_end_is_an_error(pretrained: TrainConfig) -> None:
    with pytest.raises(UserError, match=r"tuning\.text\.unfreeze_after below epochs \(2\)"):
        tuned(pretrained, text={"frozen": True, "unfreeze_after": 2})


def test_layers_computed_again_give_the_same_gradients_with_the_same_dropout(
    pretrained: TrainConfig, tiny_data: LoadedManifest
) -> None:
    gradients = []
    for again in (False, True):
        config = tuned(pretrained, text={"gradient_checkpointing": again})
        setup = Setup(config, tiny_data, device=HOST)
        entered = count_calls(setup.network.classifier.text.encoder.layer[0])
        setup.network.train()
        studies = list(range(15))
        batch = setup.batches[studies]
        shown = setup.show(batch, studies=studies, step=0)
        setup.network(shown, setup.network.counts([shown]))["supervised"].backward()
        assert len(entered) == (2 if again else 1)
        text = dict(setup.network.classifier.text.named_parameters())
        gradients.append({name: copy.deepcopy(value.grad) for name, value in text.items()})
    kept, again_made = gradients
    assert max(value.abs().max() for value in kept.values()) > 1e-4
    assert max((kept[name] - again_made[name]).abs().max() for name in kept) < 1e-6


def count_calls(layer: torch.nn.Module) -> list[None]:
    """Grows by one whenever the inside of `layer` is computed."""
    calls: list[None] = []
    layer.intermediate.register_forward_hook(lambda *_: calls.append(None))
    return calls


def test_an_encoder_that_cannot_compute_its_layers_again_is_one_clean_error(
    pretrained: TrainConfig, tiny_data: LoadedManifest
) -> None:
    with pytest.raises(UserError, match=r"compute its layers again.*vision.gradient_checkpointing; found resnet"):
        Setup(tuned(pretrained, vision={"gradient_checkpointing": True}), tiny_data, device=HOST)
