"""A frozen encoder of films that nobody augments runs once per film, and training comes to the same weights."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor
from transformers import AutoConfig, AutoModel

from components.cxr.errors import UserError
from components.cxr.model.batch import Batch
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.train.config import TrainConfig
from components.train.key import training_key
from components.train.setup import Setup
from components.train.train import train
from tests.components.cxr.model.vision_types import TINY

HOST = torch.device("cpu")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRFLOW_CACHE", str(tmp_path / "cache"))


def frozen(config: TrainConfig, folder: Path, *, model_type: str = "resnet", **changes: object) -> TrainConfig:
    """A frozen encoder from a checkpoint on disk, no augmentation, 2 epochs of 4 steps."""
    torch.manual_seed(1)
    AutoModel.from_config(AutoConfig.for_model(model_type, **TINY[model_type])).save_pretrained(folder / model_type)
    values = config.model_dump(mode="json")
    values["architecture"]["vision"] = {"model_type": model_type, "pretrained": str(folder / model_type)}
    tuning = {"vision": {"frozen": True}}
    return TrainConfig.parse(values | {"epochs": 2, "augment": "none", "tuning": tuning} | changes, where="train")


def count_films(setup: Setup) -> list[int]:
    """Grows by the number of films whenever an encoder of films runs, the student's or the teacher's."""
    seen: list[int] = []
    for model in (setup.network.classifier, setup.ema.model):
        model.vision.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    return seen


def losses(setup: Setup, studies: list[int], *, step: int = 0) -> dict[str, Tensor]:
    setup.network.train()
    shown = setup.show(setup.batches[studies], studies=studies, step=step)
    return setup.network(shown, setup.network.counts([shown]))


def weights(root: Root, config: TrainConfig, loaded: LoadedManifest, *, part: str = "model") -> dict[str, Tensor]:
    folder = root.checkpoints(training_key(config, loaded.hash))
    name = json.loads(folder.read("latest.json").data)["checkpoint"]
    return torch.load(io.BytesIO(folder.read(name).data), weights_only=True)[part]


@pytest.mark.parametrize("model_type", ["resnet", "dinov2", "swin"])
def test_kept_maps_train_to_the_weights_of_maps_made_in_every_step(
    model_type: str, tiny_config: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    config = frozen(tiny_config, tmp_path, model_type=model_type)
    fresh = config.model_copy(update={"keep_maps": False})
    kept, made = Root(tmp_path / "kept"), Root(tmp_path / "made")
    train(config, loaded=tiny_data, root=kept)
    train(fresh, loaded=tiny_data, root=made)
    one, other = weights(kept, config, tiny_data), weights(made, fresh, tiny_data)
    assert max((one[name] - other[name]).abs().max().item() for name in one) < 1e-6
    assert not torch.equal(one["classifier.image_projection.weight"], initial(config, tiny_data))


def initial(config: TrainConfig, loaded: LoadedManifest) -> Tensor:
    return Setup(config, loaded, device=HOST).network.state_dict()["classifier.image_projection.weight"]


def test_no_step_runs_the_encoder_and_no_later_training_either(
    tiny_config: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = frozen(tiny_config, tmp_path)
    setup = Setup(config, tiny_data, device=HOST)
    seen = count_films(setup)
    found = losses(setup, list(range(15)), step=3)
    assert seen == []
    fresh = Setup(config.model_copy(update={"keep_maps": False}), tiny_data, device=HOST)
    seen = count_films(fresh)
    expected = losses(fresh, list(range(15)), step=3)
    assert len(seen) == 1
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value > 0
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("components.cxr.storage.node_cache._write", refuse)
    again = Setup(config, tiny_data, device=HOST)
    assert torch.equal(losses(again, list(range(15)), step=3)["supervised"], found["supervised"])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_film_has_its_own_map(
    precision: str,
    tiny_config: TrainConfig,
    tiny_data: LoadedManifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("components.cxr.model.feature_maps._FILMS_AT_ONCE", 7)
    config = frozen(tiny_config, tmp_path, precision=precision, max_views=2)
    setup = Setup(config, tiny_data, device=HOST)
    studies = np.random.default_rng(0).permutation(len(setup.training)).tolist()
    batch = setup.batches[studies]
    assert batch.map_BVChw is not None
    assert batch.map_BVChw.dtype == getattr(torch, precision)
    assert 1 < batch.film_mask_BV.sum(dim=1).max() == batch.map_BVChw.shape[1]
    encoder = setup.network.classifier.vision.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        for b, v in batch.film_mask_BV.nonzero().tolist():
            map_Chw = encoder(batch.films_BVHW[b, v][None])[0].float()
            tolerance = 1e-6 if precision == "float32" else 0.02
            assert (batch.map_BVChw[b, v].float() - map_Chw).abs().max() < tolerance * max(1.0, map_Chw.abs().max())
    assert not batch.map_BVChw[~batch.film_mask_BV].any()


def test_without_room_for_them_the_error_says_how_to_do_without(
    tiny_config: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = frozen(tiny_config, tmp_path)
    Setup(config.model_copy(update={"keep_maps": False}), tiny_data, device=HOST)  # the shards alone
    shards = sum(path.stat().st_size for path in (tmp_path / "cache").glob("*.cached"))
    monkeypatch.setenv("CXRFLOW_CACHE_GB", str((shards + 100) / 1e9))
    with pytest.raises(UserError, match=r"no room for feature maps: .*train\.keep_maps: false") as error:
        Setup(config, tiny_data, device=HOST)
    assert error.value.code == "pixel-cache-full"


def test_other_weights_have_other_maps(tiny_config: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path) -> None:
    config = frozen(tiny_config, tmp_path)
    first = map_of(Setup(config, tiny_data, device=HOST).batches[[0]])
    assert torch.equal(map_of(Setup(config, tiny_data, device=HOST).batches[[0]]), first)
    torch.manual_seed(2)
    folder = tmp_path / "resnet"
    AutoModel.from_config(AutoConfig.for_model("resnet", **TINY["resnet"])).save_pretrained(folder)
    other = map_of(Setup(config, tiny_data, device=HOST).batches[[0]])
    assert not torch.allclose(first, other)
    values = config.model_dump(mode="json")
    values["architecture"]["vision"]["normalization"] = {"mean": [0.2], "std": [0.9]}
    brighter = map_of(Setup(TrainConfig.parse(values, where="train"), tiny_data, device=HOST).batches[[0]])
    assert not torch.allclose(other, brighter)


def map_of(batch: Batch) -> Tensor:
    assert batch.map_BVChw is not None
    return batch.map_BVChw


@pytest.mark.parametrize(
    "changes",
    [
        {"augment": {"noise": 0.01}},
        {"tuning": {"vision": {"frozen": True, "unfreeze_after": 1}}},
        {"tuning": {}},
        {"keep_maps": False},
    ],
)
def test_maps_that_change_are_not_kept(
    changes: dict[str, object], tiny_config: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    setup = Setup(frozen(tiny_config, tmp_path, **changes), tiny_data, device=HOST)
    assert setup.batches[[0, 1]].map_BVChw is None


def test_a_resumed_training_has_the_same_weights(
    tiny_config: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    config = frozen(tiny_config, tmp_path)
    straight, resumed = Root(tmp_path / "straight"), Root(tmp_path / "resumed")
    train(config, loaded=tiny_data, root=straight, stop_after=6)
    train(config, loaded=tiny_data, root=resumed, stop_after=3)
    train(config, loaded=tiny_data, root=resumed, stop_after=6)
    for part in ("model", "ema"):
        one, other = (weights(root, config, tiny_data, part=part) for root in (straight, resumed))
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_two_processes_have_the_weights_of_one(
    tiny_config: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    config = frozen(tiny_config, tmp_path)
    one, two = Root(tmp_path / "one"), Root(tmp_path / "two")
    train(config, loaded=tiny_data, root=one)
    values = config.model_dump(mode="json") | {"num_processes": 2}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump({"root": two.uri, "train": values}))
    command = ["--config", str(tmp_path / "train.yaml"), "--manifest", tiny_data.storage.uri]
    subprocess.run([sys.executable, "-m", "components.train", *command], check=True, timeout=800)
    first, second = (weights(root, config, tiny_data) for root in (one, two))
    assert max((first[name] - second[name]).abs().max().item() for name in first) < 1e-5
