"""A batch that goes through the network in parts gives the weights of the whole batch, on one process and on two."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import yaml
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.train.accumulation import add_gradients, parts_of
from components.train.config import TrainConfig
from components.train.key import training_key
from components.train.loading.batches import batches
from components.train.objectives.shown import Shown
from components.train.setup import Setup
from components.train.train import train

HOST = torch.device("cpu")
NUM_STEPS = 10


@pytest.fixture(scope="module")
def config(tiny_config: TrainConfig) -> TrainConfig:
    """Every loss, every dropout; modalities that fall and labels that are missing, so that parts have unlike counts."""
    values = tiny_config.model_dump(mode="json")
    values["architecture"]["fusion"]["dropout"] = 0.3
    values["labels"] = {"uncertain": "multiclass", "blank": "unlabeled"}
    values["semi_supervised"] = {
        "weight": 4.0, "num_teachers": 1, "teacher_epochs": 1, "least_unlabeled": 0.0, "unlabeled_per_labeled": 1.0
    }  # fmt: skip
    values["modality_dropout"] = {"image": 0.3, "text": 0.5, "meta": 0.5}
    return TrainConfig.parse(values | {"epochs": 2, "batch_size": 12, "num_threads": 1}, where="train")


@pytest.fixture(scope="module")
def whole(
    config: TrainConfig, tiny_data: LoadedManifest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Tensor]:
    return weights(config, tiny_data, Root(tmp_path_factory.mktemp("whole")))


@pytest.fixture
def setup(config: TrainConfig, tiny_data: LoadedManifest) -> Setup:
    setup = Setup(config, tiny_data, device=HOST)
    chances_SP = torch.rand(setup.supervision.weight_SP.shape, generator=torch.Generator().manual_seed(0))
    setup.pseudo_SP = chances_SP.where(setup.supervision.untaught(), torch.nan)
    return setup


@pytest.mark.parametrize("accumulate", [2, 4, 5])
def test_parts_give_the_weights_of_the_whole_batch(
    accumulate: int, whole: dict[str, Tensor], config: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    found = weights(config.model_copy(update={"accumulate": accumulate}), tiny_data, Root(tmp_path))
    assert largest_difference(found, whole) < 1e-5


def test_two_processes_with_parts_give_the_weights_of_one_without(
    whole: dict[str, Tensor], config: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    root, file = Root(tmp_path / "root"), tmp_path / "train.yaml"
    changes = {"num_processes": 2, "accumulate": 2}
    file.write_text(yaml.safe_dump({"root": root.uri, "train": config.model_dump(mode="json") | changes}))
    command = [sys.executable, "-m", "components.train", "--config", str(file), "--manifest", tiny_data.storage.uri]
    subprocess.run(command, check=True, timeout=300)
    assert largest_difference(last_weights(root, config, tiny_data), whole) < 1e-5


def test_counts_are_those_of_the_whole_batch_and_unlike_from_part_to_part(setup: Setup) -> None:
    one, parts = shown(setup, accumulate=1), shown(setup, accumulate=3)
    expected, found = setup.network.counts(one), setup.network.counts(parts)
    assert expected.keys() == found.keys() == {"supervised", "pseudo_label"}
    for name, count_E in expected.items():
        assert torch.equal(found[name], count_E)
    of_parts = [setup.network.counts([part])["supervised"].tolist() for part in parts]
    assert len(set(map(tuple, of_parts))) > 1, of_parts


def test_losses_are_summed_over_the_parts(setup: Setup) -> None:
    weights_of = setup.network.weights(8)
    expected, found = (
        add_gradients(setup.network, shown(setup, accumulate=accumulate), weights=weights_of) for accumulate in (1, 3)
    )
    assert expected["pseudo_label"] > 1e-4
    for name, loss in expected.items():
        torch.testing.assert_close(found[name], loss)
        assert not found[name].requires_grad


@pytest.mark.usefixtures("one_process_group")
def test_processes_exchange_gradients_and_counts_once_a_step(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    exchanged, counted = [], []
    network = DistributedDataParallel(setup.network)

    def exchange(state, bucket):  # torch reads annotations, and refuses those of strings
        state.append(bucket)
        done = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    network.register_comm_hook(exchanged, exchange)
    reduce = dist.all_reduce
    monkeypatch.setattr(dist, "all_reduce", lambda value: counted.append(value) or reduce(value))
    add_gradients(network, shown(setup, accumulate=3), weights=setup.network.weights(8))
    assert (len(exchanged), len(counted)) == (1, 1)


def test_no_part_is_empty_and_no_study_is_left_out() -> None:
    for num_studies in range(1, 9):
        for accumulate in range(1, 10):
            parts = [list(range(num_studies))[part] for part in parts_of(num_studies, accumulate=accumulate)]
            assert [study for part in parts for study in part] == list(range(num_studies))
            assert len(parts) == min(accumulate, num_studies)
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.fixture
def one_process_group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def shown(setup: Setup, *, accumulate: int) -> list[Shown]:
    """The parts of the first batch."""
    studies, batch = next(batches(setup, epoch=0))
    setup.network.train()
    return [
        setup.show(batch.rows(part), studies=studies[part], step=0)
        for part in parts_of(len(studies), accumulate=accumulate)
    ]


def weights(config: TrainConfig, data: LoadedManifest, root: Root) -> dict[str, Tensor]:
    train(config, loaded=data, root=root)
    return last_weights(root, config, data)


def last_weights(root: Root, config: TrainConfig, data: LoadedManifest) -> dict[str, Tensor]:
    folder = root.checkpoints(training_key(config, data.hash))
    name = json.loads(folder.read("latest.json").data)["checkpoint"]
    assert name == f"step-{NUM_STEPS:08d}.pt"
    state = torch.load(io.BytesIO(folder.read(name).data), weights_only=True)
    return state["model"] | {f"average.{key}": value for key, value in state["ema"].items()}


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name].double() - other[name].double()).abs().max().item() for name in one)
