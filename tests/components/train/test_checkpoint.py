"""A checkpoint brings back everything that a run has learned, and is there whole or not at all."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from components.cxr.errors import UserError
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Storage, open_storage
from components.train.checkpoint import POINTER, Progress, load_checkpoint, save_checkpoint
from components.train.config import TrainConfig
from components.train.setup import Setup

CPU = torch.device("cpu")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(tmp_path / "checkpoints")


@pytest.fixture(scope="module")
def setup(tiny_data: LoadedManifest, tiny_config: TrainConfig) -> Setup:
    """After three updates."""
    made = Setup(tiny_config, tiny_data, device=CPU)
    generator = torch.Generator().manual_seed(5)
    for _ in range(3):
        for group in made.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.randn(parameter.shape, generator=generator)
        made.optimizer.step()
        made.ema.update(made.network.classifier)
    return made


def state(setup: Setup) -> dict[str, Any]:
    return {
        "network": setup.network.state_dict(),
        "ema": setup.ema.model.state_dict(),
        "updates": setup.ema.num_updates,
        "optimizer": setup.optimizer.state_dict(),
    }


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def test_everything_comes_back(
    setup: Setup, storage: Storage, tiny_data: LoadedManifest, tiny_config: TrainConfig
) -> None:
    best = {"best_network": 0.7, "best_score_SP": torch.arange(6.0).reshape(3, 2)}
    kept = {"kept_epoch": 2, "kept_auroc": 0.75, "kept_weights": {"norm.weight": torch.arange(4.0)}}
    progress = Progress(step=12, **best, **kept, run_id="run")
    save_checkpoint(storage, setup, progress)
    fresh = Setup(tiny_config, tiny_data, device=CPU)
    assert not same(state(fresh), state(setup))
    found = load_checkpoint(storage, fresh, device=CPU)
    assert same(state(fresh), state(setup))
    assert same(vars(found), vars(progress))


def test_what_was_on_the_host_comes_back_to_it(setup: Setup, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read onto a device, as a training on one reads its weights; `meta` stands for it where there is none."""
    kept = {"kept_epoch": 1, "kept_weights": {"norm.weight": torch.arange(4.0)}}
    save_checkpoint(storage, setup, Progress(step=4, best_network=0.7, best_score_SP=torch.zeros(3, 2), **kept))
    load, moved = torch.load, []

    def onto_a_device(file: Any, **options: Any) -> Any:
        state = load(file, **options)
        moved.append(_Elsewhere(state["progress"]["best_score_SP"]))
        state["progress"]["best_score_SP"] = moved[0]
        state["progress"]["kept_weights"] = {"norm.weight": _Elsewhere(torch.arange(4.0))}
        return state

    monkeypatch.setattr(torch, "load", onto_a_device)
    found = load_checkpoint(storage, setup, device=CPU)
    assert found.best_score_SP is not None
    assert found.kept_weights is not None
    for tensor in (found.best_score_SP, *found.kept_weights.values()):
        assert type(tensor) is torch.Tensor
        assert tensor.numpy() is not None


class _Elsewhere(torch.Tensor):
    """As one on a GPU: not without a copy to the host."""

    def numpy(self, **_: Any) -> Any:
        raise TypeError

    def cpu(self, **_: Any) -> torch.Tensor:
        return self.as_subclass(torch.Tensor)


def test_without_a_checkpoint_a_run_starts(setup: Setup, storage: Storage) -> None:
    assert load_checkpoint(storage, setup, device=CPU) == Progress()


def test_the_newest_alone_is_kept(setup: Setup, storage: Storage) -> None:
    for step in (3, 6, 12):
        save_checkpoint(storage, setup, Progress(step=step))
    assert sorted(storage.sizes()) == [POINTER, "step-00000012.pt"]
    assert load_checkpoint(storage, setup, device=CPU).step == 12


@pytest.mark.parametrize("first", ["step-00000006.pt", POINTER])
def test_killed_before_the_checkpoint_the_one_before_is_taken(
    first: str, setup: Setup, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the file or before the pointer to it."""
    save_checkpoint(storage, setup, Progress(step=3))
    write = storage.write

    def killed(name: str, data: bytes, **options: Any) -> Any:
        if name == first:
            raise KeyboardInterrupt
        return write(name, data, **options)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(storage, setup, Progress(step=6))
    assert load_checkpoint(storage, setup, device=CPU).step == 3
    save_checkpoint(storage, setup, Progress(step=6))
    assert sorted(storage.sizes()) == [POINTER, "step-00000006.pt"]


class _Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('run by a checkpoint')",)


@pytest.mark.parametrize("harm", ["cut", "gone", "empty", "code"])
def test_a_damaged_checkpoint_is_one_error_that_says_how_to_start_over(
    harm: str, setup: Setup, storage: Storage
) -> None:
    save_checkpoint(storage, setup, Progress(step=3))
    name = json.loads(storage.read(POINTER).data)["checkpoint"]
    data = storage.read(name).data
    if harm == "gone":
        storage.delete(name)
    else:
        storage.write(
            name, {"cut": data[: len(data) // 2], "empty": b"", "code": pickle.dumps(_Harm(), protocol=2)}[harm]
        )
    before = state(setup)["updates"]
    with pytest.raises(UserError, match=r"damaged checkpoint.*step-00000003\.pt.*Delete .* to start") as error:
        load_checkpoint(storage, setup, device=CPU)
    assert "\n" not in str(error.value)
    assert setup.ema.num_updates == before
