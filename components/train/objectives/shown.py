"""What one part of a step shows to the objectives.

Shape letters: E experts, B studies of the part, P pathologies, K candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from components.cxr.model.batch import Batch

__all__ = ["Shown", "ShownReports"]


@dataclass(frozen=True, kw_only=True)
class ShownReports:
    """What was written of the studies, as numbers of distinct texts."""

    own_B: Tensor
    """int64 index of the study's text, -1 without a report."""
    candidate_K: Tensor
    """int64 indices of the texts that it may be told from, the same for all studies of a step."""
    negative_BK: Tensor
    """bool, candidates that no study of the same patient has."""
    shared_B: Tensor
    """bool, studies whose text another patient has too."""

    def to(self, device: torch.device) -> ShownReports:
        """The same on `device`."""
        return ShownReports(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})


@dataclass(frozen=True, kw_only=True)
class Shown:
    """View and supervision, on the training device."""

    student: Batch
    """Augmented, without some modalities."""
    dropout_B: Tensor
    """int64 keys of the network's dropout."""
    known_EB: Tensor
    """bool, the studies that each expert can say something of, as `student` shows them."""
    target_BP3: Tensor
    """float32 chances of negative, uncertain, positive; all 0 without a target."""
    weight_BP: Tensor
    """float32 in [0, 1], 0 without a target."""
    pseudo_BP: Tensor | None = None
    """float32 q in [0, 1] that a student of self-training is taught, NaN where it is not."""
    reports: ShownReports | None = None
    """For an image-report loss; no network sees them."""
