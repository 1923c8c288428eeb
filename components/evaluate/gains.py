"""What one kind of input adds to another: paired differences on the studies that have all of them.

Shape letters: S studies, P pathologies, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from components.cxr.labels import BLANK, truth_of
from components.cxr.report import Condition, Difference, Gain
from components.evaluate.bootstrap import auroc_resamples, interval, mean_resamples
from components.evaluate.config import EvaluateConfig
from components.evaluate.delong import areas, difference_interval, holm, p_value
from components.evaluate.predictions import Rows

__all__ = ["COMPARED", "gains_of"]

COMPARED: tuple[tuple[Condition, Condition], ...] = (("all", "image"), ("all", "text"), ("image+meta", "image"))
"""What is compared with what: do text and metadata help the films, films the text, and metadata the films?"""


def gains_of(
    scores: Mapping[Condition, npt.NDArray[np.floating]],
    rows: Rows,
    *,
    pathologies: Sequence[str],
    config: EvaluateConfig,
) -> tuple[Gain, ...]:
    """Every pair of `COMPARED`, protocol A, by study.

    Args:
        scores: z1 - z0 (S, P) of each condition, of the studies that have films, text and metadata.
        rows: those studies.
    """
    truth_SP = truth_of(rows.states_NP, rows.labeled_N, protocol="A", pathologies=pathologies)
    headline = [list(pathologies).index(name) for name in config.headline or pathologies]
    keys = {"num_resamples": config.num_bootstrap, "seed": config.seed}
    auroc_RP = {
        condition: auroc_resamples(score_SP, truth_SP, rows.patients, **keys) for condition, score_SP in scores.items()
    }
    found = []
    for one, other in COMPARED:
        by_pathology = _by_pathology(scores[one], scores[other], truth_SP, rows.patients, pathologies=pathologies)
        both = [p for p in headline if by_pathology[pathologies[p]].difference is not None]
        differences = [by_pathology[pathologies[p]].difference for p in both]
        mean_R = mean_resamples(auroc_RP[one][:, both]) - mean_resamples(auroc_RP[other][:, both]) if both else None
        found.append(
            Gain(
                condition=one,
                over=other,
                num_studies=len(rows.studies),
                num_patients=len(set(rows.patients)),
                pathologies=by_pathology,
                mean=Difference(
                    difference=float(np.mean([value for value in differences if value is not None])) if both else None,
                    ci=None if mean_R is None else interval(mean_R),
                    p_value=None,
                ),
            )
        )
    return tuple(found)


def _by_pathology(
    one_SP: npt.NDArray[np.floating],
    other_SP: npt.NDArray[np.floating],
    truth_SP: npt.NDArray[np.int8],
    patients: Sequence[str],
    *,
    pathologies: Sequence[str],
) -> dict[str, Difference]:
    """Differences by formula, their p-values adjusted for the number of pathologies that have one."""
    patient_S = np.asarray(patients)
    found: dict[str, tuple[float, float]] = {}
    for p, name in enumerate(pathologies):
        known_S = truth_SP[:, p] != BLANK
        two = areas(np.stack([one_SP[known_S, p], other_SP[known_S, p]]), truth_SP[known_S, p] == 1, patient_S[known_S])
        if two is not None:
            found[name] = two.difference(0, 1)
    adjusted = dict(zip(found, holm([p_value(*each) for each in found.values()]), strict=True))
    result = dict.fromkeys(pathologies, Difference(difference=None, ci=None, p_value=None))
    for name, (difference, error) in found.items():
        ci = difference_interval(difference, error)
        result[name] = Difference(difference=difference, ci=ci, p_value=adjusted[name])
    return result
