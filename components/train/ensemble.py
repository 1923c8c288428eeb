"""The other models of a seed ensemble: trainings of their own, whose bundles are kept and found again.

Lakshminarayanan et al., "Simple and scalable predictive uncertainty estimation using deep ensembles", 2017.
"""

from __future__ import annotations

from collections.abc import Iterable

from components.cxr.bundle import load_bundle
from components.cxr.model.network import CxrModel
from components.cxr.storage.storage import Storage
from components.train.config import TrainConfig

__all__ = ["other_configs", "with_others"]


def other_configs(config: TrainConfig) -> list[TrainConfig]:
    """How all models but the first are trained: as the first, from the next seeds.

    >>> [(other.seed, other.num_models) for other in other_configs(TrainConfig(seed=7, num_models=3))]
    [(8, 1), (9, 1)]
    """
    seeds = range(config.seed + 1, config.seed + config.num_models)
    return [config.model_copy(update={"seed": seed, "num_models": 1}) for seed in seeds]


def with_others(first: CxrModel, others: Iterable[Storage]) -> list[CxrModel]:
    """All models of the ensemble.

    Args:
        first: as it is exported.
        others: folders of the others' bundles.
    """
    return [first, *(load_bundle(other).model for other in others)]
