"""The number that picks the exported weights."""

from __future__ import annotations

import torch

from components.cxr.auroc import mean_auroc
from components.cxr.bundle import Bundle
from components.cxr.labels import truth_of
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.predictor import predict

__all__ = ["validation_auroc"]


def validation_auroc(bundle: Bundle, studies: StudyDataset, *, device: torch.device) -> float | None:
    """Mean AUROC in [0, 1] over pathologies with both classes (all modalities, protocol A, by study), else None."""
    if len(studies) == 0:
        return None
    score_SP = predict(bundle, list(studies), device=device).score_SP
    truth_SP = truth_of(studies.states_SP, studies.labeled_S, protocol="A")
    return mean_auroc(score_SP, truth_SP)
