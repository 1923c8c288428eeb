"""The figures draw what the report says, and do not fail on what is undefined."""

from __future__ import annotations

import io

import numpy as np
import pytest

from components.cxr.report import Report
from components.evaluate.figures import Panel, figures


@pytest.fixture
def panels() -> dict[str, Panel]:
    rng = np.random.default_rng(0)
    positive = rng.random(60) < 0.4
    score = rng.normal(size=60) + positive
    probability = 1 / (1 + np.exp(-score))
    nobody = np.zeros(60, dtype=bool)
    return {"Edema": Panel(score, probability, positive), "Fracture": Panel(score, probability, nobody)}


def test_four_figures_with_a_panel_a_pathology(report: Report, panels: dict[str, Panel]) -> None:
    drawn = figures(panels, report.headline, subtitle="Made up.")
    assert sorted(drawn) == ["confusion.png", "precision_recall.png", "reliability.png", "roc.png"]
    for figure in drawn.values():
        edema, fracture = figure.axes
        assert edema.get_title() == "Edema"
        assert fracture.texts[0].get_text() == "undefined:\nno positive study"
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        assert buffer.getvalue().startswith(b"\x89PNG")


def test_the_confusion_panel_counts_answers_at_the_threshold(report: Report, panels: dict[str, Panel]) -> None:
    """The made-up report's threshold is 0.4."""
    drawn = figures(panels, report.headline, subtitle="Made up.")["confusion.png"]
    _, probability, positive = panels["Edema"]
    answer = probability >= 0.4
    expected = [((positive == truth) & (answer == said)).sum() for truth in (0, 1) for said in (0, 1)]
    assert [int(text.get_text().split("\n")[0]) for text in drawn.axes[0].texts] == expected


def test_the_roc_dot_is_the_threshold(report: Report, panels: dict[str, Panel]) -> None:
    drawn = figures(panels, report.headline, subtitle="Made up.")["roc.png"]
    _, probability, positive = panels["Edema"]
    dot = drawn.axes[0].lines[-1]
    answer = probability >= 0.4
    assert dot.get_xdata()[0] == answer[~positive].mean()
    assert dot.get_ydata()[0] == answer[positive].mean()


def test_a_finding_of_few_patients_is_marked_and_the_mark_explained(report: Report, panels: dict[str, Panel]) -> None:
    figure = figures(panels, report.headline, subtitle="Made up.")["roc.png"]
    assert [axes.get_title() for axes in figure.axes][:2] == ["Edema", "Fracture *"]
    assert any(text.get_text().startswith("* fewer than 10 patients") for text in figure.texts)
