"""One table of the report from scores and labels: every number per pathology, the means, the intervals.

Shape letters: N rows of a table (studies or images), P pathologies, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from components.cxr.labels import BLANK, truth_of
from components.cxr.operating_points import Calibration, OperatingPoint
from components.cxr.report import Condition, Protocol, Reliability, Score
from components.evaluate.bootstrap import Draws, draw
from components.evaluate.calibration import calibrate
from components.evaluate.config import EvaluateConfig
from components.evaluate.metrics import mean_score, pathology_score
from components.evaluate.predictions import Rows

__all__ = ["score_rows", "uncalibrated"]


def score_rows(
    score_NP: npt.NDArray[np.floating],
    rows: Rows,
    *,
    points: dict[str, OperatingPoint],
    pathologies: Sequence[str],
    config: EvaluateConfig,
    condition: Condition,
    protocol: Protocol,
    unit: Literal["study", "image"] = "study",
    subset: Literal["all", "common"] = "all",
    missing: Sequence[str] = (),
) -> Score:
    """One table of the report.

    Args:
        missing: pathologies of which the labels say nothing.
    """
    counted: Literal["A", "B"] = "B" if protocol == "B" else "A"
    truth_NP = truth_of(rows.states_NP, rows.labeled_N, protocol=counted, pathologies=pathologies)
    truth_NP[:, [list(pathologies).index(name) for name in missing]] = BLANK
    draws = _draws(rows, config)
    scored = {
        name: pathology_score(
            score_NP[:, p],
            truth_NP[:, p],
            draws=draws,
            threshold=points[name].threshold,
            probability_N=calibrate(score_NP[:, p], points[name].calibration),
            prevalence=config.prevalence.get(name),
        )
        for p, name in enumerate(pathologies)
    }
    headline = config.headline or tuple(pathologies)
    return Score(
        condition=condition,
        protocol=protocol,
        unit=unit,
        subset=subset,
        num_patients=len(set(rows.patients)),
        num_studies=len(set(rows.studies)),
        num_rows=len(rows.studies),
        pathologies={name: found.score for name, found in scored.items()},
        mean=mean_score(scored, headline=headline),
    )


def uncalibrated(
    score_NP: npt.NDArray[np.floating], rows: Rows, *, pathologies: Sequence[str], config: EvaluateConfig
) -> dict[str, Reliability]:
    """Of the probabilities that the scores are without Platt scaling, protocol A."""
    truth_NP = truth_of(rows.states_NP, rows.labeled_N, protocol="A", pathologies=pathologies)
    draws = _draws(rows, config)
    found = {}
    for p, name in enumerate(pathologies):
        raw_N = calibrate(score_NP[:, p], Calibration())
        score = pathology_score(score_NP[:, p], truth_NP[:, p], draws=draws, probability_N=raw_N).score
        brier_ci, ece_ci = (score.intervals.get(metric) for metric in ("brier", "ece"))
        found[name] = Reliability(brier=score.brier, brier_ci=brier_ci, ece=score.ece, ece_ci=ece_ci)
    return found


def _draws(rows: Rows, config: EvaluateConfig) -> Draws:
    return draw(rows.patients, num_resamples=config.num_bootstrap, seed=config.seed)
