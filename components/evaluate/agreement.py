"""How far two sets of labels of the same studies agree, a pathology at a time.

Shape letters: N studies, P pathologies, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.metrics import cohen_kappa_score

from components.cxr.labels import POSITIVE
from components.cxr.report import Agreement
from components.evaluate.bootstrap import interval

__all__ = ["agreement_of"]


def agreement_of(
    first_NP: npt.NDArray[np.int8],
    second_NP: npt.NDArray[np.int8],
    patients: Sequence[str],
    *,
    pathologies: Sequence[str],
    num_resamples: int,
    seed: int,
) -> dict[str, Agreement]:
    """Agreement of two sets of label states on the studies that both have.

    Args:
        first_NP: int8 label states.
        second_NP: of the same studies and pathologies.
        patients: of each study, N; a drawn patient brings all of his studies.
    """
    _, patient_N = np.unique(np.asarray(patients), return_inverse=True)
    num_patients = int(patient_N.max(initial=0)) + 1
    rng = np.random.default_rng(seed)
    drawn_RG = rng.multinomial(num_patients, np.full(num_patients, 1 / num_patients), size=num_resamples)
    result = {}
    for p, name in enumerate(pathologies):
        first_N, second_N = first_NP[:, p] == POSITIVE, second_NP[:, p] == POSITIVE
        cell_N = 2 * first_N + second_N  # 0 neither, 1 second alone, 2 first alone, 3 both
        count_GC = np.zeros((num_patients, 4), dtype=np.int64)
        np.add.at(count_GC, (patient_N, cell_N), 1)
        neither, second_alone, first_alone, both = (int(count) for count in count_GC.sum(axis=0))
        studies = len(cell_N)
        defined = both < studies and neither < studies
        result[name] = Agreement(
            studies=studies,
            both_positive=both,
            first_alone=first_alone,
            second_alone=second_alone,
            agreement=(both + neither) / studies if studies else None,
            kappa=float(cohen_kappa_score(first_N, second_N)) if defined else None,
            kappa_ci=interval(_kappa(drawn_RG @ count_GC)) if defined else None,
        )
    return result


def _kappa(count_RC: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Cohen's kappa (R,) of counts (neither, second alone, first alone, both); NaN where chance agrees on all."""
    total_R = count_RC.sum(axis=1)
    neither_R, second_R, first_R, both_R = (count_RC[:, c] / total_R for c in range(4))
    chance_R = (both_R + first_R) * (both_R + second_R) + (neither_R + first_R) * (neither_R + second_R)
    above_R, room_R = neither_R + both_R - chance_R, 1 - chance_R
    kappa_R: npt.NDArray[np.float64] = np.divide(
        above_R, room_R, out=np.full(len(room_R), np.nan), where=room_R > 1e-12
    )
    return kappa_R
