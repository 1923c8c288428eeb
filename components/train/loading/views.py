"""What the network sees of a batch in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from components.cxr.model.batch import Batch
from components.train.config import TrainConfig
from components.train.loading.augment import augment, drop_modalities

__all__ = ["student_view"]


def student_view(batch: Batch, *, on_device: Batch, studies: Sequence[int], step: int, config: TrainConfig) -> Batch:
    """Augmented films, unless augmentation is off, and some studies without films, text or metadata.

    Args:
        batch: on the host, where modalities fall: how many films are left must be known there.
        on_device: the same batch on the training device; its films and their maps are not moved again.
    """
    shown = drop_modalities(batch, studies=studies, step=step, seed=config.seed, config=config.modality_dropout)
    shown = replace(shown, films_BVHW=on_device.films_BVHW, map_BVChw=on_device.map_BVChw)
    shown = shown.to(on_device.films_BVHW.device)
    if config.augment.is_none:
        return shown
    return augment(shown, studies=studies, step=step, seed=config.seed, config=config.augment)
