"""The protocol of 500 studies: its recipes, its table, and that the docs show just what is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import seed_protocol
from benchmarks.kept_runs import NUM_SAMPLES, read_runs
from components.cxr.labels import PATHOLOGIES
from components.train.config import TrainConfig

REPOSITORY = Path(__file__).parents[2]


def run(recipe: str, seed: int, *, auroc: float) -> dict:
    noise = np.concatenate([[0.0], np.random.default_rng(5).normal(0.0, 0.02, NUM_SAMPLES)])
    samples = np.round(10_000 * (auroc + noise)).astype(int).tolist()
    return {
        "recipe": recipe, "seed": seed, "training_studies": 500, "test_studies": 2000, "test_patients": 900,
        "cpu_seconds": 30.0, "positives": [50] * len(PATHOLOGIES),
        "auroc_times_10000": {"labels": samples, "truth": samples},
        "times_10000": {c: [1000 * (i + 1)] * len(PATHOLOGIES) for i, c in enumerate(seed_protocol.COLUMNS)},
    }  # fmt: skip


def test_both_recipes_stand_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    means = {"seed": 0.60, "shipped": 0.63}
    found = seed_protocol.print_table([run(name, s, auroc=mean) for name, mean in means.items() for s in range(3)])
    assert found["gain_labels"] == pytest.approx(0.03)
    assert found["gain_truth_low"] == pytest.approx(0.03, abs=2e-4), "what both have in common falls out"
    lines = capsys.readouterr().out.splitlines()
    (edema,) = [line for line in lines if line.startswith("Edema ")]
    assert edema.split()[1:] == ["50", *["0.100", "0.200", "0.300", "0.400", "0.500"] * 2]
    assert any(line.startswith("shipped ") and "0.6300 (" in line for line in lines)


def test_only_seeds_that_both_recipes_have_are_compared() -> None:
    runs = [run("seed", 0, auroc=0.60), run("shipped", 0, auroc=0.61), run("shipped", 1, auroc=0.70)]
    assert seed_protocol.print_table(runs)["gain_labels"] == pytest.approx(0.01)


def test_the_recipes_are_what_they_are_called() -> None:
    seed, shipped = (TrainConfig.parse(seed_protocol.values_of(name, 1), where="train") for name in ("seed", "shipped"))
    assert seed.architecture.fusion.kind == "concat"
    assert seed.semi_supervised.method == "none"
    assert seed.labeled_fraction == shipped.labeled_fraction == 0.1266
    assert seed.epochs == shipped.epochs == 25
    assert shipped.architecture.fusion.kind == "experts"
    assert seed.batch_size == shipped.batch_size
    assert seed.architecture.vision == shipped.architecture.vision


def test_the_docs_show_what_the_kept_runs_say(capsys: pytest.CaptureFixture[str]) -> None:
    seed_protocol.print_report(seed_protocol.RESULTS)
    shown = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())
    assert f"```text\n{shown}\n```" in (REPOSITORY / "docs" / "learning.md").read_text()


def test_every_kept_run_is_whole_and_of_the_recipes_of_today() -> None:
    kept = read_runs(seed_protocol.RESULTS)
    assert len({(each["recipe"], each["seed"]) for each in kept.values()}) == len(kept) > 0
    for each in kept.values():
        values = seed_protocol.values_of(each["recipe"], each["seed"])
        assert each["configuration"] == seed_protocol.recipe_hash(values)
        for samples in each["auroc_times_10000"].values():
            assert len(samples) == 1 + NUM_SAMPLES
            assert all(4000 < value < 10_000 for value in samples)
