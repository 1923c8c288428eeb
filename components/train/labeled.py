"""Whose labels are used: all, or those of a share of the patients, to see what labels are worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["labels_kept"]


def labels_kept(patient_ids: Sequence[str], *, fraction: float, seed: int) -> npt.NDArray[np.bool_]:
    """Whether each study's labels are used (S,): those of a share of the patients, drawn by the seed.

    >>> labels_kept(["a", "a", "b", "c"], fraction=0.34, seed=0).tolist()
    [False, False, False, True]

    Args:
        patient_ids: by study.
        fraction: of the patients, in (0, 1]; rounded to whole patients, at least one.
    """
    every, which_S = np.unique(np.asarray(patient_ids), return_inverse=True)
    kept = np.zeros(len(every), dtype=bool)
    if len(every):
        order = np.random.default_rng([seed, len(every)]).permutation(len(every))
        kept[order[: max(1, round(fraction * len(every)))]] = True
    return np.asarray(kept[which_S])
