"""A gradient that is not finite ends the training, names its first step, and keeps what the network was shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from components.cxr.config import content_hash
from components.cxr.errors import UserError
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.train.config import TrainConfig
from components.train.finite import FiniteGuard
from components.train.key import training_key
from components.train.objectives.shown import Shown
from components.train.objectives.supervised import Supervised
from components.train.setup import Setup
from components.train.train import train


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_first_bad_step_is_named_with_its_norms(bad: float) -> None:
    kept: list[int] = []
    guard = FiniteGuard(
        torch.device("cpu"), parts=["vision", "text"], losses=["a"], save=lambda step: str(kept.append(step))
    )

    def add(step: int, vision: float, text: float) -> None:
        norms = torch.tensor([vision, text])
        guard.add(norms.norm(), norms, {"a": torch.tensor(step + 0.5)}, step=step)

    add(0, 1.0, 1.0)
    add(1, 2.0, 1.0)
    guard.check()
    add(2, 3.0, bad)
    add(3, 1.0, 1.0)
    add(4, bad, bad)
    with pytest.raises(UserError, match=rf"step 2.*vision 3, gradient norm of text {bad:.3g}, a loss 2\.5") as error:
        guard.check()
    assert error.value.code == "training-diverged"
    assert kept == [2]


def test_a_training_that_diverges_keeps_the_batch_without_ids_or_text(
    tiny_data: LoadedManifest, tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad_step = 5  # the second of the second epoch
    shown_films: list[torch.Tensor] = []

    class Bad(Supervised):
        def forward(self, logits_EBP3: torch.Tensor, shown: Shown, count_E: torch.Tensor) -> torch.Tensor:
            shown_films.append(shown.student.films_BVHW)
            loss = super().forward(logits_EBP3, shown, count_E)
            return loss / 0.0 if len(shown_films) == bad_step + 1 else loss

    monkeypatch.setattr("components.train.setup.Supervised", Bad)
    root = Root(tmp_path)
    with pytest.raises(UserError, match=rf"step {bad_step};.*gradient norm of vision.*supervised loss inf") as error:
        train(tiny_config, loaded=tiny_data, root=root)
    folder = root.checkpoints(training_key(tiny_config, tiny_data.hash))
    tensors = load(folder.read(f"diverged-{bad_step:08d}.safetensors").data)
    assert torch.equal(tensors["student.films_BVHW"], shown_films[bad_step])
    assert not [name for name in tensors if "tokens_BT" in name or "token_mask" in name], "token ids are the text"
    told = json.loads(folder.read(f"diverged-{bad_step:08d}.json").data)
    setup = Setup(tiny_config, tiny_data, device=torch.device("cpu"))
    ids = [setup.training.study_ids[study] for study in setup.order.batch(bad_step)]
    assert told["studies"] == [content_hash(tiny_data.hash, name) for name in ids]
    assert told["studies"][0] in error.value.line
    whole = error.value.line + json.dumps(told)
    assert not any(name in whole for name in ids)
    assert json.loads(folder.read("latest.json").data)["checkpoint"] <= f"step-{bad_step:08d}.pt"


def test_weights_that_overflow_are_told_before_validation_scores_them(
    tiny_data: LoadedManifest, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    changes = {"learning_rate": 1e37, "warm_up": 0.0, "batch_size": 1000, "epochs": 2}  # one step per epoch
    with pytest.raises(UserError, match=r"training diverged.*answers that are not finite.*Lower train\.learning_rate"):
        train(tiny_config.model_copy(update=changes), loaded=tiny_data, root=Root(tmp_path))
