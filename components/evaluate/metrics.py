"""Scores of one pathology and their means, each with its interval; undefined is None, never 0.

Every metric is computed under weights of the patients. The test set is the resample that draws each patient once, so
that a value and its interval cannot be of two formulas.

Shape letters: N rows (studies or images), G patients, R resamples, C sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from components.cxr.labels import BLANK
from components.cxr.report import METRICS, MeanScore, Metric, PathologyScore
from components.evaluate.bootstrap import Draws, interval, mean_resamples, num_defined
from components.evaluate.ranking import ranking_of

__all__ = ["NUM_BINS", "Scored", "bins_of", "mean_score", "pathology_score"]

NUM_BINS = 10
"""Equal-width bins of the calibrated probability."""

_Floats = npt.NDArray[np.float64]


class Scored(NamedTuple):
    """One pathology: its numbers, and each of them in every resample (R,), NaN where it is undefined."""

    score: PathologyScore
    resamples: dict[Metric, _Floats]


def pathology_score(
    score_N: npt.NDArray[np.floating],
    truth_N: npt.NDArray[np.int8],
    *,
    draws: Draws,
    threshold: float | None = None,
    probability_N: npt.NDArray[np.floating] | None = None,
    prevalence: float | None = None,
) -> Scored:
    """All numbers of one pathology.

    Args:
        score_N: any number that grows with the probability.
        truth_N: 1, 0, or BLANK for a row that the protocol leaves out.
        draws: of the patients of these rows.
        threshold: from which probability (or score, where there is none) the answer is positive; None leaves out what
            needs an answer.
        probability_N: calibrated, in [0, 1]; None leaves out Brier score and calibration error.
        prevalence: stated share of positives in (0, 1), for PPV and NPV; None for that of these rows.

    >>> from components.evaluate.bootstrap import draw
    >>> truth_N = np.arange(200, dtype=np.int8) % 2
    >>> score_N = truth_N + np.random.default_rng(0).standard_normal(200)
    >>> draws = draw([f"patient {row // 2}" for row in range(200)], num_resamples=1000, seed=0)
    >>> found = pathology_score(score_N, truth_N, draws=draws, threshold=0.5).score
    >>> round(found.recall, 2), found.intervals["recall"], found.brier
    (0.73, Interval(low=0.63, high=0.81), None)
    """
    known_N = truth_N != BLANK
    positive_K = truth_N[known_N] == 1
    patient_K = draws.patient_N[known_N]
    known_probability_K = None if probability_N is None else probability_N[known_N].astype(np.float64)
    rows = _Rows(score_N[known_N], positive_K, patient_K, known_probability_K, threshold)
    value = {name: float(found_R[0]) for name, found_R in _under(draws.once(), rows, prevalence).items()}
    resamples = _under(draws, rows, prevalence)
    num_positives, num_known = int(positive_K.sum()), len(positive_K)
    kinds = [len(np.unique(patient_K[rows_K])) for rows_K in (positive_K, ~positive_K)]
    known = len(np.unique(patient_K))
    rests_on: dict[Metric, int] = {"recall": kinds[0], "specificity": kinds[1]}
    rests_on |= dict.fromkeys(("accuracy", "brier", "ece"), known)
    intervals = {
        name: found
        for name, value_R in resamples.items()
        if (found := interval(value_R, patients=rests_on.get(name, min(kinds)))) is not None
    }
    score = PathologyScore(
        **{name: None if np.isnan(found) else found for name, found in value.items()},
        intervals=intervals,
        resamples=_defined(resamples),
        threshold=threshold,
        prevalence=prevalence or (num_positives / num_known if num_known else None),
        positives=num_positives,
        negatives=num_known - num_positives,
        unknown=len(known_N) - num_known,
        positive_patients=kinds[0],
        negative_patients=kinds[1],
    )
    return Scored(score, resamples)


def mean_score(scored: Mapping[str, Scored], *, headline: Sequence[str]) -> MeanScore:
    """Means over the headline's pathologies whose AUROC is defined; the intervals are over the same resamples.

    A mean has an interval where each of them has one: resamples of one patient are all alike, and would give a point.
    """
    names = tuple(name for name in headline if scored[name].score.auroc is not None)
    if not names:
        return MeanScore(pathologies=())
    means: dict[Metric, float] = {}
    resamples: dict[Metric, _Floats] = {}
    for metric in METRICS:
        values = [getattr(scored[name].score, metric) for name in names]
        if None not in values:
            means[metric] = float(np.mean(values))
            resamples[metric] = mean_resamples(np.stack([scored[name].resamples[metric] for name in names], axis=1))
    intervals = {
        metric: found
        for metric, value_R in resamples.items()
        if all(metric in scored[name].score.intervals for name in names) and (found := interval(value_R)) is not None
    }
    return MeanScore(pathologies=names, **means, intervals=intervals, resamples=_defined(resamples))


def bins_of(probability: _Floats) -> npt.NDArray[np.int64]:
    """Bin index 0..NUM_BINS-1 of each probability; 1.0 belongs to the last.

    >>> bins_of(np.array([0.0, 0.55, 1.0])).tolist()
    [0, 5, 9]
    """
    return np.minimum((probability * NUM_BINS).astype(np.int64), NUM_BINS - 1)


class _Rows(NamedTuple):
    """The K rows that count."""

    score_K: npt.NDArray[np.floating]
    positive_K: npt.NDArray[np.bool_]
    patient_K: npt.NDArray[np.int64]
    probability_K: _Floats | None
    threshold: float | None


def _under(draws: Draws, rows: _Rows, prevalence: float | None) -> dict[Metric, _Floats]:
    """Every metric (R,) that the rows allow, NaN where it is undefined."""
    num_patients = len(draws.drawn_GR)
    ranking = ranking_of(rows.score_K, rows.positive_K, rows.patient_K, num_patients=num_patients)
    sum_CG = _sums(rows, num_patients=num_patients)
    parts: dict[Metric, list[_Floats]] = {}
    for _, weight_GR in draws.weights():
        sum_CR = sum_CG @ weight_GR
        found = ranking.metrics(weight_GR)
        if rows.threshold is not None:
            found |= _of_answers(sum_CR[:4], prevalence)
        if rows.probability_K is not None:
            found |= _of_probabilities(sum_CR[4:], sum_CR[:4].sum(axis=0))
        for name, value_R in found.items():
            parts.setdefault(name, []).append(value_R)
    return {name: np.concatenate(values) for name, values in parts.items()}


def _sums(rows: _Rows, *, num_patients: int) -> _Floats:
    """By patient: true positives, false positives, misses, true negatives; squared errors, and gaps of every bin."""
    said_K = rows.score_K if rows.probability_K is None else rows.probability_K
    answer_K = np.zeros(len(said_K), bool) if rows.threshold is None else said_K >= rows.threshold
    cell_K = np.where(rows.positive_K, np.where(answer_K, 0, 2), np.where(answer_K, 1, 3))
    sum_CG = np.zeros((4 + 1 + NUM_BINS, num_patients))
    np.add.at(sum_CG, (cell_K, rows.patient_K), 1.0)
    if rows.probability_K is not None:
        gap_K = rows.probability_K - rows.positive_K
        np.add.at(sum_CG[4], rows.patient_K, gap_K**2)
        np.add.at(sum_CG, (5 + bins_of(rows.probability_K), rows.patient_K), gap_K)
    return sum_CG


def _of_answers(count_4R: _Floats, prevalence: float | None) -> dict[Metric, _Floats]:
    true_R, false_R, missed_R, rejected_R = count_4R
    positives_R, negatives_R = true_R + missed_R, false_R + rejected_R
    found: dict[Metric, _Floats] = {
        "accuracy": _share(true_R + rejected_R, positives_R + negatives_R),
        "precision": _share(true_R, true_R + false_R),
        "recall": _share(true_R, positives_R),
        "specificity": _share(rejected_R, negatives_R),
    }
    found["f1"] = np.where(positives_R > 0, _share(2 * true_R, positives_R + true_R + false_R), np.nan)
    if prevalence is None:
        return found | {"ppv": found["precision"], "npv": _share(rejected_R, rejected_R + missed_R)}
    recalled_R, missed_share_R = found["recall"] * prevalence, (1 - found["recall"]) * prevalence
    right_R, wrong_R = (part_R * (1 - prevalence) for part_R in (found["specificity"], 1 - found["specificity"]))
    return found | {
        "ppv": _share(recalled_R, recalled_R + wrong_R),
        "npv": _share(right_R, right_R + missed_share_R),
    }


def _of_probabilities(sum_CR: _Floats, total_R: _Floats) -> dict[Metric, _Floats]:
    """Calibration error: mean distance of confidence and frequency over the bins, by size (Naeini et al. 2015)."""
    return {
        "brier": _share(sum_CR[0], total_R),
        "ece": _share(np.abs(sum_CR[1:]).sum(axis=0), total_R),
    }


def _share(part_R: _Floats, whole_R: _Floats) -> _Floats:
    """NaN where the whole is 0, or unknown."""
    share_R: _Floats = np.divide(part_R, whole_R, out=np.full(len(part_R), np.nan), where=whole_R > 0)
    return share_R


def _defined(resamples: Mapping[Metric, _Floats]) -> dict[Metric, int]:
    """The number of resamples that define a metric, where not all do."""
    counts = {name: num_defined(value_R) for name, value_R in resamples.items()}
    return {name: count for name, count in counts.items() if count < len(resamples[name])}
