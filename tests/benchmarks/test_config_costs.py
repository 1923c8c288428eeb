"""Every shipped configuration begins with what it costs and scores, as it was measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import seed_protocol
from benchmarks.config_costs import NOT_HAD, config_costs
from benchmarks.kept_runs import read_runs
from pipeline.config import CONFIGS

COSTS = config_costs()


def test_every_configuration_is_measured_or_says_that_it_is_not() -> None:
    assert {path.name for path in CONFIGS.glob("*.yaml")} == set(COSTS)
    unmeasured = {name for name, lines in COSTS.items() if lines[0].startswith("Not run here")}
    assert unmeasured == set(NOT_HAD) | (set() if read_runs(seed_protocol.RESULTS) else {"seed-500.yaml"})
    for name in COSTS.keys() - unmeasured:
        text = " ".join(COSTS[name])
        assert re.search(r"Mean AUROC 0\.\d+ \(0\.\d+", text), name
        assert "minutes" in text, name


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_it_begins_with_what_was_measured(path: Path) -> None:
    comment = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("# "))
    assert "\n".join(COSTS[path.name]) in "\n".join(comment)
    assert f"--config pipeline/configs/{path.name}" in "\n".join(comment) or "make demo" in "\n".join(comment)
