"""What the benchmark of encoders' costs measures is there, and differs in the way that it is for."""

from __future__ import annotations

import pytest
from torch import nn

from benchmarks import encoder_costs
from components.cxr.model.feature_maps import FeatureMaps
from components.train import tuning


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    vit = {"model_type": "dinov2", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    monkeypatch.setitem(encoder_costs.ENCODERS, "small", {**vit, "patch_size": 14, "image_size": 28})
    monkeypatch.setenv("CXRFLOW_CACHE", "set again by the benchmark")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_maps_are_kept_in_one_of_the_two_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    kept = FeatureMaps.kept.__func__  # type: ignore[attr-defined]

    def counted(cls: type[FeatureMaps], encoder: nn.Module, *args: object, **options: object) -> FeatureMaps:
        made.append(1)
        return kept(cls, encoder, *args, **options)

    monkeypatch.setattr(FeatureMaps, "kept", classmethod(counted))
    without = encoder_costs.maps("small", False, 28, 8, 4, 1)
    assert not made
    assert without["mb_per_film"] == 0
    found = encoder_costs.maps("small", True, 28, 8, 4, 1)
    assert made
    assert found["seconds"] > 0
    assert found["mb_per_film"] == pytest.approx(32 * 2 * 2 * 4 / 1e6, abs=1e-3), "float32, 32 channels, 2 x 2 cells"


def test_checkpointing_computes_layers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    recomputed = tuning.recomputed_with_keys
    monkeypatch.setattr(tuning, "recomputed_with_keys", lambda: calls.append(True) or recomputed())
    plain = encoder_costs.checkpointing("small", False, 28, 4)
    assert not calls
    again = encoder_costs.checkpointing("small", True, 28, 4)
    assert calls
    assert plain.keys() == again.keys() == {"seconds", "megabytes"}
    assert again["seconds"] > 0
