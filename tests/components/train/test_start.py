"""What is wrong with a configuration is said before any film is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.cxr.errors import UserError
from components.cxr.model.architecture import Architecture
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.train.config import TrainConfig
from components.train.launch import launch


@pytest.mark.parametrize("processes", [1, 2])
def test_no_cuda_is_said_first(processes: int, tiny_data: LoadedManifest, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    config = TrainConfig(device="cuda", num_processes=processes)
    with pytest.raises(UserError) as error:
        launch(config, root=Root(tmp_path / "root"), manifest=tiny_data.storage)
    assert error.value.code == "no-cuda"
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("nodes", [1, 2])
def test_texts_too_long_for_the_encoder_are_said_first(nodes: int, tiny_data: LoadedManifest, tmp_path: Path) -> None:
    config = TrainConfig(architecture=Architecture(max_tokens=129), num_nodes=nodes)
    with pytest.raises(UserError, match=r"max_tokens; found 129, expected at most 128") as error:
        launch(config, root=Root(tmp_path / "root"), manifest=tiny_data.storage)
    assert error.value.code == "too-many-tokens"
    assert not (tmp_path / "root").exists()
