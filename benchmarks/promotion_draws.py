"""`python -m benchmarks.promotion_draws`: how often the gate lets a model pass that is better, equal or worse.

Test sets are drawn whose truth is known: patients of several studies who resemble themselves, fourteen pathologies, two
models whose scores are normal within a class and go together as those of two trainings do. Each is decided by the
product's own code. Promotions are counted with a binomial interval (Clopper and Pearson 1934).

Shape letters: S studies, P pathologies.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, norm

from components.cxr.labels import LabelPolicy
from components.cxr.report import Interval, MeanScore, Report, Score, ThresholdRule
from components.evaluate.champion import Answers, compare_answers
from components.evaluate.config import EvaluateConfig
from components.evaluate.gains import paired
from components.evaluate.predictions import Rows
from components.evaluate.promotion import Comparison, checks_of, decide

__all__ = ["CELLS", "Cell", "measure", "table"]

RESULTS = Path(__file__).parent / "results" / "promotion_draws.json"
PREVALENCES = (0.35, 0.03, 0.2, 0.22, 0.03, 0.12, 0.05, 0.08, 0.2, 0.04, 0.22, 0.02, 0.02, 0.28)
"""Of 14 pathologies, as common and as rare as those of MIMIC-CXR."""
NAMES = tuple(f"pathology {p}" for p in range(len(PREVALENCES)))
AUROC, FILM_AUROC = 0.80, 0.78
"""Of the deployed model with every input, and with films alone; the same for every pathology."""
STUDIES_PER_PATIENT = 3.0
PATIENT_SHARE = 0.3
"""Of the variance of labels and of scores within a class: what the studies of a patient have in common."""
PATHOLOGY_SHARE = 0.3
"""What the pathologies of a study, and of a patient, have in common of it."""
AGREEMENT = 0.8
"""Correlation within a class of two models' scores, and of one model's with every input and with films alone."""
RESAMPLES = 200
"""Per interval; the product has 1,000."""

_Floats = npt.NDArray[np.float64]


class Cell(NamedTuple):
    """A kind of challenger."""

    name: str
    difference: float
    """Of its true AUROC to the deployed model's, in every pathology."""
    film_difference: float
    studies: int
    looks: int = 1
    """How many such challengers are judged, one after the other, on the same test studies."""


CELLS = (
    Cell("equal", 0.0, 0.0, 3000),
    Cell("worse by .01", -0.01, -0.01, 3000),
    Cell("better by .02", 0.02, 0.02, 3000),
    Cell("equal, any of 10 on the same studies", 0.0, 0.0, 1000, looks=10),
    Cell("better by .02, films alone equal", 0.02, 0.0, 3000),
    Cell("better by .02, films alone worse by .04", 0.02, -0.04, 3000),
    Cell("better by .02, fewer studies", 0.02, 0.02, 1000),
)
_REPORT = Report(
    bundle_hash="challenger",
    manifest_hash="drawn",
    mlflow_run_id=None,
    operating_points_hash="none",
    label_policy=LabelPolicy(),
    threshold_rule=ThresholdRule(),
    scores=(
        Score(
            condition="all", protocol="A", unit="study", subset="all",
            num_patients=0, num_studies=0, num_rows=0, pathologies={},
            mean=MeanScore(pathologies=NAMES, auroc=AUROC, intervals={"auroc": Interval(low=0.78, high=0.82)}),
        ),
    ),
    gains=(),
    golden=(),
    num_bootstrap=RESAMPLES,
)  # fmt: skip
"""Of a sound challenger: what decides here is the comparison."""


def measure(
    *, draws: int = 400, cells: Sequence[Cell] = CELLS, seed: int = 0, kept: Path | None = None
) -> dict[str, Any]:
    """Draw and decide; counts and rates of promotion by cell, and the headline ones under names of their own.

    Args:
        draws: of test sets, per cell.
        kept: file of results, written after every cell; a cell that it has with the same settings is not drawn again.

    >>> found = measure(draws=3, cells=[Cell("much better", 0.1, 0.1, 1000)])
    >>> found["cells"]["much better"]["promoted"]
    3
    """
    rows: dict[str, dict[str, Any]] = {}
    settings = {"draws": draws, "seed": seed, "resamples": RESAMPLES}
    known = json.loads(kept.read_text()) if kept is not None and kept.exists() else {}
    for cell in cells:
        before = known.get("cells", {}).get(cell.name)
        if before is not None and {**cell._asdict(), **settings}.items() <= {**before, **_settings(known)}.items():
            rows[cell.name] = before
            continue
        started = time.process_time()
        key = zlib.crc32(cell.name.encode())
        counts = {"promoted": 0, "mean": 0, "films": 0, "films_shown_worse": 0}
        for n in range(draws):
            for name, passed in _draw(cell, np.random.default_rng((seed, key, n))).items():
                counts[name] += passed
        low, high = binomial_interval(counts["promoted"], draws)
        rate = {"rate": counts["promoted"] / draws, "low": low, "high": high}
        cost = {"cpu_s": round(time.process_time() - started, 1)}
        rows[cell.name] = cell._asdict() | {"draws": draws} | counts | rate | cost
        print(f"{cell.name}: {counts['promoted']} of {draws} promoted ({low:.1%} to {high:.1%})", flush=True)
        if kept is not None:
            kept.write_text(json.dumps(_result(rows, settings), indent=1) + "\n")
    return _result(rows, settings)


def _settings(known: dict[str, Any]) -> dict[str, Any]:
    return {name: known.get(name) for name in ("draws", "seed", "resamples")}


def _result(rows: dict[str, dict[str, Any]], settings: dict[str, Any]) -> dict[str, Any]:
    headline = {
        "false_promotion": "equal",
        "power_0.02": "better by .02",
        "worse_promotion": "worse by .01",
        "false_promotion_10_looks": "equal, any of 10 on the same studies",
    }
    rates = {key: rows[name]["rate"] for key, name in headline.items() if name in rows}
    return {**settings, **rates, "cells": rows}


def binomial_interval(successes: int, draws: int) -> tuple[float, float]:
    """The exact 95 % interval of a rate (Clopper and Pearson 1934).

    >>> tuple(round(end, 3) for end in binomial_interval(20, 400))
    (0.031, 0.076)
    """
    low = 0.0 if successes == 0 else float(beta.ppf(0.025, successes, draws - successes + 1))
    high = 1.0 if successes == draws else float(beta.ppf(0.975, successes + 1, draws - successes))
    return low, high


def table(found: dict[str, Any]) -> str:
    """The results as docs/promotion.md shows them."""
    lines = ["| challenger | studies | promoted | 95 % interval | passes `mean` | of these passes `films` |"]
    lines.append("|---|---|---|---|---|---|")
    for name, cell in found["cells"].items():
        span = f"{100 * cell['low']:.1f} to {100 * cell['high']:.1f} %"
        beside = f"{cell['mean']} | {cell['films']}" if cell["looks"] == 1 else "– | –"
        promoted = f"{cell['promoted']} of {cell['draws']}"
        lines.append(f"| {name} | {cell['studies']:,} | {promoted} | {span} | {beside} |")
    return "\n".join(lines)


def _draw(cell: Cell, rng: np.random.Generator) -> dict[str, bool]:
    """One test set, and whether any challenger of the cell is promoted on it."""
    config = EvaluateConfig(num_bootstrap=RESAMPLES)
    rows, truth_SP, models = _test_set(cell, rng)
    champion = next(models)
    found = dict.fromkeys(("promoted", "mean", "films", "films_shown_worse"), False)
    for _ in range(cell.looks):
        challenger = next(models)
        if cell.difference <= 0.0:  # hardly ever passes: spare the rest, as no further check makes up for the first
            _, mean = paired(
                challenger.score_SP, champion.score_SP, truth_SP, rows.patients,
                names=NAMES, headline=NAMES, num_resamples=RESAMPLES, seed=config.seed,
            )  # fmt: skip
            if not checks_of(Comparison("champion", mean=mean), config.promotion)[0].passed:
                continue
        comparison = compare_answers(
            challenger, champion, rows, pathologies=NAMES, config=config, champion_bundle="champion"
        )
        decision = decide(_REPORT, comparison, config=config.promotion)
        if decision.verdict == "undefined":  # a rare pathology lacks positives in too many resamples
            continue
        mean_check, films = decision.checks[:2]
        assert films.value is not None
        assert films.ci is not None
        found["mean"] |= mean_check.passed
        found["films"] |= mean_check.passed and films.passed
        found["films_shown_worse"] |= mean_check.passed and films.value < films.bound and films.ci.high < 0
        found["promoted"] |= decision.promoted
    return found


def _test_set(cell: Cell, rng: np.random.Generator) -> tuple[Rows, npt.NDArray[np.int8], Iterator[Answers]]:
    """Test studies, and models on them without end: the deployed one first, then challengers."""
    patient_S = _patients(cell.studies, rng)
    num_patients = int(patient_S[-1]) + 1

    def noise() -> _Floats:
        """Standard normal (S, P); a patient's studies share a part, and so do a study's pathologies."""
        patient_GP, own_SP = (
            math.sqrt(PATHOLOGY_SHARE) * rng.standard_normal((count, 1))
            + math.sqrt(1 - PATHOLOGY_SHARE) * rng.standard_normal((count, len(NAMES)))
            for count in (num_patients, cell.studies)
        )
        both_SP: _Floats = math.sqrt(PATIENT_SHARE) * patient_GP[patient_S] + math.sqrt(1 - PATIENT_SHARE) * own_SP
        return both_SP

    truth_SP = (noise() < norm.ppf(PREVALENCES)).astype(np.int8)
    names = [f"p{patient}" for patient in patient_S]
    rows = Rows(truth_SP, np.ones(cell.studies, bool), names, [f"s{s}" for s in range(cell.studies)])
    common_SP = math.sqrt(AGREEMENT) * noise()

    def scores(auroc: float) -> _Floats:
        """Normal within a class; as far apart as the AUROC needs."""
        distance = math.sqrt(2) * float(norm.ppf(auroc))
        found_SP: _Floats = distance * truth_SP + common_SP + math.sqrt(1 - AGREEMENT) * noise()
        return found_SP

    def models() -> Iterator[Answers]:
        difference, film_difference = 0.0, 0.0
        while True:
            score_SP = scores(AUROC + difference)
            distance = math.sqrt(2) * norm.ppf(AUROC + difference)
            odds_SP = np.log(PREVALENCES) - np.log1p(-np.array(PREVALENCES)) + distance * (score_SP - distance / 2)
            yield Answers(score_SP, scores(FILM_AUROC + film_difference), 1 / (1 + np.exp(-odds_SP)))
            difference, film_difference = cell.difference, cell.film_difference

    return rows, truth_SP, models()


def _patients(studies: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Of each study, in order; how many studies a patient has is geometric."""
    counts = rng.geometric(1 / STUDIES_PER_PATIENT, size=studies)
    return np.repeat(np.arange(studies), counts)[:studies]


def main() -> None:
    """Measure and keep the results; `--table` prints the kept ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=400, help="test sets per cell")
    parser.add_argument("--table", action="store_true", help="print the kept results as Markdown")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(RESULTS.read_text())))
        return
    print(table(measure(draws=arguments.draws, kept=RESULTS)))


if __name__ == "__main__":
    main()
