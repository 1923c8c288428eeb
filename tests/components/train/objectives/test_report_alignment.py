"""The loss between films and reports."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from components.cxr.model.batch import Batch
from components.train.config import ReportAlignmentConfig
from components.train.objectives.report_alignment import ReportAlignment, alignment_loss
from components.train.objectives.shown import Shown, ShownReports

CONFIG = ReportAlignmentConfig(temperature=0.2, width=4)


@pytest.fixture
def objective() -> ReportAlignment:
    torch.manual_seed(0)
    return ReportAlignment(CONFIG, channels=6, feature_TF=F.normalize(torch.randn(5, 3), dim=1))


@pytest.fixture
def films() -> torch.Tensor:
    """(4, 6)."""
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(1))


def shown(*, film_B: list[bool], own_B: list[int], negative_BK: list[list[int]]) -> Shown:
    num, film_mask_BV = len(own_B), torch.tensor(film_B)[:, None]
    student = Batch(
        films_BVHW=torch.zeros(num, 1, 8, 8, dtype=torch.uint8), film_mask_BV=film_mask_BV,
        view_BV=torch.ones(num, 1, dtype=torch.int64), tokens_BT=torch.zeros(num, 1, dtype=torch.int64),
        token_mask_BT=torch.zeros(num, 1, dtype=torch.bool), age_B=torch.zeros(num), sex_B=torch.zeros(num).long(),
    )  # fmt: skip
    reports = ShownReports(
        own_B=torch.tensor(own_B),
        candidate_K=torch.tensor([0, 2, 4]),
        negative_BK=torch.tensor(negative_BK, dtype=torch.bool),
        shared_B=torch.tensor([True, False, False, False])[:num],
    )
    none = torch.zeros(num, 1)
    return Shown(
        student=student, dropout_B=torch.arange(num), known_EB=torch.ones(1, num, dtype=torch.bool),
        target_BP3=none[..., None].expand(-1, -1, 3), weight_BP=none, reports=reports,
    )  # fmt: skip


@pytest.fixture
def all_shown() -> Shown:
    """The third has no film, the fourth no report."""
    negative_BK = [[0, 1, 1], [1, 1, 1], [1, 0, 1], [0, 0, 0]]
    return shown(film_B=[True, True, False, True], own_B=[0, 1, 2, -1], negative_BK=negative_BK)


def test_the_loss_is_the_cross_entropy_of_the_own_report_among_those_allowed(
    objective: ReportAlignment, films: torch.Tensor, all_shown: Shown
) -> None:
    told_TW = F.normalize(objective.report(objective.feature_TF), dim=1)
    seen_BW = F.normalize(objective.image(films), dim=1)
    expected = torch.zeros(())
    for b, own, others in ((0, 0, [2, 4]), (1, 1, [0, 2, 4])):
        cosine_K = torch.stack([seen_BW[b] @ told_TW[t] for t in (own, *others)])
        expected = expected + F.cross_entropy(cosine_K[None] / 0.2, torch.tensor([0])) / 2
    found = objective(films, all_shown, objective.counts(all_shown))
    torch.testing.assert_close(found, expected)
    found.backward()
    for projection in (objective.image, objective.report):
        assert projection.weight.grad is not None
        assert projection.weight.grad.abs().max() > 1e-3


def test_studies_without_film_or_report_teach_nothing(
    objective: ReportAlignment, films: torch.Tensor, all_shown: Shown
) -> None:
    films.requires_grad_()
    objective(films, all_shown, objective.counts(all_shown)).backward()
    assert films.grad is not None
    assert films.grad[:2].any(dim=1).all()
    assert not films.grad[2:].any()


def test_parts_add_up_to_the_whole(objective: ReportAlignment, films: torch.Tensor, all_shown: Shown) -> None:
    whole = objective(films, all_shown, objective.counts(all_shown))
    assert all_shown.reports is not None
    parts = []
    for rows in (slice(0, 1), slice(1, 4)):
        told = all_shown.reports
        own = replace(told, own_B=told.own_B[rows], negative_BK=told.negative_BK[rows], shared_B=told.shared_B[rows])
        parts.append((films[rows], replace(all_shown, student=all_shown.student.rows(rows), reports=own)))
    count_3 = torch.stack([objective.counts(part) for _, part in parts]).sum(dim=0)
    assert count_3.tolist() == objective.counts(all_shown).tolist() == [2, 1, 5]
    torch.testing.assert_close(sum(objective(part_films, part, count_3) for part_films, part in parts), whole)


def test_duplicates_and_negatives_are_of_the_studies_that_count(objective: ReportAlignment, all_shown: Shown) -> None:
    measured = objective.measured(objective.counts(all_shown))
    assert measured == {"report_duplicates": 0.5, "report_negatives": 2.5}


def test_a_part_without_any_report_is_zero_and_has_a_gradient(objective: ReportAlignment, films: torch.Tensor) -> None:
    nothing = shown(film_B=[True] * 4, own_B=[-1] * 4, negative_BK=[[0, 0, 0]] * 4)
    loss = objective(films, nothing, objective.counts(nothing))
    loss.backward()
    assert loss == 0.0
    assert all(p.grad is not None and not p.grad.any() for p in objective.parameters())


def test_a_study_without_negatives_has_no_loss_and_no_gradient() -> None:
    image_BW = F.normalize(torch.tensor([[1.0, 2.0]]), dim=1).requires_grad_()
    axes = torch.eye(2)
    loss_B = alignment_loss(image_BW, axes[:1], axes, torch.zeros(1, 2, dtype=torch.bool), temperature=0.1)
    loss_B.sum().backward()
    assert loss_B.tolist() == [0.0]
    assert image_BW.grad is not None
    assert not image_BW.grad.any()


def test_reports_are_not_among_what_a_checkpoint_keeps(objective: ReportAlignment) -> None:
    assert set(objective.state_dict()) == {"image.weight", "image.bias", "report.weight", "report.bias"}
    assert "feature_TF" in dict(objective.named_buffers())
