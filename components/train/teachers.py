"""The teachers of self-training: trainings of their own on the labels alone, whose bundles are kept and found again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from components.cxr.bundle import load_bundle
from components.cxr.errors import UserError
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Storage
from components.train.config import SemiSupervised, TrainConfig
from components.train.distributed import is_main
from components.train.loading.order import Order
from components.train.objectives.self_training import pseudo_labels
from components.train.setup import Setup, taught_studies
from components.train.stopping import StopRequest
from components.train.validation import shared_scores

__all__ = ["taught_by", "teacher_configs", "teachers_for"]


def teacher_configs(config: TrainConfig) -> list[TrainConfig]:
    """How each teacher is trained: as the student, but from labels alone and from a seed of its own.

    >>> student = TrainConfig(semi_supervised=SemiSupervised(method="self-training", num_teachers=2))
    >>> [(teacher.seed, teacher.semi_supervised.method, teacher.epochs) for teacher in teacher_configs(student)]
    [(1, 'none', 25), (2, 'none', 25)]
    """
    semi = config.semi_supervised
    if semi.method != "self-training":
        return []
    alone = {"semi_supervised": SemiSupervised(method="none"), "report_alignment": None, "epochs": semi.teacher_epochs}
    alone |= {"num_models": 1}
    seeds = range(config.seed + 1, config.seed + 1 + semi.num_teachers)
    return [config.model_copy(update={**alone, "seed": seed}) for seed in seeds]


def teachers_for(config: TrainConfig, loaded: LoadedManifest) -> list[TrainConfig]:
    """The teachers of these data: none where too few entries are left for them to label, which is said.

    Raises:
        UserError: the student's batch is too small for labeled and unlabeled studies, or a teacher would end before its
            frozen encoder learns; told before a teacher is trained.
    """
    configs = teacher_configs(config)
    if not configs:
        return []
    taught = taught_studies(config, loaded)[1]
    if taught.needs_teachers(config.semi_supervised):
        taught_S, ratio = taught.taught(), config.semi_supervised.unlabeled_per_labeled
        _check_unfreezing(config)
        Order(taught_S, batch_size=min(config.batch_size, len(taught_S)), unlabeled_per_labeled=ratio)
        return configs
    num_untaught, num_taught = taught.num_entries()
    if num_untaught and is_main():
        left = f"{num_untaught:,} entries without a label, {num_taught:,} with one"
        print(f"train: {left}: too few for teachers (train.semi_supervised.least_unlabeled)", flush=True)
    return []


def _check_unfreezing(config: TrainConfig) -> None:
    epochs = config.semi_supervised.teacher_epochs
    for name in ("vision", "text"):
        unfreeze_after = getattr(config.tuning, name).unfreeze_after
        if unfreeze_after is not None and unfreeze_after >= epochs:
            raise UserError(
                "teachers-stay-frozen",
                "the teachers' encoder would never learn",
                where=f"train.tuning.{name}.unfreeze_after",
                found=unfreeze_after,
                expected=f"below train.semi_supervised.teacher_epochs ({epochs})",
            )


def taught_by(teachers: Sequence[Storage], setup: Setup, *, stop: StopRequest) -> Tensor:
    """The student's pseudo-labels (S, P) from what the teachers say: all modalities, no augmentation.

    Every process must call it. Made again in every start: the teachers' answers are the same.

    Args:
        teachers: folders of their bundles.
    """
    taught = setup.supervision
    total_SP = np.zeros(taught.weight_SP.shape, dtype=np.float32)
    for teacher in teachers:
        total_SP += shared_scores(load_bundle(teacher), setup.training, device=setup.device, stop=stop)
    unlabeled_SP = taught.unlabeled_SP.numpy()
    return torch.from_numpy(pseudo_labels(total_SP / len(teachers), unlabeled_SP, taught.prevalence_P))
