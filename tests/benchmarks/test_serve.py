"""The server's benchmark asks a real server, and its ratios are of what it prints."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from benchmarks import serve
from components.cxr.errors import UserError
from tests.components.conftest import _own_places, tiny_data, untrained_bundle  # noqa: F401
from tests.components.serve.conftest import World, evaluate_bundle


@pytest.fixture(scope="module")
def evaluated(tiny_data, untrained_bundle, tmp_path_factory) -> World:  # noqa: F811
    return evaluate_bundle(tmp_path_factory.mktemp("evaluated"), tiny_data, untrained_bundle)


@pytest.mark.slow
def test_it_prints_one_line_of_json(evaluated: World) -> None:
    app = serve.typer.Typer()
    app.command()(serve.main)
    places = ["--bundle", evaluated.bundle.uri, "--evaluation", evaluated.evaluation.uri]
    result = CliRunner().invoke(app, ["--quick", *places], catch_exceptions=False)
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("{")]
    found = json.loads(line)
    assert "of which  upload" in result.stdout
    assert found["one_client"].keys() == found["many_clients"].keys() == {"raw", "jpeg-lossless", "jpeg2000"}
    for one in found["one_client"].values():
        assert one["ratio"] == pytest.approx(one["request_ms"] / (one["bare_ms"] + serve.ALLOWED_MS), rel=0.05)
        assert set(one["of_which_ms"]) == {"upload", "form", "read", "model"}
        assert one["request_ms"] / 3 < sum(one["of_which_ms"].values()) < one["request_ms"]
        assert one["ratio_ci"][0] <= one["ratio"] <= one["ratio_ci"][1]
    for many in found["many_clients"].values():
        assert many["ratio"] == pytest.approx(many["requests_per_second"] / many["offline_per_second"], rel=0.05)
        assert many["health_p99_ms"] > 0
        both = 1 / (1 / many["loopback_per_second"] + 1 / many["offline_per_second"])
        assert many["ratio_without_a_server"] == pytest.approx(both / many["offline_per_second"], rel=0.05)
    assert found["latency_ratio"] == found["one_client"]["raw"]["ratio"]
    assert found["throughput_ratio"] == found["many_clients"]["raw"]["ratio"]
    assert found["health_p99_ms_under_load"] == found["many_clients"]["raw"]["health_p99_ms"]
    assert found["start_s"] > 0


def test_a_root_without_a_deployment_is_one_clear_line(tmp_path) -> None:
    with pytest.raises(UserError, match="nothing is deployed"):
        serve.deployed(str(tmp_path))
