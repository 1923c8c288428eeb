"""Does the film add to the history? Scores among studies of which text and metadata say the same, and controls.

A model that guesses the prior from the indication looks good on a test set in which the ill have other indications than
the healthy; among studies with the same prior it does not.

Shape letters: S studies, P pathologies, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from components.cxr.labels import BLANK, truth_of
from components.cxr.operating_points import OperatingPoint
from components.cxr.report import Condition, Difference, Estimate, History, Interval
from components.evaluate.bootstrap import Draws, auroc_resamples, draw, interval, mean_resamples
from components.evaluate.config import EvaluateConfig
from components.evaluate.gains import paired
from components.evaluate.predictions import Pass, Predictions, Scores
from components.evaluate.ranking import ranking_of

__all__ = ["STRATA", "history_of", "stratified_auroc"]

STRATA = 20
"""Twentieths of the studies by what text and metadata predict of a pathology."""
IMPLAUSIBLE_TEXT = 0.9
"""Mean AUROC of the indication alone that no indication written before the film reaches."""
_SHOWN: tuple[Condition, ...] = ("all", "image+meta", "image")

_CONTEXT: tuple[Condition, ...] = ("text", "meta")

_Floats = npt.NDArray[np.float64]


def history_of(
    predictions: Predictions,
    points: Mapping[Condition, Mapping[str, OperatingPoint]],
    *,
    pathologies: Sequence[str],
    config: EvaluateConfig,
) -> History | None:
    """Balanced scores and controls on the test studies that have films, text and metadata; None without any.

    What text and metadata predict of a pathology is the sum of the model's own answers without films (conditions `text`
    and `meta`), calibrated on validation. Means are over the headline's pathologies with a balanced AUROC.

    Args:
        points: of every condition, by pathology.
    """
    test, common_S = predictions.test, predictions.test.complete_S
    if not common_S.any():
        return None
    rows = test.rows.select(common_S)
    truth_SP = truth_of(rows.states_NP, rows.labeled_N, protocol="A", pathologies=pathologies)
    said = {c: predictions.scores[Pass("test", c)].score_NP[common_S] for c in (*_SHOWN, *_CONTEXT)}
    context_SP = _context(said, points, pathologies)
    draws = draw(rows.patients, num_resamples=config.num_bootstrap, seed=config.seed)
    stratum_SP = np.stack([_strata(context_SP[:, p], truth_SP[:, p]) for p in range(len(pathologies))], axis=1)

    def balanced(score_SP: npt.NDArray[np.floating]) -> _Floats:
        """The sample's, then each resample's (1 + R, P)."""
        columns = range(len(pathologies))
        found = [stratified_auroc(score_SP[:, p], truth_SP[:, p], stratum_SP[:, p], draws) for p in columns]
        return np.stack(found, axis=1)

    balanced_RP: dict[str, _Floats] = {c: balanced(said[c]) for c in _SHOWN}
    defined = [
        p for p, name in enumerate(pathologies) if _in_headline(name, config) and np.isfinite(balanced_RP["all"][0, p])
    ]
    if not defined:
        return None

    def plain(score_SP: npt.NDArray[np.floating]) -> Estimate:
        settings = {"num_resamples": config.num_bootstrap, "seed": config.seed}
        auroc_RP = auroc_resamples(score_SP[:, defined], truth_SP[:, defined], rows.patients, **settings)
        once_1P = [stratified_auroc(score_SP[:, p], truth_SP[:, p], None, draws.once())[0] for p in defined]
        return Estimate(value=float(np.mean(once_1P)), ci=interval(mean_resamples(auroc_RP)))

    def mean(auroc_RP: _Floats) -> Estimate:
        mean_R = auroc_RP[:, defined].mean(axis=1)
        return Estimate(value=float(mean_R[0]), ci=interval(mean_R[1:]))

    def difference(one_SP: npt.NDArray[np.floating], other_SP: npt.NDArray[np.floating]) -> Difference:
        names = [pathologies[p] for p in defined]
        settings = {"num_resamples": config.num_bootstrap, "seed": config.seed}
        one_SP, other_SP = one_SP[:, defined], other_SP[:, defined]
        return paired(one_SP, other_SP, truth_SP[:, defined], rows.patients, names=names, headline=names, **settings)[1]

    context_RP = balanced(context_SP)
    shuffled: Scores | None = predictions.scores.get(Pass("shuffled", "all"))
    shuffled_SP = None if shuffled is None else shuffled.score_NP[common_S]
    text, text_over_films = plain(said["text"]), difference(said["text"], said["image"])
    return History(
        num_studies=len(rows.studies),
        num_patients=len(set(rows.patients)),
        pathologies=tuple(pathologies[p] for p in defined),
        plain={c: plain(said[c]) for c in _SHOWN},
        balanced={c: mean(balanced_RP[c]) for c in _SHOWN},
        films={name: _estimate(balanced_RP["image"][:, p]) for p, name in enumerate(pathologies)},
        context=plain(context_SP),
        context_balanced=mean(context_RP),
        films_over_context=_difference((balanced_RP["image"] - context_RP)[:, defined].mean(axis=1)),
        text=text,
        meta=plain(said["meta"]),
        text_over_films=text_over_films,
        shuffled=None if shuffled_SP is None else plain(shuffled_SP),
        own_over_shuffled=None if shuffled_SP is None else difference(said["all"], shuffled_SP),
        alarms=_alarms(text, text_over_films),
    )


def stratified_auroc(
    score_S: npt.NDArray[np.floating],
    truth_S: npt.NDArray[np.int8],
    stratum_S: npt.NDArray[np.int64] | None,
    draws: Draws,
) -> _Floats:
    """AUROC over the pairs of a positive and a negative of one stratum, in the sample and in each resample (1 + R,).

    NaN where no stratum has both classes. One stratum gives the AUROC itself.

    Args:
        truth_S: 1, 0, or BLANK for a study that does not count.
        stratum_S: number of each study's stratum; None for one stratum.

    >>> draws = draw(["a", "b", "c", "d"], num_resamples=1, seed=0)
    >>> score_S, truth_S = np.array([0.9, 0.8, 0.2, 0.1]), np.array([1, 0, 1, 0], dtype=np.int8)
    >>> stratified_auroc(score_S, truth_S, np.array([0, 0, 1, 1]), draws)[0].item()
    1.0
    >>> stratified_auroc(score_S, truth_S, None, draws)[0].item()
    0.75
    """
    num_patients = len(draws.drawn_GR)
    strata = []
    for stratum in [None] if stratum_S is None else np.unique(stratum_S):
        inside_S = (truth_S != BLANK) & (np.ones(len(truth_S), bool) if stratum is None else stratum_S == stratum)
        positive_K, patient_K = truth_S[inside_S] == 1, draws.patient_N[inside_S]
        if positive_K.any() and not positive_K.all():
            ranking = ranking_of(score_S[inside_S], positive_K, patient_K, num_patients=num_patients)
            positive_G, negative_G = (
                np.bincount(patient_K[chosen_K], minlength=num_patients).astype(np.float64)
                for chosen_K in (positive_K, ~positive_K)
            )
            strata.append((ranking, positive_G, negative_G))
    parts = []
    for each in (draws.once(), draws):
        for _, weight_GR in each.weights():
            won_R: _Floats = np.zeros(weight_GR.shape[1])
            pairs_R: _Floats = np.zeros(weight_GR.shape[1])
            for ranking, positive_G, negative_G in strata:
                in_stratum_R = (positive_G @ weight_GR) * (negative_G @ weight_GR)
                won_R += np.nan_to_num(ranking.auroc(weight_GR)) * in_stratum_R
                pairs_R += in_stratum_R
            parts.append(np.divide(won_R, pairs_R, out=np.full(len(won_R), np.nan), where=pairs_R > 0))
    return np.concatenate(parts)


def _context(
    said: Mapping[Condition, npt.NDArray[np.floating]],
    points: Mapping[Condition, Mapping[str, OperatingPoint]],
    pathologies: Sequence[str],
) -> _Floats:
    """Calibrated log-odds from text plus those from metadata (S, P), but for a constant.

    A logistic regression on both, fitted on 126 validation studies, turned some signs around and predicted less (mean
    AUROC 0.513) than the text alone (0.580) or this sum (0.572).
    """
    parts = [
        said[condition].astype(np.float64) * [points[condition][name].calibration.slope for name in pathologies]
        for condition in _CONTEXT
    ]
    context_SP: _Floats = np.sum(parts, axis=0)
    return context_SP


def _strata(context_S: _Floats, truth_S: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    known_S = truth_S != BLANK
    if not known_S.any():
        return np.zeros(len(context_S), dtype=np.int64)
    edges = np.quantile(context_S[known_S], np.arange(1, STRATA) / STRATA)
    return np.searchsorted(edges, context_S, side="right").astype(np.int64)


def _estimate(auroc_R: _Floats) -> Estimate:
    return Estimate() if np.isnan(auroc_R[0]) else Estimate(value=float(auroc_R[0]), ci=interval(auroc_R[1:]))


def _difference(difference_R: _Floats) -> Difference:
    return Difference(difference=float(difference_R[0]), ci=interval(difference_R[1:]), p_value=None)


def _in_headline(name: str, config: EvaluateConfig) -> bool:
    return not config.headline or name in config.headline


def _alarms(text: Estimate, over_films: Difference) -> tuple[str, ...]:
    found = []
    if text.value is not None and text.value > IMPLAUSIBLE_TEXT:
        limit = f"{text.value:.3f}, above {IMPLAUSIBLE_TEXT:g}"
        found.append(f"the indication alone scores {limit}: does it hold the reading?")
    if over_films.ci is not None and over_films.ci.low > 0 and over_films.difference is not None:
        found.append(
            f"the indication alone scores better than films alone ({over_films.difference:+.3f}, "
            f"{_span(over_films.ci)}): does it hold the reading, or has the model not learned to read films?"
        )
    return tuple(found)


def _span(ci: Interval) -> str:
    return f"{ci.low:+.3f} to {ci.high:+.3f}"
