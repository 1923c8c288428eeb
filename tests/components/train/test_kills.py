"""SIGKILL of one process or of all, at random steps: what follows continues to the same weights, bit for bit."""

from __future__ import annotations

import io
import json
import os
import random
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch

from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.train.config import TrainConfig
from components.train.ema import Ema
from components.train.key import training_key
from components.train.setup import Setup
from components.train.train import train
from tests.components.train import ranks

NUM_STEPS = 40
PLACES = {"before the step": (Setup, "show"), "after the step": (Ema, "update")}


def run(config: TrainConfig, data: LoadedManifest, root: str, deaths: dict[int, tuple[int, str]]) -> None:
    """Train; the ranks of `deaths` kill themselves in that step (from 0), at that place."""
    if (death := deaths.get(int(os.environ.get("RANK", "0")))) is not None:
        step, place = death
        owner, name = PLACES[place]
        setattr(owner, name, dying(getattr(owner, name), step=step, place=place))
    train(config, loaded=data, root=Root(root))


def dying(function: Callable[..., Any], *, step: int, place: str) -> Callable[..., Any]:
    def until(*args: Any, **options: Any) -> Any:
        now = options["step"] if place == "before the step" else args[0].num_updates
        if now == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **options)

    return until


def state_of(config: TrainConfig, data: LoadedManifest, root: Root) -> dict[str, Any]:
    folder = root.checkpoints(training_key(config, data.hash))
    name = json.loads(folder.read("latest.json").data)["checkpoint"]
    assert name == f"step-{NUM_STEPS:08d}.pt"
    return torch.load(io.BytesIO(folder.read(name).data), weights_only=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # a minute on an idle machine
@pytest.mark.parametrize(
    ("num_processes", "changes", "num_kills"),
    [(1, {"num_workers": 1}, 3), (2, {"accumulate": 2}, 10)],
    ids=["one process and its loader", "two that accumulate"],
)
def test_killed_at_random_steps_it_ends_with_the_same_weights(
    num_processes: int, changes: dict[str, int], num_kills: int,
    tiny_data: LoadedManifest, tiny_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    config = tiny_config.model_copy(update={**changes, "epochs": NUM_STEPS // 4, "checkpoint_every": 3})
    straight, root = (Root(tmp_path_factory.mktemp(name)) for name in ("straight", "killed"))
    assert ranks.join(ranks.start(run, config, tiny_data, straight.uri, {}, num_processes=num_processes)) == (
        [0] * num_processes
    )

    chance = random.Random(num_processes)
    steps = sorted(chance.sample(range(1, NUM_STEPS), num_kills))
    assert any(step % 4 for step in steps), "within an epoch"
    for step in steps:
        whom = chance.choice([[rank] for rank in range(num_processes)] + [list(range(num_processes))])
        deaths = {rank: (step, chance.choice(list(PLACES))) for rank in whom}
        codes = ranks.join(ranks.start(run, config, tiny_data, root.uri, deaths, num_processes=num_processes))
        assert all(codes[rank] == -signal.SIGKILL for rank in whom[:1]), (deaths, codes)
        assert all(codes), "none goes on alone"
    assert ranks.join(ranks.start(run, config, tiny_data, root.uri, {}, num_processes=num_processes)) == (
        [0] * num_processes
    )

    one, other = (state_of(config, tiny_data, at) for at in (straight, root))
    for part in ("model", "ema"):
        assert one[part].keys() == other[part].keys()
        assert all(torch.equal(one[part][name], other[part][name]) for name in one[part])
    bundles = [at.bundle(training_key(config, tiny_data.hash)) for at in (straight, root)]
    assert bundles[0].read("weights.safetensors").data == bundles[1].read("weights.safetensors").data
