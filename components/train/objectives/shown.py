"""What one part of a step shows to the objectives. Shape letters: E experts, B studies of the part, P pathologies."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from components.cxr.model.batch import Batch

__all__ = ["Shown"]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Views and supervision, on the training device."""

    student: Batch
    """Strong view, without some modalities."""
    dropout_B: Tensor
    """int64 keys of the student's dropout."""
    teacher: Batch | None
    """Weak view, with every modality that is there; None where nobody looks at it."""
    known_EB: Tensor
    """bool, the studies that each expert can say something of, as `student` shows them."""
    target_BP3: Tensor
    """float32 chances of negative, uncertain, positive; all 0 without a target."""
    weight_BP: Tensor
    """float32 in [0, 1], 0 without a target."""
    consistent_BP: Tensor
    """bool, entries under the consistency loss."""
    pseudo_BP: Tensor | None = None
    """float32 q in [0, 1] that a student of self-training is taught, NaN where it is not."""
