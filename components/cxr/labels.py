"""The 14 pathologies, the four label states, and the policies that turn states into training targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from components.cxr.config import Config

__all__ = [
    "BLANK", "NEGATIVE", "NO_FINDING", "NO_TARGET", "PATHOLOGIES", "POSITIVE", "SUPPORT_DEVICES", "UNCERTAIN",
    "LabelPolicy", "Targets", "derive_no_finding", "targets_of", "truth_of",
]  # fmt: skip

PATHOLOGIES: tuple[str, ...] = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip
"""CheXpert's observations in the order of its tables (Irvin et al. 2019)."""

NO_FINDING = "No Finding"
SUPPORT_DEVICES = "Support Devices"

POSITIVE, NEGATIVE, UNCERTAIN, BLANK = 1, 0, -1, -2
"""Label states in arrays (int8). In tables and shards BLANK is null."""

NO_TARGET = -1
"""Class index of an entry without supervision; else 0 negative, 1 uncertain, 2 positive (the head's logit order)."""


class LabelPolicy(Config):
    """How label states become targets; printed with every score."""

    uncertain: Literal["multiclass", "ignore", "zeros", "ones"] = "multiclass"
    """-1 as a class of its own, left to the semi-supervised loss (`ignore`), as 0 or 1 (Irvin et al. 2019, Table 3)."""
    blank: Literal["negative", "unlabeled", "ignore"] = "negative"
    """A blank in a labeled study: toward negative with `blank_weight`, left to the semi-supervised loss, or (`ignore`)
    unused by any."""
    blank_weight: float = Field(1.0, ge=0.0, le=1.0)
    """Weight in [0, 1] of a blank's cross-entropy under `blank: negative`."""


class Targets(NamedTuple):
    """Supervision of a batch: B studies, P pathologies."""

    target_BP: npt.NDArray[np.int64]
    """Class 0 negative, 1 uncertain, 2 positive, or NO_TARGET."""
    weight_BP: npt.NDArray[np.float32]
    """Weight in [0, 1] of the entry's cross-entropy; 0 without a target."""
    unlabeled_BP: npt.NDArray[np.bool_]
    """Entries that feed the semi-supervised loss."""


def derive_no_finding(state_BP: npt.NDArray[np.int8], *, pathologies: Sequence[str]) -> npt.NDArray[np.int8]:
    """Fill in the 0 that labelers never write for No Finding.

    A blank No Finding becomes NEGATIVE where any finding other than Support Devices is POSITIVE or UNCERTAIN; all else
    is unchanged. Returns a copy; a list of pathologies without No Finding comes back as it is.

    >>> state_BP = np.array([[BLANK, POSITIVE], [POSITIVE, BLANK]], dtype=np.int8)
    >>> derive_no_finding(state_BP, pathologies=["No Finding", "Edema"]).tolist()
    [[0, 1], [1, -2]]
    """
    state_BP = state_BP.copy()
    if NO_FINDING not in pathologies:
        return state_BP
    no_finding = list(pathologies).index(NO_FINDING)
    findings = [i for i, name in enumerate(pathologies) if name not in (NO_FINDING, SUPPORT_DEVICES)]
    abnormal_B = np.isin(state_BP[:, findings], (POSITIVE, UNCERTAIN)).any(axis=1)
    column_B = state_BP[:, no_finding]
    column_B[abnormal_B & (column_B == BLANK)] = NEGATIVE
    return state_BP


def targets_of(
    state_BP: npt.NDArray[np.int8],
    labeled_B: npt.NDArray[np.bool_],
    *,
    policy: LabelPolicy,
) -> Targets:
    """Turn label states into class targets, weights and the mask of unlabeled entries.

    Args:
        state_BP: int8 label states, No Finding already derived.
        labeled_B: whether the study's report was labeled at all; other studies are unlabeled in every entry.
    """
    target_BP = np.full(state_BP.shape, NO_TARGET, dtype=np.int64)
    weight_BP = np.ones(state_BP.shape, dtype=np.float32)
    target_BP[state_BP == NEGATIVE] = 0
    target_BP[state_BP == POSITIVE] = 2
    uncertain_BP, blank_BP = state_BP == UNCERTAIN, state_BP == BLANK
    unlabeled_BP = np.zeros(state_BP.shape, dtype=bool)
    match policy.uncertain:
        case "multiclass":
            target_BP[uncertain_BP] = 1
        case "zeros":
            target_BP[uncertain_BP] = 0
        case "ones":
            target_BP[uncertain_BP] = 2
        case "ignore":
            unlabeled_BP |= uncertain_BP
    match policy.blank:
        case "negative":
            target_BP[blank_BP] = 0
            weight_BP[blank_BP] = policy.blank_weight
        case "unlabeled":
            unlabeled_BP |= blank_BP
        case "ignore":
            pass
    target_BP[~labeled_B] = NO_TARGET
    unlabeled_BP[~labeled_B] = True
    weight_BP[target_BP == NO_TARGET] = 0.0
    return Targets(target_BP, weight_BP, unlabeled_BP)


def truth_of(
    state_BP: npt.NDArray[np.int8],
    labeled_B: npt.NDArray[np.bool_],
    *,
    protocol: Literal["A", "B"],
    pathologies: Sequence[str] | None = None,
) -> npt.NDArray[np.int8]:
    """Evaluation labels in {0, 1}, or BLANK where the protocol leaves an entry out.

    Protocol A: blank and uncertain count as 0 (CheXclusion's convention, Seyyed-Kalantari et al. 2021).

    Protocol B: explicit 1 and 0 count, and where No Finding is 1 every other finding is 0, whatever its own label says
    (torchxrayvision's convention, Cohen et al. 2022). Support Devices keeps its own label, as in torchxrayvision's
    loader of CheXpert; its loader of MIMIC-CXR sets devices to 0 too, which No Finding does not say.

    Unlabeled studies are left out of both.

    Args:
        pathologies: the columns' names, without which no column is taken for No Finding.

    >>> state_BP = np.array([[POSITIVE, BLANK, BLANK], [BLANK, POSITIVE, NEGATIVE]], dtype=np.int8)
    >>> names = ["No Finding", "Edema", "Support Devices"]
    >>> truth_of(state_BP, np.array([True, True]), protocol="B", pathologies=names).tolist()
    [[1, 0, -2], [-2, 1, 0]]
    """
    truth_BP = np.where(state_BP == POSITIVE, 1, 0).astype(np.int8)
    if protocol == "B":
        truth_BP[(state_BP == BLANK) | (state_BP == UNCERTAIN)] = BLANK
        if pathologies is not None and NO_FINDING in pathologies:
            healthy_B = state_BP[:, list(pathologies).index(NO_FINDING)] == POSITIVE
            others_P = [name not in (NO_FINDING, SUPPORT_DEVICES) for name in pathologies]
            truth_BP[np.outer(healthy_B, others_P)] = 0
    truth_BP[~labeled_B] = BLANK
    return truth_BP
