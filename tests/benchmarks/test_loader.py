"""The loader's benchmark compares what shows the same films, and its intervals are of paired passes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.loader import measure_metadata, measure_speed, ratio


@pytest.mark.slow
def test_contenders_show_the_same_and_ratios_have_intervals(tmp_path: Path) -> None:
    found = measure_speed(tmp_path, images=128, rounds=3, peers=Path(sys.executable))
    assert "png" in found["images_per_second"]
    assert "cxrflow" not in found["not_run"]
    assert found["best_peer"] in found["images_per_second"]
    for name in ("over_best_peer", "of_memory_copy"):
        assert 0 < found[name]["low"] <= found[name]["median"] <= found[name]["high"]


def test_a_ratio_is_of_passes_that_took_turns() -> None:
    # Every pass is twice as fast as its neighbor, though passes differ a hundredfold.
    assert ratio([2.0, 200.0, 20.0, 6.0], [1.0, 100.0, 10.0, 3.0]) == {"median": 2.0, "low": 2.0, "high": 2.0}


@pytest.mark.slow
def test_metadata_is_measured_in_every_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRFLOW_CACHE", str(tmp_path / "own"))
    found = measure_metadata(tmp_path, ranks=2, num_studies=3000)
    assert (found["studies"], found["processes"]) == (3000, 2)
    assert found["films"] > 4000
    assert set(found["seconds_to_open"]) == {"cold", "warm"}
    assert found["metadata_mb"] > 0
