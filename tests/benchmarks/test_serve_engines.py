"""Every engine that is timed gives the encoder's own map."""

from __future__ import annotations

import pytest
import torch

from benchmarks import serve_engines
from components.cxr.bundle import load_bundle
from tests.components.conftest import _own_places, tiny_data, untrained_bundle  # noqa: F401


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what torch.compile imports
def test_every_engine_gives_the_same_map(untrained_bundle, capsys) -> None:  # noqa: F811
    bundle = load_bundle(untrained_bundle)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        size = bundle.info.pixel_preset.size
        found = serve_engines.measure(bundle.model.eval().vision, size=size, key=bundle.hash, repeats=2)
    printed = capsys.readouterr().out
    assert found.keys() == {"1", "16"}
    for engines in found.values():
        assert list(engines) == ["eager", "channels last", "torch.compile", "ONNX Runtime"]
        assert engines["eager"]["difference"] == 0
        for name, told in engines.items():
            assert told["difference"] < 1e-4
            assert f"{told['ms']:.2f} ms" in printed
            assert name in printed
