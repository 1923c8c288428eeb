"""`python -m pipeline.synthetic.bayes`: the best AUROC that anyone can reach from the indication alone.

The words of an indication depend on the truth through the set of symptoms that is written down, and through nothing
else. That set has 299 values and its chance given the truth is known exactly, so the posterior needs only the chance of
each truth, which is counted in studies that the generator draws. Posterior and score come from disjoint halves of the
patients, so the number is not flattered; the interval is over patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from components.cxr.cli import run_cli
from components.cxr.labels import PATHOLOGIES
from pipeline.synthetic.patients import draw_patients
from pipeline.synthetic.presets import Prevalence, Settings
from pipeline.synthetic.reports.indications import MAX_SYMPTOMS, SYMPTOMS
from pipeline.synthetic.studies import draw_studies

__all__ = ["BayesScore", "bayes_auroc", "symptom_chances"]

_NUM_FOLDS = 20


@dataclass(frozen=True, kw_only=True)
class BayesScore:
    """The Bayes AUROC of each pathology from the indication, and of their mean with its interval."""

    auroc_P: npt.NDArray[np.float64]
    mean: float
    low: float
    high: float
    """95 % interval of the mean, from the spread over groups of patients."""


def symptom_chances(truth_NP: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The chance of each set of written symptoms (N, 299) given each truth (N, 14), exact."""
    names = list(SYMPTOMS)
    weights_PS = np.array([[SYMPTOMS[name].causes.get(cause, 0.0) for name in names] for cause in PATHOLOGIES])
    base_S = np.array([SYMPTOMS[name].base for name in names])
    chance_NS = 1 / (1 + np.exp(-(base_S + truth_NP @ weights_PS)))
    kept = [set(each) for size in range(MAX_SYMPTOMS + 1) for each in combinations(range(len(names)), size)]
    column_of = {frozenset(each): column for column, each in enumerate(kept)}
    found = np.zeros((len(truth_NP), len(kept)))
    for size in range(len(names) + 1):
        for present in combinations(range(len(names)), size):
            has = np.zeros(len(names), dtype=bool)
            has[list(present)] = True
            chance_N = np.where(has, chance_NS, 1 - chance_NS).prod(axis=1)
            num = min(size, MAX_SYMPTOMS)
            for written in combinations(present, num):
                found[:, column_of[frozenset(written)]] += chance_N / comb(size, num)
    return found


def bayes_auroc(num_studies: int, *, settings: Settings) -> BayesScore:
    """Draw studies and score the posterior of each pathology given the written symptoms."""
    groups = [[study.truth for study in draw_studies(p, n)] for p, n in draw_patients(num_studies, settings=settings)]
    truth_NP = np.array([truth for group in groups for truth in group])
    fold_N = np.concatenate([np.full(len(group), i % _NUM_FOLDS) for i, group in enumerate(groups)])
    patterns_KP, which_N = np.unique(truth_NP, axis=0, return_inverse=True)
    chances_KC = symptom_chances(patterns_KP)

    def counted(folds: Sequence[int]) -> npt.NDArray[np.float64]:
        return np.bincount(which_N[np.isin(fold_N, folds)], minlength=len(patterns_KP)).astype(np.float64)

    halves = (range(0, _NUM_FOLDS, 2), range(1, _NUM_FOLDS, 2))
    every = [_aurocs(counted(one), counted(other), patterns_KP, chances_KC) for one, other in (halves, halves[::-1])]
    auroc_P = np.mean(every, axis=0)
    parts = [_aurocs(counted(halves[1 - f % 2]), counted([f]), patterns_KP, chances_KC) for f in range(_NUM_FOLDS)]
    error = float(np.std([np.nanmean(part) for part in parts], ddof=1) / np.sqrt(_NUM_FOLDS))
    mean = float(np.nanmean(auroc_P))
    return BayesScore(auroc_P=auroc_P, mean=mean, low=mean - 1.96 * error, high=mean + 1.96 * error)


def _aurocs(
    known_K: npt.NDArray[np.float64],
    asked_K: npt.NDArray[np.float64],
    patterns_KP: npt.NDArray[np.int64],
    chances_KC: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """AUROC of the posterior under the truths counted in `known_K`, over those in `asked_K`; ties count half."""
    prior_PC = (known_K[:, None] * patterns_KP).T @ chances_KC
    posterior_PC = prior_PC / np.maximum(known_K @ chances_KC, 1e-12)
    all_C = asked_K @ chances_KC
    found = []
    for positive, scores_C in zip((asked_K[:, None] * patterns_KP).T, posterior_PC, strict=True):
        positive_C = positive @ chances_KC
        negative_C = all_C - positive_C
        order = np.argsort(scores_C)
        below_C = np.cumsum(negative_C[order]) - negative_C[order] / 2
        scale = positive_C.sum() * negative_C.sum()
        found.append(float((positive_C[order] * below_C).sum() / scale) if scale > 0 else np.nan)
    return np.array(found)


def main(
    studies: Annotated[int, typer.Option(min=200, help="Studies to draw.")] = 20_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the studies.")] = 7,
    prevalence: Annotated[Prevalence, typer.Option(help="mimic or floor.")] = "mimic",
) -> None:
    """Print the Bayes AUROC of the indication, a pathology a line."""
    settings = Settings(seed=seed, prevalence=prevalence)
    score = bayes_auroc(studies, settings=settings)
    print(f"Bayes AUROC of the indication, {studies} studies, any preset, prevalence {prevalence}")
    for pathology, auroc in zip(PATHOLOGIES, score.auroc_P, strict=True):
        print(f"{pathology:28}{auroc:6.3f}")
    print(f"{'Mean of 14':28}{score.mean:6.3f}  95 % interval {score.low:.3f}-{score.high:.3f}")


if __name__ == "__main__":
    run_cli(main)
