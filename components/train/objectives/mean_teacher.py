"""Mean teacher (Tarvainen and Valpola 2017): the student's answer to a hard view follows the teacher's to an easy."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.cxr.model.network import CxrModel
from components.train.config import SemiSupervised
from components.train.objectives.losses import consistency_loss
from components.train.objectives.shown import Shown

__all__ = ["MeanTeacher"]


class MeanTeacher(nn.Module):
    """Squared distance between q = p1 / (p0 + p1) of each of the student's experts and the teacher's whole answer.

    What one expert cannot see averages out: the best it can do is the mean of the teacher's q over it.

    Args:
        teacher: in evaluation mode; not a part of this module's state, the EMA keeps it.
        num_steps: optimizer steps of the whole training.
    """

    name = "consistency"

    def __init__(self, teacher: CxrModel, *, config: SemiSupervised, num_steps: int, autocast: torch.autocast) -> None:
        super().__init__()
        self._teacher = (teacher,)  # in a tuple, or torch would count its weights among this module's
        self._config, self._num_steps, self._autocast = config, num_steps, autocast

    def weight(self, step: int) -> float:
        """Rises linearly from 0 at step 0 to `weight` after the fraction `ramp_up` of the training."""
        return self._config.weight * min(1.0, step / (self._config.ramp_up * self._num_steps))

    def counts(self, shown: Shown) -> Tensor:
        """Each expert's number of entries (E,)."""
        return _mask(shown).sum(dim=(1, 2)).float()

    def forward(self, logits_EBP3: Tensor, shown: Shown, count_E: Tensor) -> Tensor:
        """A scalar, scaled by the number of processes.

        Args:
            count_E: `counts` of the whole batch.
        """
        (teacher,) = self._teacher
        assert shown.teacher is not None
        with torch.no_grad(), self._autocast:
            teacher_BP3 = teacher(shown.teacher).float()
        return consistency_loss(logits_EBP3, teacher_BP3, _mask(shown), count_E)


def _mask(shown: Shown) -> Tensor:
    return shown.known_EB[:, :, None] & shown.consistent_BP
