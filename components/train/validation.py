"""The number that picks the exported weights."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from components.cxr.bundle import Bundle
from components.cxr.labels import BLANK, truth_of
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.predictor import predict

__all__ = ["validation_auroc"]


def validation_auroc(bundle: Bundle, studies: StudyDataset, *, device: torch.device) -> float | None:
    """Mean AUROC in [0, 1] over pathologies with both classes (all modalities, protocol A, by study), else None."""
    if len(studies) == 0:
        return None
    score_SP = predict(bundle, list(studies), device=device).score_SP
    truth_SP = truth_of(studies.states_SP, studies.labeled_S, protocol="A")
    aurocs = []
    for p in range(truth_SP.shape[1]):
        known_S = truth_SP[:, p] != BLANK
        if len(np.unique(truth_SP[known_S, p])) == 2:
            aurocs.append(roc_auc_score(truth_SP[known_S, p], score_SP[known_S, p]))
    return float(np.mean(aurocs)) if aurocs else None
