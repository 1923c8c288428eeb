"""The third state: does the model know which studies a report calls uncertain, and how often does it leave one open.

Shape letters: S studies, P pathologies.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from components.cxr.labels import BLANK, NEGATIVE, POSITIVE, UNCERTAIN
from components.cxr.operating_points import OperatingPoint, states_of
from components.cxr.report import LOW_SUPPORT, ThresholdRule, UncertainScore
from components.evaluate.bootstrap import draw
from components.evaluate.calibration import calibrate, choose_threshold
from components.evaluate.config import EvaluateConfig
from components.evaluate.metrics import pathology_score
from components.evaluate.predictions import Rows, Scores

__all__ = ["uncertain_scores", "with_uncertain_thresholds"]

STATES = (UNCERTAIN, NEGATIVE, POSITIVE)
"""The order of rows and columns of a confusion."""


def with_uncertain_thresholds(
    points: dict[str, OperatingPoint], uncertain_SP: npt.NDArray[np.floating], rows: Rows
) -> dict[str, OperatingPoint]:
    """The points with the probability of uncertain that has the best Youden's J on these validation studies.

    A pathology with fewer than ten patients whose label is uncertain, or not, keeps the likeliest state.
    """
    chosen = {}
    for p, (name, point) in enumerate(points.items()):
        known_S, is_uncertain_S = rows.labeled_N, rows.states_NP[:, p] == UNCERTAIN
        patient_S = np.asarray(rows.patients)
        kinds = (known_S & is_uncertain_S, known_S & ~is_uncertain_S)
        if min(len(np.unique(patient_S[kind_S])) for kind_S in kinds) >= LOW_SUPPORT:
            said_S = uncertain_SP[known_S, p].astype(np.float64)
            best = choose_threshold(said_S, is_uncertain_S[known_S], rule=ThresholdRule())
            point = point.model_copy(update={"uncertain_threshold": best})
        chosen[name] = point
    return chosen


def uncertain_scores(
    said: Scores, rows: Rows, points: dict[str, OperatingPoint], *, config: EvaluateConfig
) -> dict[str, UncertainScore]:
    """Of every pathology that has uncertain labels among the labeled studies.

    Args:
        points: by pathology, in the order of the columns.
    """
    known_S = rows.labeled_N
    rows = rows.select(known_S)
    draws = draw(rows.patients, num_resamples=config.num_bootstrap, seed=config.seed)
    found = {}
    for p, (name, point) in enumerate(points.items()):
        label_S = np.where(rows.states_NP[:, p] == BLANK, NEGATIVE, rows.states_NP[:, p])
        is_uncertain_S = (label_S == UNCERTAIN).astype(np.int8)
        if not is_uncertain_S.any():
            continue
        score_S, uncertain_S = said.score_NP[known_S, p], said.uncertain_NP[known_S, p]
        answer_S = states_of(score_S, calibrate(score_S, point.calibration), uncertain_S, point)
        told = pathology_score(uncertain_S, is_uncertain_S, draws=draws).score
        is_open_S = (answer_S == UNCERTAIN).astype(np.float64)
        every_S = np.ones(len(is_open_S), dtype=np.int8)  # of all studies, the share that is left open is a recall
        left = pathology_score(is_open_S, every_S, draws=draws, threshold=0.5).score
        found[name] = UncertainScore(
            uncertain=told.positives,
            uncertain_patients=told.positive_patients,
            auroc=told.auroc,
            auroc_ci=told.intervals.get("auroc"),
            abstention=float(is_open_S.mean()),
            abstention_ci=left.intervals.get("recall"),
            confusion=tuple(
                tuple(int(((label_S == label) & (answer_S == answer)).sum()) for answer in STATES) for label in STATES
            ),
        )
    return found
