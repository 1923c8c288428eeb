"""Deals patients to train, validate and test so that each split gets its share of every pathology's positives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["SHARES", "split_patients"]

SHARES: Mapping[str, float] = {"train": 0.65, "validate": 0.1, "test": 0.25}
"""MIMIC-CXR tests on 1 % of its studies; a few hundred studies would leave nothing to count."""
LEAST_IN_TEST = 23
"""Positives of each kind that the test split gets before its share, as long as train keeps as many."""


def split_patients(positives_NK: npt.NDArray[np.int64] | Sequence[Sequence[int]]) -> list[str]:
    """Iterative stratification (Sechidis et al. 2011), patients in place of examples.

    The kind with the fewest positives left is dealt first, each of its patients to the split that lacks it most.

    Args:
        positives_NK: (patients, kinds), in how many studies of the patient each kind of positive occurs: a pathology
            in truth, a pathology called present.

    Returns:
        A split for each patient; none is empty where there are three patients or more.
    """
    counts_NK = np.asarray(positives_NK, dtype=np.float64)
    names, shares_S = list(SHARES), np.array(list(SHARES.values()))
    total_K = counts_NK.sum(axis=0)
    lacking_SK = shares_S[:, None] * total_K
    test, train = names.index("test"), names.index("train")
    extra_K = np.clip(np.minimum(LEAST_IN_TEST, 0.5 * total_K) - lacking_SK[test], 0, None)
    if len(counts_NK) > 1:  # a single patient is for training
        lacking_SK[test] += extra_K
        lacking_SK[train] -= extra_K
    room_S = shares_S * len(counts_NK)
    split_N = np.full(len(counts_NK), -1)
    while (waiting_N := split_N < 0).any():
        left_K = counts_NK[waiting_N].sum(axis=0)
        if left_K.any():
            rarest = int(np.where(left_K > 0, left_K, np.inf).argmin())
            patient = int(np.where(waiting_N, counts_NK[:, rarest], -1).argmax())
            score_S = lacking_SK[:, rarest] + 1e-6 * room_S
        else:
            patient = int(np.flatnonzero(waiting_N)[0])
            score_S = room_S
        chosen = int(score_S.argmax())
        split_N[patient] = chosen
        lacking_SK[chosen] -= counts_NK[patient]
        room_S[chosen] -= 1
    for empty in set(range(len(names))) - set(split_N.tolist()):
        largest = int(np.bincount(split_N, minlength=len(names)).argmax())
        members = np.flatnonzero(split_N == largest)
        if len(members) > 1:
            split_N[members[-1]] = empty
    return [names[i] for i in split_N]
