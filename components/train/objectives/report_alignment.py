"""Reports teach films: a film shall be told from its own report among those of other patients (Zhang et al. 2020).

The image side is the mean of a study's film tokens; the report side is a linear map of `ReportFeatures`, which shares
nothing with the exported text encoder. Both projections stay here: neither the EMA nor the bundle has them, and no
network reads a report.

Of the paper's two directions this is film to report, the one that it weighs most. Candidates are distinct reports of
the whole training split and not of the batch, so that a study's loss depends on no other study of its batch: processes
and parts of a step need not exchange anything, and reports that say the same are one candidate and never negatives of
each other.

Shape letters: B studies of this part, C channels of the film tokens, T distinct texts, F features, K candidates, W
width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.train.config import ReportAlignmentConfig
from components.train.distributed import world_size
from components.train.objectives.shown import Shown, ShownReports

__all__ = ["ReportAlignment", "alignment_loss"]


class ReportAlignment(nn.Module):
    """Cross-entropy of the own report among the candidates that are not of the same patient.

    Args:
        channels: C.
        feature_TF: float32, of every distinct text.
    """

    name = "report_alignment"
    feature_TF: Tensor

    def __init__(self, config: ReportAlignmentConfig, *, channels: int, feature_TF: Tensor) -> None:
        super().__init__()
        self._config = config
        self.image = nn.Linear(channels, config.width)
        self.report = nn.Linear(feature_TF.shape[1], config.width)
        for projection in (self.image, self.report):
            nn.init.xavier_uniform_(projection.weight)
        self.register_buffer("feature_TF", feature_TF, persistent=False)  # a checkpoint holds no report

    def weight(self, step: int) -> float:  # noqa: ARG002
        """The same in every step."""
        return self._config.weight

    def counts(self, shown: Shown) -> Tensor:
        """Studies that count, those of them whose text another patient has too, and negatives of all of them (3,)."""
        reports, counted_B = _reports(shown), _counted(shown)
        negatives_B = reports.negative_BK.sum(dim=1)
        shared_B = counted_B & reports.shared_B
        return torch.stack([counted_B.sum(), shared_B.sum(), (counted_B * negatives_B).sum()]).float()

    def measured(self, count_3: Tensor) -> dict[str, float]:
        """Share of the studies whose report another patient has too, and mean number of negatives of a study.

        Args:
            count_3: `counts` of the whole batch.
        """
        studies, shared, negatives = count_3.tolist()
        every = max(studies, 1.0)
        return {"report_duplicates": shared / every, "report_negatives": negatives / every}

    def forward(self, films_BC: Tensor, shown: Shown, count_3: Tensor) -> Tensor:
        """A scalar, scaled by the number of processes.

        Args:
            films_BC: mean film tokens, anything where there are none.
            count_3: `counts` of the whole batch.
        """
        reports = _reports(shown)
        image_BW = F.normalize(self.image(films_BC), dim=1)
        own_BW = F.normalize(self.report(self.feature_TF[reports.own_B.clamp(min=0)]), dim=1)
        candidate_KW = F.normalize(self.report(self.feature_TF[reports.candidate_K]), dim=1)
        loss_B = alignment_loss(
            image_BW, own_BW, candidate_KW, reports.negative_BK, temperature=self._config.temperature
        )
        return (loss_B * _counted(shown)).sum() / count_3[0].clamp(min=1.0) * world_size()


def alignment_loss(
    image_BW: Tensor, own_BW: Tensor, candidate_KW: Tensor, negative_BK: Tensor, *, temperature: float
) -> Tensor:
    """InfoNCE (van den Oord et al. 2018) of each study (B,), in nats; 0 where it has no negatives.

    >>> axes = torch.eye(2)
    >>> alignment_loss(axes[:1], axes[:1], axes, torch.tensor([[False, True]]), temperature=1.0).exp()
    tensor([1.3679])

    Args:
        image_BW, own_BW, candidate_KW: rows of length 1.
        negative_BK: bool, candidates that the study shall be told from.
        temperature: the smaller, the more the nearest candidates alone count.
    """
    own_B1 = (image_BW * own_BW).sum(dim=1, keepdim=True) / temperature
    other_BK = (image_BW @ candidate_KW.T / temperature).masked_fill(~negative_BK, -torch.inf)
    return torch.cat([own_B1, other_BK], dim=1).logsumexp(dim=1) - own_B1[:, 0]


def _reports(shown: Shown) -> ShownReports:
    assert shown.reports is not None
    return shown.reports


def _counted(shown: Shown) -> Tensor:
    """Bool (B,), studies with a report and a film that is shown."""
    return (_reports(shown).own_B >= 0) & shown.student.film_mask_BV.any(dim=1)
