"""The number that picks the exported weights."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from components.cxr.auroc import mean_auroc
from components.cxr.bundle import Bundle
from components.cxr.errors import UserError
from components.cxr.labels import truth_of
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.predictor import predict
from components.train.distributed import gather, rank, world_size
from components.train.patch_words import Balance
from components.train.stopping import StopRequest

__all__ = [
    "LEAST_POSITIVES",
    "StoppedError",
    "Validated",
    "num_positives",
    "shared_scores",
    "validated",
    "validation_truth",
]

BATCH_SIZE = 32
LEAST_POSITIVES = 10
"""Positive labels, of all pathologies together, with fewer of which validation picks no epoch: its AUROC is noise."""


class Validated(NamedTuple):
    """Mean AUROCs in [0, 1] over pathologies with both classes: all modalities, protocol A, by study."""

    auroc: float
    """Of the answers."""
    network: float
    """Without the expert of patches, of which no epoch changes anything; by this, epochs are compared."""
    score_SP: npt.NDArray[np.float32]
    """z1 - z0 of every study without that expert."""


class StoppedError(Exception):
    """Validation was given up because the training is to end."""


def shared_scores(
    bundle: Bundle, studies: StudyDataset, *, device: torch.device, stop: StopRequest
) -> npt.NDArray[np.float32]:
    """z1 - z0 of every study and pathology (S, P), all modalities; each process answers some of the batches.

    The batches are the same for any number of processes, and all get all answers.

    Raises:
        StoppedError: a process was asked to stop.
        UserError: an answer is not finite: weights overflow behind gradients that are.
    """
    starts = list(range(0, len(studies), BATCH_SIZE))
    scores = {}
    for turn in range(0, len(starts), world_size()):
        if stop.agreed():
            raise StoppedError
        if turn + rank() < len(starts):
            start = starts[turn + rank()]
            batch = [studies[s] for s in range(start, min(start + BATCH_SIZE, len(studies)))]
            scores[start] = predict(bundle, batch, device=device, batch_size=BATCH_SIZE).score_SP
    found = {start: score for part in gather(scores) for start, score in part.items()}
    score_SP = np.concatenate([found[start] for start in starts])
    if not np.isfinite(score_SP).all():
        raise UserError(
            "training-diverged",
            "training diverged",
            where="validation",
            found="answers that are not finite",
            remedy="Lower train.learning_rate; the last checkpoint is kept.",
        )
    return score_SP


def validation_truth(studies: StudyDataset) -> npt.NDArray[np.int8]:
    """By what validation scores (S, P): 1, 0, or BLANK without a label."""
    return truth_of(studies.states_SP, studies.labeled_S, protocol="A")


def num_positives(studies: StudyDataset) -> int:
    """Positive labels by which validation scores, over all studies and pathologies."""
    return int((validation_truth(studies) == 1).sum())


def validated(
    bundle: Bundle, studies: StudyDataset, *, device: torch.device, stop: StopRequest, patches: Balance | None = None
) -> Validated | None:
    """Scores of the validation studies, None where no pathology has both classes.

    Every process must call it. The expert of patches is balanced by the way.

    Raises:
        StoppedError: a process was asked to stop.
    """
    if len(studies) == 0:
        return None
    truth_SP = validation_truth(studies)
    if patches is not None:
        patches.take_out()
    score_SP = shared_scores(bundle, studies, device=device, stop=stop)
    network = mean_auroc(score_SP, truth_SP)
    auroc = network if patches is None else mean_auroc(patches.put_in(score_SP), truth_SP)
    return None if auroc is None or network is None else Validated(auroc, network, score_SP)
