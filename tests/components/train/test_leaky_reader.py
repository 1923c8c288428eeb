"""A data set whose sections the reader `mimic` made: refused as text input, or stamped LEAKY."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from components.cxr.bundle_info import check_same_pixels
from components.cxr.errors import UserError
from components.train.config import TrainConfig
from components.train.setup import Setup

if TYPE_CHECKING:
    from components.cxr.shards import LoadedManifest

ARCHITECTURE = {
    "vision": {
        "model_type": "resnet",
        "config": {"embedding_size": 8, "hidden_sizes": [8], "depths": [1], "layer_type": "basic"},
    }
}


@pytest.fixture
def mimic_read(tiny_data: LoadedManifest) -> LoadedManifest:
    return tiny_data._replace(manifest=tiny_data.manifest.model_copy(update={"section_reader": "mimic"}))


def _setup(loaded: LoadedManifest, **text: object) -> Setup:
    config = TrainConfig.parse({"architecture": ARCHITECTURE, "text": text}, where="train")
    return Setup(config, loaded, device=torch.device("cpu"))


def test_refused_until_allowed_and_then_stamped(mimic_read: LoadedManifest, tiny_data: LoadedManifest) -> None:
    with pytest.raises(UserError, match=r"text input may hold findings.*section_reader mimic.*allow_leaky_sections"):
        _setup(mimic_read)
    info = _setup(mimic_read, allow_leaky_sections=True).info
    assert info.section_reader == "mimic"
    assert info.leaky
    assert not _setup(tiny_data, allow_leaky_sections=True).info.leaky
    with pytest.raises(UserError, match=r"reports read in different ways.*found strict, expected mimic"):
        check_same_pixels(info, tiny_data.manifest, where="x")


def test_a_model_without_text_does_not_care(mimic_read: LoadedManifest, tiny_data: LoadedManifest) -> None:
    info = _setup(mimic_read, sections=[]).info
    assert not info.leaky
    check_same_pixels(info, tiny_data.manifest, where="x")
