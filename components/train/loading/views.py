"""What the student and the teacher see of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from components.cxr.model.batch import Batch
from components.train.config import TrainConfig
from components.train.loading.augment import augment, drop_modalities

__all__ = ["student_view", "teacher_view"]


def student_view(
    batch: Batch, *, studies: Sequence[int], epoch: int, config: TrainConfig, device: torch.device
) -> Batch:
    """Strongly augmented films, and some studies without films, text or metadata."""
    shown = drop_modalities(batch, studies=studies, epoch=epoch, seed=config.seed, config=config.modality_dropout)
    return augment(
        shown, studies=studies, epoch=epoch, seed=config.seed, config=config.augment, strength="strong", device=device
    )


def teacher_view(
    batch: Batch, *, studies: Sequence[int], epoch: int, config: TrainConfig, device: torch.device
) -> Batch:
    """Weakly augmented films, and every modality that is there."""
    return augment(
        batch, studies=studies, epoch=epoch, seed=config.seed, config=config.augment, strength="weak", device=device
    )
