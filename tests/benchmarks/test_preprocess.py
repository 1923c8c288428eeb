"""The benchmark of preprocess runs, and ends in one line of JSON."""

from __future__ import annotations

import json
import subprocess
import sys


def test_the_benchmark_ends_in_its_ratios() -> None:
    small = ["--rows", "240", "--columns", "200", "--rounds", "3", "--size", "64"]
    command = [sys.executable, "-m", "benchmarks.preprocess", *small]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    ratios = json.loads(output.strip().splitlines()[-1])
    assert ratios.pop("benchmark") == "preprocess"
    assert set(ratios) == {"speedup_vs_pydicom", "speedup_vs_torchxrayvision", "times_decode_floor"}
    assert all(ratio > 0 for ratio in ratios.values())
    assert "JPEG-LS" in output
