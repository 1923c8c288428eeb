"""What validation would find of a network that is right about a share of the studies and wrong about the others."""

from __future__ import annotations

import numpy as np

from components.cxr.model.dataset import StudyDataset
from components.train.validation import Validated, validation_truth

__all__ = ["as_right"]


def as_right(share: float, studies: StudyDataset) -> Validated:
    """The whole answer is the better, the fewer the network is right about."""
    truth_SP = validation_truth(studies)
    right_S1 = np.arange(len(studies))[:, None] < share * len(studies)
    score_SP = np.where(right_S1, truth_SP == 1, truth_SP == 0).astype(np.float32)
    return Validated(auroc=1.0 - share, network=share, score_SP=score_SP)
