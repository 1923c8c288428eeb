"""What one kind of input adds to another: paired differences on the studies that have all of them.

Shape letters: S studies, P pathologies, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from components.cxr.delong import areas, difference_interval, holm, p_value
from components.cxr.labels import BLANK, truth_of
from components.cxr.report import Condition, Difference, Gain
from components.evaluate.bootstrap import auroc_resamples, interval, mean_resamples
from components.evaluate.config import EvaluateConfig
from components.evaluate.predictions import Rows

__all__ = ["COMPARED", "gains_of", "paired"]

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
    found = []
    for one, other in COMPARED:
        by_pathology, mean = paired(
            scores[one],
            scores[other],
            truth_SP,
            rows.patients,
            names=pathologies,
            headline=config.headline or pathologies,
            num_resamples=config.num_bootstrap,
            seed=config.seed,
        )
        found.append(
            Gain(
                condition=one,
                over=other,
                num_studies=len(rows.studies),
                num_patients=len(set(rows.patients)),
                pathologies=by_pathology,
                mean=mean,
            )
        )
    return tuple(found)


def paired(
    one_SP: npt.NDArray[np.floating],
    other_SP: npt.NDArray[np.floating],
    truth_SP: npt.NDArray[np.int8],
    patients: Sequence[str],
    *,
    names: Sequence[str],
    headline: Sequence[str],
    num_resamples: int,
    seed: int,
) -> tuple[dict[str, Difference], Difference]:
    """AUROC of `one` minus `other` per name, by formula, and their mean over the headline, by the bootstrap.

    P-values are adjusted for the number of names that have one; the mean has none.

    Args:
        truth_SP: 1, 0, or BLANK for an entry that does not count.
        patients: of each row, S.
        names: of the P columns.
        headline: those of the mean; one without a difference is left out.
    """
    patient_S, found = np.asarray(patients), {}
    for p, name in enumerate(names):
        known_S = truth_SP[:, p] != BLANK
        two = areas(np.stack([one_SP[known_S, p], other_SP[known_S, p]]), truth_SP[known_S, p] == 1, patient_S[known_S])
        if two is not None:
            found[name] = two.difference(0, 1)
    adjusted = dict(zip(found, holm([p_value(*each) for each in found.values()]), strict=True))
    result = dict.fromkeys(names, Difference(difference=None, ci=None, p_value=None))
    for name, (difference, error) in found.items():
        ci = difference_interval(difference, error)
        result[name] = Difference(difference=difference, ci=ci, p_value=adjusted[name])
    both = [list(names).index(name) for name in headline if name in found]
    if not both:
        return result, Difference(difference=None, ci=None, p_value=None)
    keys = {"num_resamples": num_resamples, "seed": seed}
    truth_SP = truth_SP[:, both]
    auroc_RP = [auroc_resamples(each_SP[:, both], truth_SP, patients, **keys) for each_SP in (one_SP, other_SP)]
    difference = float(np.mean([found[names[p]][0] for p in both]))
    return result, Difference(
        difference=difference, ci=interval(mean_resamples(auroc_RP[0]) - mean_resamples(auroc_RP[1])), p_value=None
    )
