"""`python -m benchmarks.drift_alarms`: how often the drift in /metrics alarms, with drift and without any.

Validation studies and answers are drawn from one kind of patient, or answers from another whose log-odds are shifted by
some of their standard deviations; patients have several studies that resemble themselves, and so do the fourteen
pathologies of a study. Tenths and index are the product's own code. Told are quantiles of the index, and how often any
of the fourteen is above a limit, with binomial intervals (Clopper and Pearson 1934): .1 and .25, which are customary
(Siddiqi 2006), and the server's own, 30 (1/n + 1/m) for n answers and m validation studies. Two minutes on one core;
ends with a line of JSON.

Shape letters: N studies, P pathologies, D draws.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from scipy.stats import binomtest

from components.evaluate.calibration import tenths
from components.serve.telemetry import chance_limit, stability_index

__all__ = ["alarms", "indices"]

LIMITS = ("0.1", "0.25", "chance")
PATHOLOGIES = 14
STUDIES_PER_PATIENT = 3
PATIENT_SHARE = 0.3
"""Of the variance of a log-odds: what the studies of a patient have in common."""
PATHOLOGY_SHARE = 0.3
"""What the pathologies of a study have in common of the rest."""
SEED = 11

Floats = npt.NDArray[np.float64]


def main(
    validation: Annotated[list[int] | None, typer.Option(help="Validation studies; 100, 300 and 2000.")] = None,
    answers: Annotated[list[int] | None, typer.Option(help="Newest answers; 100 and 1000.")] = None,
    shift: Annotated[list[float] | None, typer.Option(help="Standard deviations; 0, .25 and .5.")] = None,
    draws: Annotated[int, typer.Option(min=1, help="Of validation studies and answers.")] = 400,
) -> None:
    """Draw, and print a line for each combination."""
    titles = "".join(f"{f'any above {title}':>27}" for title in (".1", ".25", "30 (1/n + 1/m)"))
    print(f"shift  validation  answers    median      95 %{titles}")
    rows = []
    for delta in shift or (0.0, 0.25, 0.5):
        for m in validation or (100, 300, 2000):
            for n in answers or (100, 1000):
                found = alarms(indices(m, n, delta, draws=draws), chance=chance_limit(n, m))
                rows.append({"shift": delta, "validation": m, "answers": n, **found})
                cells = "".join(f"{_told(found['any_above'][limit]):>27}" for limit in LIMITS)
                print(f"{delta:>5}{m:>12}{n:>9}{found['median']:>10.3f}{found['high']:>10.3f}{cells}", flush=True)
    print(json.dumps({"benchmark": "drift_alarms", "draws": draws, "rows": rows}))


def indices(validation: int, answers: int, shift: float, *, draws: int) -> Floats:
    """Stability indices (D, P) of answers whose log-odds lie `shift` standard deviations higher."""
    random = np.random.default_rng([SEED, validation, answers])  # the same patients at every shift
    found = np.empty((draws, PATHOLOGIES))
    for draw in range(draws):
        before_NP, now_NP = _probabilities(random, validation, 0.0), _probabilities(random, answers, shift)
        for p in range(PATHOLOGIES):
            edges, shares = tenths(before_NP[:, p])
            places = np.searchsorted(edges, now_NP[:, p].round(6), side="right")
            found[draw, p] = stability_index(np.bincount(places, minlength=len(shares)).tolist(), shares)
    return found


def alarms(index_DP: Floats, *, chance: float) -> dict[str, Any]:
    """Median and 95 % quantile of the index, and how often any pathology is above each limit, with its interval.

    Args:
        chance: the limit that depends on the numbers of studies.
    """
    count = len(index_DP)
    found = {"median": round(float(np.median(index_DP)), 4), "high": round(float(np.quantile(index_DP, 0.95)), 4)}
    above = {}
    for name, limit in zip(LIMITS, (0.1, 0.25, chance), strict=True):
        alarmed = int((index_DP > limit).any(axis=1).sum())
        interval = binomtest(alarmed, count).proportion_ci(method="exact")
        above[name] = [round(float(value), 3) for value in (alarmed / count, *interval)]
    return {**found, "any_above": above}


def _probabilities(random: np.random.Generator, studies: int, shift: float) -> Floats:
    patients = -(-studies // STUDIES_PER_PATIENT)
    patient_NP = np.repeat(_alike(random, patients), STUDIES_PER_PATIENT, axis=0)[:studies]
    own_NP = _alike(random, studies)
    logit_NP = np.sqrt(PATIENT_SHARE) * patient_NP + np.sqrt(1 - PATIENT_SHARE) * own_NP + shift
    return np.asarray(1 / (1 + np.exp(-(logit_NP - 2))))


def _alike(random: np.random.Generator, number: int) -> Floats:
    """Standard normal values (N, P), whose columns have a share in common."""
    common = random.normal(size=(number, 1))
    return np.asarray(
        np.sqrt(PATHOLOGY_SHARE) * common + np.sqrt(1 - PATHOLOGY_SHARE) * random.normal(size=(number, PATHOLOGIES))
    )


def _told(share: Sequence[float]) -> str:
    return f"{share[0]:.3f} ({share[1]:.3f}, {share[2]:.3f})"


if __name__ == "__main__":
    typer.run(main)
