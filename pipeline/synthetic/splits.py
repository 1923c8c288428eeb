"""Deals patients to train, validate and test so that each split gets its share of every pathology's positives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["SHARES", "split_patients"]

SHARES: Mapping[str, float] = {"train": 0.7, "validate": 0.1, "test": 0.2}
"""MIMIC-CXR tests on 1 % of its studies; a few hundred studies would leave nothing to count."""


def split_patients(positives_NP: npt.NDArray[np.int64] | Sequence[Sequence[int]]) -> list[str]:
    """Iterative stratification (Sechidis et al. 2011), patients in place of examples.

    The pathology with the fewest positives left is dealt first, each of its patients to the split that lacks it most.

    Args:
        positives_NP: (patients, pathologies), in how many studies of the patient the label is 1.

    Returns:
        A split for each patient; none is empty where there are three patients or more.
    """
    counts_NP = np.asarray(positives_NP, dtype=np.float64)
    names, shares_S = list(SHARES), np.array(list(SHARES.values()))
    lacking_SP = shares_S[:, None] * counts_NP.sum(axis=0)
    room_S = shares_S * len(counts_NP)
    split_N = np.full(len(counts_NP), -1)
    while (waiting_N := split_N < 0).any():
        left_P = counts_NP[waiting_N].sum(axis=0)
        if left_P.any():
            rarest = int(np.where(left_P > 0, left_P, np.inf).argmin())
            patient = int(np.where(waiting_N, counts_NP[:, rarest], -1).argmax())
            score_S = lacking_SP[:, rarest] + 1e-6 * room_S
        else:
            patient = int(np.flatnonzero(waiting_N)[0])
            score_S = room_S
        chosen = int(score_S.argmax())
        split_N[patient] = chosen
        lacking_SP[chosen] -= counts_NP[patient]
        room_S[chosen] -= 1
    for empty in set(range(len(names))) - set(split_N.tolist()):
        largest = int(np.bincount(split_N, minlength=len(names)).argmax())
        members = np.flatnonzero(split_N == largest)
        if len(members) > 1:
            split_N[members[-1]] = empty
    return [names[i] for i in split_N]
