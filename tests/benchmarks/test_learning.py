"""What the benchmark of learning makes of the runs that are kept, and that the docs show just that."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import learning

REPOSITORY = Path(__file__).parents[2]


def run(arm: str, seed: int, *, auroc: float, per_patient: np.ndarray) -> dict:
    samples = np.round(10_000 * (auroc + per_patient)).astype(int).tolist()
    return {
        "arm": arm,
        "seed": seed,
        "preset": "medium",
        "cpu_minutes": 1.5,
        "auroc_times_10000": {"all": samples, "image": samples},
    }


@pytest.fixture
def runs() -> list[dict]:
    """Patients move all runs alike by .02; seeds differ by .01 in every arm but the oracle."""
    noise = np.concatenate([[0.0], np.random.default_rng(5).normal(0.0, 0.02, learning.NUM_SAMPLES)])
    means = {"none": 0.66, "mean teacher": 0.65, "self-training": 0.69, "report labels": 0.74, "oracle": 0.76}
    return [
        run(arm, seed, auroc=mean + 0.01 * seed * (arm != "oracle"), per_patient=noise)
        for arm, mean in means.items()
        for seed in range(3)
    ]


def test_the_best_method_is_compared_with_none_patient_by_patient(
    runs: list[dict], capsys: pytest.CaptureFixture[str]
) -> None:
    found = learning._table(runs)
    assert found["ssl_method"] == "self-training"
    assert found["ssl_seeds"] == 3
    assert found["ssl_gain"] == pytest.approx(0.03, abs=1e-6)
    assert found["ssl_gain_low"] == pytest.approx(0.03, abs=2e-4), "what all runs have in common falls out"
    assert found["report_gap_closed"] == pytest.approx(0.08 / 0.09, abs=1e-3)
    assert found["report_gap_closed_low"] < found["report_gap_closed"]
    lines = capsys.readouterr().out.splitlines()
    (none,) = [line for line in lines if line.startswith("none ")]
    assert "0.6700 (" in none


def test_only_seeds_that_both_arms_have_are_compared(runs: list[dict]) -> None:
    """The third seed of self-training alone would make it look better."""
    kept = [each for each in runs if not (each["arm"] == "none" and each["seed"] == 2)]
    found = learning._table(kept)
    assert found["ssl_seeds"] == 2
    assert found["ssl_gain"] == pytest.approx(0.03, abs=1e-6)


def test_without_runs_there_is_nothing_to_tell() -> None:
    assert learning._table([]) == {}


def test_the_docs_show_what_the_kept_runs_say(capsys: pytest.CaptureFixture[str]) -> None:
    kept = json.loads(learning.RESULTS.read_text())
    page = (REPOSITORY / "docs" / "learning.md").read_text()
    for preset in sorted({each["preset"] for each in kept.values()}):
        found = learning._table([each for each in kept.values() if each["preset"] == preset])
        shown = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())
        assert f"```text\n{shown}\n{json.dumps(found)}\n```" in page


def test_every_kept_run_is_whole() -> None:
    for key, kept in json.loads(learning.RESULTS.read_text()).items():
        assert len(key) == 16
        assert kept["arm"] in learning.ARMS
        assert kept["revision"]
        for samples in kept["auroc_times_10000"].values():
            assert len(samples) == 1 + learning.NUM_SAMPLES
            assert all(3000 < value < 10_000 for value in samples)
