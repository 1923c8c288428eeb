"""The network compiles whole, for any number of films, and trains to nearly the same weights."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.train.config import TrainConfig
from components.train.key import training_key
from components.train.setup import Setup
from components.train.train import train


@pytest.mark.parametrize("method", ["self-training", "none"])
def test_it_is_one_graph_without_breaks_and_a_second_one_for_all_numbers_of_films(
    method: str, tiny_config: TrainConfig, tiny_data: LoadedManifest
) -> None:
    """Without generated code: torch's front end alone, whose answers are exactly those of the network itself."""
    values = tiny_config.model_dump(mode="json")
    values["architecture"]["fusion"]["dropout"] = 0.3
    values["semi_supervised"] |= {"method": method, "least_unlabeled": 0.0}
    setup = Setup(TrainConfig.parse(values, where="train"), tiny_data, device=torch.device("cpu"))
    if method == "self-training":
        setup.pseudo_SP = torch.full(setup.supervision.weight_SP.shape, 0.5)
    network = setup.network.train()
    graphs: list[torch.fx.GraphModule] = []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    compiled = torch.compile(network, backend=count, fullgraph=True)
    studies, numbers = list(range(12)), set()
    for step in range(5):
        shown = setup.show(setup.batches[studies], studies=studies, step=step)
        numbers.add(len(shown.student.present_N))
        counts = network.counts([shown])
        for name, loss in network(shown, counts).items():
            assert torch.equal(compiled(shown, counts)[name], loss)
    assert len(numbers) > 2
    assert len(graphs) == 2


@pytest.mark.soak
@pytest.mark.filterwarnings(
    "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"
)  # torch's own, in its compiler
def test_generated_code_trains_to_nearly_the_same_weights(
    tiny_config: TrainConfig, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    own, compiled = (
        weights(tiny_config.model_copy(update={"compile": compile}), tiny_data, Root(tmp_path / str(compile)))
        for compile in (False, True)
    )
    assert own.keys() == compiled.keys()
    assert max((own[name] - compiled[name]).abs().max() for name in own) < 1e-4
    assert any(not torch.equal(own[name], compiled[name]) for name in own), "other code ran"


def weights(config: TrainConfig, data: LoadedManifest, root: Root) -> dict[str, Tensor]:
    train(config, loaded=data, root=root, stop_after=3)
    folder = root.checkpoints(training_key(config, data.hash))
    name = json.loads(folder.read("latest.json").data)["checkpoint"]
    state: dict[str, dict[str, Tensor]] = torch.load(io.BytesIO(folder.read(name).data), weights_only=True)
    return state["model"]
