"""Gradients explode without Xavier initialization and clipping, and do not with them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from components.cxr.shards import LoadedManifest
from components.train.config import TrainConfig
from components.train.gradients import Clip
from components.train.setup import Setup


def gradients(config: TrainConfig, data: LoadedManifest, *, normal: bool, clipped: bool) -> list[float]:
    """The global norm at each of 8 steps of plain gradient descent, as it is applied."""
    setup = Setup(config, data, device=torch.device("cpu"))
    if normal:  # each weight from N(0, 1), as a network that is written by hand may have it
        for parameter in setup.network.classifier.parameters():
            if parameter.dim() >= 2:
                nn.init.normal_(parameter)
    optimizer = torch.optim.SGD(setup.network.parameters(), lr=0.1)
    clip, norms = Clip(setup.network, max_norm=config.clip_norm), []
    studies = list(range(setup.batch_size))
    for step in range(8):
        optimizer.zero_grad()
        shown = setup.show(setup.batches[studies], studies=studies, step=step)
        setup.network(shown, setup.network.counts([shown]))["supervised"].backward()
        if clipped:
            clip()
        norms.append(float(nn.utils.get_total_norm([p.grad for p in setup.network.parameters() if p.grad is not None])))
        optimizer.step()
    return norms


@pytest.fixture(scope="module")
def config(tiny_config: TrainConfig) -> TrainConfig:
    """Through two layers of text and eight of films."""
    vision = {"embedding_size": 16, "hidden_sizes": [16, 32, 64, 64], "depths": [2, 2, 2, 2], "layer_type": "basic"}
    values = tiny_config.model_dump(mode="json")
    values["architecture"]["vision"] |= {"config": vision}
    return TrainConfig.parse(values | {"num_threads": 1}, where="train")


def test_they_explode_without_xavier_and_clipping(config: TrainConfig, tiny_data: LoadedManifest) -> None:
    torch.manual_seed(0)
    norms = gradients(config, tiny_data, normal=True, clipped=False)
    assert not max(norms) < 100 * config.clip_norm  # so that NaN counts as well


def test_they_do_not_with_both(config: TrainConfig, tiny_data: LoadedManifest) -> None:
    free = gradients(config, tiny_data, normal=False, clipped=False)
    assert max(free) < 20 * config.clip_norm, "more than a hundred times smaller by Xavier alone"
    norms = gradients(config, tiny_data, normal=False, clipped=True)
    assert max(norms) <= config.clip_norm * 1.0001
    assert min(norms) > 0
