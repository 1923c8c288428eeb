"""Figures of a paper beside those of the evaluation: flow, forest plot and decision curves.

Shape letters: S studies, T thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from components.cxr.report import Score
from components.evaluate.figures import COLUMNS, GRAY, Panel
from components.evaluate.paper.participants import Flow
from components.evaluate.table import estimate, marked

__all__ = ["decision_curves", "flow_figure", "forest", "net_benefit"]

_BLUE, _ORANGE = "#0072b2", "#d55e00"
"""Of the palette of Okabe and Ito (2008), told apart by everybody and in gray."""
_WIDTH, _LINE = 2.2, 0.17
"""Of a box and of a line of text in it, in inches."""


def flow_figure(flow: Flow) -> Figure:
    """Films and studies from source to splits, as CONSORT draws patients."""
    kept = {what: sum(counts[what] for counts in flow.splits.values()) for what in ("films", "studies", "patients")}
    out = [f"{sum(flow.rejected.values()):,} films rejected", *(f"  {n:,} {code}" for code, n in flow.rejected.items())]
    out += [f"{n:,} {reason}" for reason, n in flow.left_out.items()]
    figure = Figure(figsize=(7.2, 3.6 + _LINE * len(out)), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 7.2), ylim=(-3.6 - _LINE * len(out), 0))
    axes.axis("off")
    bottom = _box(axes, 2.4, -0.1, [f"{flow.read:,} films read"])
    side = bottom - 0.25
    below = _box(axes, 5.6, side, out)
    kept_lines = [f"{kept['films']:,} films kept", f"{kept['studies']:,} studies of {kept['patients']:,} patients"]
    top = below - 0.25
    _arrow(axes, (2.4, bottom), (2.4, top))
    _arrow(axes, (2.4, (side + below) / 2), (5.6 - _WIDTH / 2, (side + below) / 2))
    bottom = _box(axes, 2.4, top, kept_lines)
    places = np.linspace(1.2, 6.0, len(flow.splits))
    rail, top = bottom - 0.3, bottom - 0.6
    axes.plot([2.4, 2.4], [bottom, rail], color=GRAY, linewidth=0.9)
    axes.plot([places[0], places[-1]], [rail, rail], color=GRAY, linewidth=0.9)
    for x, (split, counts) in zip(places, flow.splits.items(), strict=True):
        _arrow(axes, (x, rail), (x, top))
        _box(axes, x, top, [split, *(f"{n:,} {what}" for what, n in counts.items())])
    return figure


def forest(score: Score) -> Figure:
    """AUROC by pathology with its interval, and the mean."""
    rows = [
        (marked(name, found), found.auroc, found.intervals.get("auroc")) for name, found in score.pathologies.items()
    ]
    rows.append((f"Mean of {len(score.mean.pathologies)}", score.mean.auroc, score.mean.intervals.get("auroc")))
    figure = Figure(figsize=(6.2, 0.28 * len(rows) + 1.0), layout="constrained")
    axes = figure.subplots()
    for y, (_, auroc, ci) in enumerate(reversed(rows)):
        color, marker = (_ORANGE, "D") if y == 0 else (_BLUE, "s")
        if ci is not None:
            axes.plot([ci.low, ci.high], [y, y], color=color, linewidth=1.4)
        if auroc is not None:
            axes.plot(auroc, y, marker, color=color, markersize=5)
        axes.text(1.02, y, estimate(auroc, ci), va="center", fontsize=8, transform=axes.get_yaxis_transform())
    axes.axvline(0.5, color=GRAY, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_yticks(range(len(rows)), [title for title, _, _ in reversed(rows)], fontsize=8)
    axes.set_xlabel("AUROC (95 % interval)", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def net_benefit(
    probability_S: npt.NDArray[np.floating], positive_S: npt.NDArray[np.bool_], threshold_T: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """Net benefit (T,) of acting from each threshold on: TP/n - FP/n t / (1 - t) (Vickers and Elkin 2006).

    >>> net_benefit(np.array([0.9, 0.6, 0.1]), np.array([True, False, False]), np.array([0.5, 0.8])).round(3).tolist()
    [0.0, 0.333]

    Args:
        threshold_T: in [0, 1).
    """
    said_TS = probability_S >= threshold_T[:, None]
    true_T, false_T = (said_TS & positive_S).mean(axis=1), (said_TS & ~positive_S).mean(axis=1)
    found: npt.NDArray[np.float64] = true_T - false_T * threshold_T / (1.0 - threshold_T)
    return found


def decision_curves(panels: Mapping[str, Panel]) -> Figure:
    """Net benefit by pathology of the model, of acting on everybody, and of acting on nobody (0)."""
    num_columns = min(COLUMNS, len(panels))
    num_rows = -(-len(panels) // num_columns)
    figure = Figure(figsize=(2.1 * num_columns, 1.9 * num_rows + 0.5), layout="constrained")
    cells = list(figure.subplots(num_rows, num_columns, squeeze=False).flat)
    for axes, (name, panel) in zip(cells, panels.items(), strict=False):
        prevalence = float(panel.positive.mean()) if len(panel.positive) else 0.0
        threshold_T = np.linspace(0.0, min(0.99, max(0.1, 2.5 * prevalence)), 101)
        axes.axhline(0.0, color=GRAY, linewidth=0.8)
        axes.plot(
            threshold_T,
            prevalence - (1 - prevalence) * threshold_T / (1 - threshold_T),
            color=_ORANGE,
            linewidth=1.2,
            linestyle=(0, (4, 2)),
            label="act on all",
        )
        axes.plot(
            threshold_T,
            net_benefit(panel.probability, panel.positive, threshold_T),
            color=_BLUE,
            linewidth=1.6,
            label="model",
        )
        axes.set_ylim(-0.3 * max(prevalence, 0.02), 1.1 * max(prevalence, 0.02))
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in cells[len(panels) :]:
        axes.axis("off")
    handles, labels = cells[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2, frameon=False, fontsize=8)
    figure.supxlabel("probability from which one acts", fontsize=8)
    figure.supylabel("net benefit", fontsize=8)
    return figure


def _box(axes: Axes, x: float, top: float, lines: Sequence[str]) -> float:
    """A box around `x` that hangs from `top`; returns where it ends. All in inches."""
    height = _LINE * len(lines) + 0.16
    axes.add_patch(
        Rectangle((x - _WIDTH / 2, top - height), _WIDTH, height, facecolor="white", edgecolor=GRAY, linewidth=0.9)
    )
    axes.text(x, top - height / 2, "\n".join(lines), ha="center", va="center", fontsize=8, linespacing=1.3)
    return top - height


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    arrow = {"arrowstyle": "-|>", "color": GRAY, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=end, xytext=start, arrowprops=arrow)
