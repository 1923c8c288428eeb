"""What data parallelism wraps: classifier and objectives, so that all their weights take part in one forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from components.cxr.model.network import CxrModel
from components.train.distributed import all_reduce_sum
from components.train.objectives.report_alignment import ReportAlignment
from components.train.objectives.self_training import SelfTraining
from components.train.objectives.shown import Shown
from components.train.objectives.supervised import Supervised

__all__ = ["Objective", "TrainingNetwork"]

Objective = Supervised | SelfTraining | ReportAlignment


class TrainingNetwork(nn.Module):
    """The EMA and the bundle hold `classifier` alone; what objectives learn for themselves stays here."""

    def __init__(self, classifier: CxrModel, objectives: Sequence[Objective], *, autocast: torch.autocast) -> None:
        super().__init__()
        self.classifier = classifier
        self.objectives = nn.ModuleDict({objective.name: objective for objective in objectives})
        self._autocast = autocast
        self._counts: dict[str, Tensor] = {}

    def forward(self, shown: Shown, counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This part's share of the losses by the objectives' names, not yet weighted.

        Args:
            counts: `counts` of all parts of the step.
        """
        with self._autocast:
            logits_EBP3, films_BD = self.classifier.experts_and_films(shown.student, shown.dropout_B)
        logits_EBP3, films_BD = logits_EBP3.float(), films_BD.float()
        return {
            name: objective(films_BD if isinstance(objective, ReportAlignment) else logits_EBP3, shown, counts[name])
            for name, objective in self.objectives.items()
        }

    def counts(self, parts: Sequence[Shown]) -> dict[str, Tensor]:
        """What the losses are divided by, over all studies of the step: all parts of all processes.

        Known before the network has answered, so one sum over the processes per step serves all objectives.
        """
        local = {
            name: torch.stack([objective.counts(part) for part in parts]).sum(dim=0)  # type: ignore[operator]
            for name, objective in self.objectives.items()
        }
        sums = all_reduce_sum(torch.cat(list(local.values())))
        self._counts = dict(zip(local, sums.split([len(count) for count in local.values()]), strict=True))
        return self._counts

    def measured(self) -> dict[str, float]:
        """What an objective says of the studies of the last step, by the metric's name."""
        return {
            f"train/{what}": value
            for name, objective in self.objectives.items()
            if isinstance(objective, ReportAlignment) and name in self._counts
            for what, value in objective.measured(self._counts[name]).items()
        }

    def weights(self, step: int) -> dict[str, float]:
        """What each loss counts at `step` (from 0)."""
        return {name: objective.weight(step) for name, objective in self.objectives.items()}  # type: ignore[operator]
