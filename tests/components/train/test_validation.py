"""Validation by several processes gives the number of one: each scores a part, and all know the whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from components.cxr.auroc import mean_auroc
from components.cxr.labels import truth_of
from components.cxr.model.predictor import predict
from components.cxr.shards import LoadedManifest
from components.train import validation
from components.train.config import TrainConfig
from components.train.distributed import distributed, rank
from components.train.setup import Setup
from components.train.stopping import StopRequest
from components.train.validation import validated
from tests.components.train import ranks

CPU = torch.device("cpu")
BATCH_SIZES = (32, 9, 5)
"""24 studies in one batch, so that all processes but the first have none, in 3 and in 5."""


def score(config: TrainConfig, data: LoadedManifest, batch_sizes: Sequence[int], folder: Path) -> None:
    """Validate the initial weights as one process of several; each writes what it found."""
    torch.set_num_threads(1)
    found = []
    with distributed(CPU):
        setup = Setup(config, data, device=CPU)
        for size in batch_sizes:
            validation.BATCH_SIZE = size
            now = validated(setup.average(), setup.validation, device=CPU, stop=StopRequest())
            assert now is not None
            found.append([now.auroc, now.network, now.score_SP.tolist()])
        (folder / f"{rank()}.json").write_text(json.dumps(found))


@pytest.mark.parametrize("num_processes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_processes_find_the_auroc_of_one(
    num_processes: int, tiny_data: LoadedManifest, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    found = {}
    for n in (1, num_processes):
        folder = tmp_path / str(n)
        folder.mkdir()
        assert ranks.join(ranks.start(score, tiny_config, tiny_data, BATCH_SIZES, folder, num_processes=n)) == [0] * n
        found[n] = [json.loads((folder / f"{r}.json").read_text()) for r in range(n)]
    (one,) = found[1]
    assert found[num_processes] == [one] * num_processes, "on every process, to the last digit"

    setup = Setup(tiny_config, tiny_data, device=CPU)
    whole = predict(setup.average(), list(setup.validation)).score_SP
    truth_SP = truth_of(setup.validation.states_SP, setup.validation.labeled_S, protocol="A")
    expected = mean_auroc(whole, truth_SP)
    for auroc, network, score_SP in one:
        assert [auroc, network] == pytest.approx([expected] * 2, abs=1e-9), "without an expert of patches both are one"
        np.testing.assert_allclose(score_SP, whole, atol=1e-5)
    assert np.ptp(whole, axis=0).min() > 1e-4, "studies differ"
