"""The benchmark of the training loop runs the real loop and the bare network, and says how they compare."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from benchmarks import train_step


@pytest.mark.slow
def test_it_prints_one_line_of_json_per_encoder(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRFLOW_CACHE", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    app = train_step.typer.Typer()
    app.command()(train_step.main)
    result = CliRunner().invoke(
        app, ["--size", "32", "--batch", "4", "--steps", "2", "--rounds", "2"], catch_exceptions=False
    )
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("{")]
    found = json.loads(line)
    assert found["steps"] == 4
    names = {"bare", "channels_last", "not_fused", "loop", "accumulate_4", "semi_supervised"}
    assert found["ms"].keys() == names
    assert all(found["ms"][name] > 0 for name in names)
    assert found["channels_last_ratio"] == pytest.approx(found["ms"]["channels_last"] / found["ms"]["bare"], abs=1e-3)
    assert found["fused_ratio"] == pytest.approx(found["ms"]["bare"] / found["ms"]["not_fused"], abs=1e-3)
    assert found["accumulate_ratio"] == pytest.approx(found["ms"]["accumulate_4"] / found["ms"]["loop"], abs=1e-3)
    assert "compiled_ratio" not in found
    assert found["loop_efficiency"] == pytest.approx(found["ms"]["bare"] / found["ms"]["loop"], abs=1e-3)
    assert found["ssl_cost_ratio"] == pytest.approx(found["ms"]["semi_supervised"] / found["ms"]["loop"], abs=1e-3)
    for name in ("loop_efficiency", "ssl_cost_ratio", "accumulate_ratio", "channels_last_ratio", "fused_ratio"):
        low, high = found[f"{name}_ci"]
        assert low <= found[name] <= high


def test_the_interval_is_of_the_ratio_of_the_medians() -> None:
    assert train_step._interval([2.0] * 5, [1.0] * 5) == [2.0, 2.0]
    low, high = train_step._interval([1.0, 2.0, 3.0, 4.0, 50.0], [1.0] * 5)
    assert 1.0 <= low < 3.0 < high <= 50.0
