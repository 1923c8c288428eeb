"""The simulation of promotions: what it counts, and that the docs show what was kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import promotion_draws
from benchmarks.promotion_draws import CELLS, RESULTS, Cell, binomial_interval, measure, table
from components.cxr.auroc import mean_auroc

REPOSITORY = Path(__file__).parents[2]
MUCH_BETTER = Cell("much better", 0.1, 0.1, 1000)


def test_much_better_models_pass_and_much_worse_ones_do_not(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    cells = [MUCH_BETTER, Cell("films much worse", 0.1, -0.1, 1000), Cell("much worse", -0.1, -0.1, 1000)]
    found = measure(draws=4, cells=cells, kept=kept)
    assert [cell["promoted"] for cell in found["cells"].values()] == [4, 0, 0]
    assert [cell["mean"] for cell in found["cells"].values()] == [4, 4, 0]
    assert found["cells"]["films much worse"]["films_shown_worse"] == 4
    assert json.loads(kept.read_text()) == found
    assert table(found).splitlines()[2] == "| much better | 1,000 | 4 of 4 | 39.8 to 100.0 % | 4 | 4 |"


def test_what_is_kept_is_not_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "kept.json"
    found = measure(draws=2, cells=[MUCH_BETTER], kept=kept)
    monkeypatch.setattr(promotion_draws, "_draw", lambda *_: pytest.fail("drawn again"))
    assert measure(draws=2, cells=[MUCH_BETTER], kept=kept) == found
    monkeypatch.setattr(promotion_draws, "_draw", lambda *_: dict.fromkeys(("mean", "films", "promoted"), False))
    assert measure(draws=3, cells=[MUCH_BETTER], kept=kept)["cells"]["much better"]["promoted"] == 0


def test_the_models_are_as_good_as_the_cell_says() -> None:
    _, truth_SP, models = promotion_draws._test_set(Cell("", 0.05, -0.05, 20_000), np.random.default_rng(0))
    champion, challenger = next(models), next(models)
    assert mean_auroc(champion.score_SP, truth_SP) == pytest.approx(0.80, abs=0.01)
    assert mean_auroc(challenger.score_SP, truth_SP) == pytest.approx(0.85, abs=0.01)
    assert mean_auroc(champion.film_SP, truth_SP) == pytest.approx(0.78, abs=0.01)
    assert mean_auroc(challenger.film_SP, truth_SP) == pytest.approx(0.73, abs=0.01)
    assert champion.probability_SP.mean() == pytest.approx(truth_SP.mean(), rel=0.05)


def test_intervals_are_exact() -> None:
    assert binomial_interval(0, 400)[0] == 0.0
    assert binomial_interval(400, 400)[1] == 1.0
    assert binomial_interval(0, 400)[1] == pytest.approx(1 - 0.025 ** (1 / 400))


def test_the_docs_show_what_is_kept_and_it_keeps_what_was_promised() -> None:
    found = json.loads(RESULTS.read_text())
    assert list(found["cells"]) == [cell.name for cell in CELLS]
    assert table(found) in (REPOSITORY / "docs" / "promotion.md").read_text()
    assert found["draws"] == 400
    assert found["false_promotion"] <= 0.05
    assert found["worse_promotion"] <= 0.01
    assert found["power_0.02"] >= 0.9
