"""How often an interval holds the truth: test sets are simulated whose AUROCs are known.

Scores of a pathology are normal, `d` apart between positive and negative studies, so that its AUROC is Phi(d / sqrt 2).
Studies of a patient resemble each other in labels (half of the latent variance is the patient's) and in scores (two
fifths), pathologies resemble each other in both, and a patient has 1 to 12 studies.

Shape letters: N studies, P pathologies, G patients, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from components.cxr.delong import areas, influence, logit_interval
from components.cxr.report import LOW_SUPPORT, Interval
from components.evaluate.bootstrap import auroc_resamples, interval, mean_resamples

__all__ = ["AUROCS", "MEANS", "METHODS", "PREVALENCES", "Drawn", "coverage", "draw_test_set", "intervals_of"]

PREVALENCES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
AUROCS = (0.85, 0.75, 0.9, 0.8, 0.7, 0.85, 0.8, 0.75)
MEANS = {"Mean of 8": tuple(range(8)), "Mean of the 6 from 5 %": tuple(range(2, 8))}
METHODS = ("percentile", "expanded", "BCa", "BCa, t", "logit")

_Floats = npt.NDArray[np.float64]


class Drawn(NamedTuple):
    """Scores and labels of studies, and whose they are."""

    score_NP: _Floats
    positive_NP: npt.NDArray[np.bool_]
    patient_N: npt.NDArray[np.int64]


def draw_test_set(num_patients: int, rng: np.random.Generator) -> Drawn:
    """A new test set of so many patients."""
    patient_N = np.repeat(np.arange(num_patients), np.minimum(rng.geometric(0.4, size=num_patients), 12))
    shape = (len(patient_N), len(PREVALENCES))

    def alike(of_all: float, of_one: float) -> _Floats:
        """Unit variance (N, P): a share of a patient's in all pathologies, one of his in each, the rest the study's."""
        whole_G, each_GP = rng.normal(size=(num_patients, 1)), rng.normal(size=(num_patients, shape[1]))
        own_NP = rng.normal(size=shape) * (1.0 - of_all - of_one) ** 0.5
        return np.asarray((of_all**0.5 * whole_G + of_one**0.5 * each_GP)[patient_N] + own_NP)

    positive_NP = alike(0.15, 0.35) > norm.isf(PREVALENCES)
    apart_P = 2**0.5 * norm.ppf(AUROCS)
    return Drawn(alike(0.2, 0.2) + apart_P * positive_NP, positive_NP, patient_N)


class Found(NamedTuple):
    """The intervals of one quantity in one test set, and whether ten patients or more have, and lack, the finding."""

    truth: float
    supported: bool
    intervals: dict[str, Interval | None]


def intervals_of(drawn: Drawn, *, num_resamples: int) -> dict[str, Found]:
    """Every method's interval of every pathology's AUROC and of the means, by the name of the row."""
    names = [str(g) for g in drawn.patient_N]
    num_patients = int(drawn.patient_N.max()) + 1
    truth_NP = drawn.positive_NP.astype(np.int8)
    auroc_RP = auroc_resamples(drawn.score_NP, truth_NP, names, num_resamples=num_resamples, seed=0)
    found, estimate_P, moved_PG, supported_P = {}, [], [], []
    for p, prevalence in enumerate(PREVALENCES):
        positive_N, score_1N = drawn.positive_NP[:, p], drawn.score_NP[None, :, p]
        both = (drawn.patient_N[positive_N], drawn.patient_N[~positive_N])
        rarer = min(len(np.unique(of)) for of in both)
        supported_P.append(rarer >= LOW_SUPPORT)
        if not positive_N.any():
            estimate_P.append(np.nan)
            moved_PG.append(np.full(num_patients, np.nan))
            found[_row(prevalence)] = Found(AUROCS[p], False, dict.fromkeys(METHODS))
            continue
        auroc_1, by_positives_1G, by_negatives_1G = influence(
            score_1N, positive_N, drawn.patient_N, num_patients=num_patients
        )
        estimate_P.append(float(auroc_1[0]))
        moved_PG.append((by_positives_1G + by_negatives_1G)[0])
        formula = areas(score_1N, positive_N, names)
        error = None if formula is None else float(formula.covariance_MM[0, 0]) ** 0.5
        told = _by_method(auroc_RP[:, p], estimate_P[p], moved_PG[p], error, patients=rarer)
        found[_row(prevalence)] = Found(AUROCS[p], supported_P[p], told)
    for name, columns in MEANS.items():
        chosen = list(columns)
        moved_G = np.mean([moved_PG[p] for p in chosen], axis=0)
        error = float((num_patients / (num_patients - 1) * (moved_G**2).sum()) ** 0.5)
        estimate = float(np.mean([estimate_P[p] for p in chosen]))
        told = _by_method(mean_resamples(auroc_RP[:, chosen]), estimate, moved_G, error, patients=None)
        supported = all(supported_P[p] for p in chosen)
        found[name] = Found(float(np.mean([AUROCS[p] for p in chosen])), supported, told)
    return found


def coverage(
    num_patients: int, *, num_sets: int, num_resamples: int, say: Callable[[str], None] = lambda _: None
) -> list[dict[str, Any]]:
    """Counts of a table's rows at one size: how many sets had an interval, how many of these held the truth.

    Sets in which the pathology has a star (fewer than ten patients with, or without, it) are counted apart.
    """
    counts: dict[str, dict[str, Any]] = {}
    for s in range(num_sets):
        drawn = draw_test_set(num_patients, np.random.default_rng([num_patients, s]))
        for row, found in intervals_of(drawn, num_resamples=num_resamples).items():
            empty = {"patients": num_patients, "row": row, "sets": num_sets, "supported": 0}
            here = counts.setdefault(row, empty | {method: dict.fromkeys(_COUNTS, 0) for method in METHODS})
            here["supported"] += found.supported
            for method, told in found.intervals.items():
                if told is not None:
                    kind = "supported" if found.supported else "starred"
                    here[method][f"{kind}_defined"] += 1
                    here[method][f"{kind}_covered"] += told.low <= found.truth <= told.high
        if (s + 1) % 100 == 0:
            say(f"{num_patients} patients: {s + 1} of {num_sets} sets")
    return list(counts.values())


_COUNTS = ("supported_defined", "supported_covered", "starred_defined", "starred_covered")


def _row(prevalence: float) -> str:
    return f"{100 * prevalence:.0f} %"


def _by_method(
    value_R: _Floats, estimate: float, moved_G: _Floats, error: float | None, *, patients: int | None
) -> dict[str, Interval | None]:
    """Every method's interval, or none where the bootstrap's is undefined, so that all are compared on the same sets.

    Args:
        patients: with the rarer label; None for a mean, which rests on all.
    """
    percentile, expanded = interval(value_R), interval(value_R, patients=patients)
    if percentile is None or expanded is None or error is None:
        return dict.fromkeys(METHODS)
    reach = -float(norm.ppf(0.025))
    wider = reach if patients is None else -float(t.ppf(0.025, patients - 1)) * (patients / (patients - 1)) ** 0.5
    return {
        "percentile": percentile,
        "expanded": expanded,
        "BCa": bca_interval(value_R, estimate, moved_G, reach=reach),
        "BCa, t": bca_interval(value_R, estimate, moved_G, reach=wider),
        "logit": logit_interval(estimate, error) or Interval(low=estimate, high=estimate),
    }


def bca_interval(value_R: _Floats, estimate: float, moved_G: _Floats, *, reach: float) -> Interval:
    """Percentiles shifted for bias and skewness (Efron 1987), the acceleration from the patients' influence.

    Args:
        reach: standard errors to either side, before the shift.
    """
    known_R = value_R[np.isfinite(value_R)]
    below = (np.mean(known_R < estimate) + np.mean(known_R <= estimate)) / 2
    bias = norm.ppf(np.clip(below, 1 / len(known_R), 1 - 1 / len(known_R)))
    spread = (moved_G**2).sum() ** 1.5
    acceleration = (moved_G**3).sum() / (6 * spread) if spread > 0 else 0.0
    ends = bias + np.array([-reach, reach])
    shares = norm.cdf(bias + ends / (1 - acceleration * ends))
    low, high = np.percentile(known_R, 100 * shares)
    return Interval(low=float(low), high=float(high))
