"""What data parallelism wraps: classifier and objectives, so that all their weights take part in one forward."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from components.cxr.model.network import CxrModel
from components.train.objectives.mean_teacher import MeanTeacher
from components.train.objectives.shown import Shown
from components.train.objectives.supervised import Supervised

__all__ = ["Objective", "TrainingNetwork"]

Objective = Supervised | MeanTeacher


class TrainingNetwork(nn.Module):
    """The EMA and the bundle hold `classifier` alone; what objectives learn for themselves stays here."""

    def __init__(self, classifier: CxrModel, objectives: Sequence[Objective], *, autocast: torch.autocast) -> None:
        super().__init__()
        self.classifier = classifier
        self.objectives = nn.ModuleDict({objective.name: objective for objective in objectives})
        self._autocast = autocast
        self.has_teacher = any(isinstance(objective, MeanTeacher) for objective in objectives)

    def forward(self, shown: Shown) -> dict[str, Tensor]:
        """Losses by the objectives' names, not yet weighted."""
        with self._autocast:
            experts = self.classifier.experts(shown.student, shown.dropout_B)
        experts = [expert._replace(logits_BP3=expert.logits_BP3.float()) for expert in experts]
        return {name: objective(experts, shown) for name, objective in self.objectives.items()}

    def weights(self, step: int) -> dict[str, float]:
        """What each loss counts at `step` (from 0)."""
        return {name: objective.weight(step) for name, objective in self.objectives.items()}  # type: ignore[operator]
