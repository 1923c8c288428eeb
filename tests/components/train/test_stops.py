"""A training that stops at any step of an epoch, wherever its best epoch lies, ends with the same bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from components.cxr.labels import LabelPolicy
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.train.config import SemiSupervised, TrainConfig
from components.train.key import training_key
from components.train.train import train
from tests.components.train.as_right import as_right

STEPS_PER_EPOCH = 4


@pytest.mark.parametrize(
    ("scores", "stops"), [((1.0, 0.0), [5, 7]), ((0.0, 1.0), range(1, 9))], ids=["the first is best", "the second is"]
)
def test_stopped_at_any_step_it_ends_with_the_same_weights(
    scores: tuple[float, ...], stops: Sequence[int], tiny_data: LoadedManifest, tiny_config: TrainConfig,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    config = tiny_config.model_copy(update={"epochs": 2})

    def weights(folder: str, *, stop: int | None) -> bytes:
        told = iter(scores)
        monkeypatch.setattr("components.train.train.validated", lambda _, studies, **__: as_right(next(told), studies))
        root = Root(tmp_path / folder)
        if stop is not None:
            train(config, loaded=tiny_data, root=root, stop_after=stop)
        train(config, loaded=tiny_data, root=root)
        assert next(told, None) is None, "each epoch is validated once"
        return root.bundle(training_key(config, tiny_data.hash)).read("weights.safetensors").data

    straight = weights("straight", stop=None)
    for stop in stops:
        assert weights(f"stop-{stop}", stop=stop) == straight, f"stopped after step {stop}"


def test_blanks_that_are_ignored_and_blanks_that_are_unlabeled_give_different_weights(
    tiny_data: LoadedManifest, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    found = []
    for blank in ("ignore", "unlabeled"):
        policy = LabelPolicy.model_validate({"blank": blank})
        semi = SemiSupervised(num_teachers=1, teacher_epochs=1, least_unlabeled=0.0)
        config = tiny_config.model_copy(update={"epochs": 1, "labels": policy, "semi_supervised": semi})
        bundle = train(config, loaded=tiny_data, root=Root(tmp_path / blank))
        found.append(bundle.read("weights.safetensors").data)
    assert found[0] != found[1]
