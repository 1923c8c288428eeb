"""Figures of the headline table, one panel per pathology: ROC, precision-recall, reliability and confusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from components.cxr.report import PathologyScore, Score
from components.evaluate.metrics import NUM_BINS, bins_of
from components.evaluate.table import marked, support_note

__all__ = ["Panel", "figures"]

COLUMNS, CELL, HEAD = 5, 2.6, 1.0
"""Panels per row, a panel's width and the title's height in inches."""
MIN_STUDIES = 10
"""A reliability bin with fewer is drawn hollow and off the line."""
BLUE, ORANGE, GRAY, LIGHT = "#1f4e8c", "#d9730d", "#6b7280", "#e5e7eb"


class Panel(NamedTuple):
    """Test studies of one pathology that the protocol counts."""

    score: npt.NDArray[np.floating]
    """z1 - z0."""
    probability: npt.NDArray[np.floating]
    """Calibrated, in [0, 1]."""
    positive: npt.NDArray[np.bool_]


def figures(panels: Mapping[str, Panel], score: Score, *, subtitle: str) -> dict[str, Figure]:
    """Figures by file name.

    Args:
        panels: by pathology, in order.
        score: the table that the figures illustrate.
        subtitle: what was counted, under every title.
    """
    drawings: dict[str, tuple[str, str, Callable[[Axes, Panel, PathologyScore], None]]] = {
        "roc.png": ("ROC curves", "Dot: the threshold from validation.", _roc),
        "precision_recall.png": (
            "Precision and recall",
            "Dot: the threshold from validation.",
            _precision_recall,
        ),
        "reliability.png": (
            "Calibrated probability",
            f"Hollow: fewer than {MIN_STUDIES} studies.",
            _reliability,
        ),
        "confusion.png": ("Confusion", "At the threshold from validation.", _confusion),
    }
    return {
        name: _grid(panels, score, title=title, subtitle=f"{subtitle} {note}", draw=draw)
        for name, (title, note, draw) in drawings.items()
    }


def _grid(
    panels: Mapping[str, Panel],
    score: Score,
    *,
    title: str,
    subtitle: str,
    draw: Callable[[Axes, Panel, PathologyScore], None],
) -> Figure:
    num_columns = min(COLUMNS, len(panels))
    num_rows = -(-len(panels) // num_columns)
    width, height = max(CELL * num_columns + 0.4, 6.5), (CELL + 0.1) * num_rows + HEAD
    figure = Figure(figsize=(width, height), dpi=110)
    figure.subplots_adjust(
        left=0.6 / width,
        right=1 - 0.15 / width,
        bottom=0.5 / height,
        top=1 - HEAD / height,
        wspace=0.28,
        hspace=0.38,
    )
    figure.text(0.2 / width, 1 - 0.28 / height, title, fontsize=15, fontweight="bold", va="center")
    figure.text(0.2 / width, 1 - 0.56 / height, subtitle, fontsize=9.5, color=GRAY, va="center")
    figure.text(0.2 / width, 0.08 / height, support_note(score), fontsize=8, color=GRAY, va="center")
    cells = list(figure.subplots(num_rows, num_columns, squeeze=False).flat)
    for axes, (name, panel) in zip(cells, panels.items(), strict=False):
        axes.set_title(marked(name, score.pathologies[name]), fontsize=10, fontweight="bold", pad=5)
        if panel.positive.any() and not panel.positive.all():
            draw(axes, panel, score.pathologies[name])
        else:
            missing = "negative" if panel.positive.any() else "positive"
            axes.text(0.5, 0.5, f"undefined:\nno {missing} study", ha="center", va="center", color=GRAY, fontsize=9)
            axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.tick_params(labelsize=7.5, color=GRAY, length=2.5)
        for spine in axes.spines.values():
            spine.set_color(LIGHT)
    for axes in cells[len(panels) :]:
        axes.axis("off")
    return figure


def _roc(axes: Axes, panel: Panel, score: PathologyScore) -> None:
    false_rate, true_rate, _ = roc_curve(panel.positive, panel.score)
    axes.plot([0, 1], [0, 1], color=LIGHT, linewidth=1.2)
    axes.fill_between(false_rate, true_rate, color=BLUE, alpha=0.08, linewidth=0)
    axes.plot(false_rate, true_rate, color=BLUE, linewidth=1.8)
    assert score.threshold is not None  # every table of a report has one
    answer = panel.probability >= score.threshold
    axes.plot(answer[~panel.positive].mean(), answer[panel.positive].mean(), "o", color=ORANGE, markersize=5)
    _note(axes, f"AUROC {_number(score.auroc)}{_interval(score)}")
    _unit_square(axes, "1 - specificity", "sensitivity")


def _precision_recall(axes: Axes, panel: Panel, score: PathologyScore) -> None:
    precision, recall, _ = precision_recall_curve(panel.positive, panel.score)
    prevalence = panel.positive.mean()
    axes.axhline(prevalence, color=LIGHT, linewidth=1.2)
    axes.step(recall, precision, where="post", color=BLUE, linewidth=1.8)
    if score.precision is not None and score.recall is not None:
        axes.plot(score.recall, score.precision, "o", color=ORANGE, markersize=5)
    _note(
        axes,
        f"AP {_number(score.average_precision)}\nprevalence {prevalence:.2f}",
        y=0.97 if prevalence < 0.4 else 0.2,
    )
    _unit_square(axes, "recall", "precision")


def _reliability(axes: Axes, panel: Panel, score: PathologyScore) -> None:
    bins = bins_of(np.asarray(panel.probability, dtype=np.float64))
    count = np.bincount(bins, minlength=NUM_BINS)
    used = count > 0
    said = np.bincount(bins, weights=panel.probability, minlength=NUM_BINS)[used] / count[used]
    seen = np.bincount(bins, weights=panel.positive, minlength=NUM_BINS)[used] / count[used]
    axes.bar(
        (np.arange(NUM_BINS) + 0.5) / NUM_BINS,
        count / count.max() * 0.25,
        width=0.09,
        color=LIGHT,
        linewidth=0,
    )
    axes.plot([0, 1], [0, 1], color=GRAY, linewidth=0.8, linestyle=(0, (4, 3)))
    enough = count[used] >= MIN_STUDIES
    axes.plot(said[enough], seen[enough], color=BLUE, linewidth=1.6, marker="o", markersize=4)
    axes.plot(said[~enough], seen[~enough], "o", color=BLUE, markerfacecolor="white", markersize=4)
    _note(axes, f"ECE {_number(score.ece)}", x=0.05, y=0.95, ha="left")
    _unit_square(axes, "probability", "frequency")


def _confusion(axes: Axes, panel: Panel, score: PathologyScore) -> None:
    assert score.threshold is not None  # every table of a report has one
    answer = panel.probability >= score.threshold
    counts = np.array([[np.sum((panel.positive == truth) & (answer == said)) for said in (0, 1)] for truth in (0, 1)])
    shares = counts / counts.sum(axis=1, keepdims=True)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.25, aspect="equal")
    for truth in (0, 1):
        for said in (0, 1):
            color = "white" if shares[truth, said] > 0.6 else "#111827"
            text = f"{counts[truth, said]:,}\n{shares[truth, said]:.0%}"
            axes.text(said, truth, text, ha="center", va="center", fontsize=9.5, color=color)
    axes.set_xticks([0, 1], ["says no", "says yes"])
    axes.set_yticks([0, 1], ["absent", "present"], rotation=90, va="center")
    axes.set_xlabel(f"threshold {score.threshold:.3f}", fontsize=8, color=GRAY)


def _unit_square(axes: Axes, x: str, y: str) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], aspect="equal")
    axes.set_xlabel(x, fontsize=8, color=GRAY, labelpad=1)
    axes.set_ylabel(y, fontsize=8, color=GRAY, labelpad=1)


def _note(axes: Axes, text: str, **position: Any) -> None:
    where: dict[str, Any] = {"x": 0.97, "y": 0.05, "ha": "right"} | position
    va = "bottom" if where["y"] < 0.5 else "top"
    box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
    axes.text(where["x"], where["y"], text, ha=where["ha"], va=va, fontsize=8, transform=axes.transAxes, bbox=box)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(score: PathologyScore) -> str:
    found = score.intervals.get("auroc")
    return "" if found is None else f"\n[{found.low:.3f}, {found.high:.3f}]"
