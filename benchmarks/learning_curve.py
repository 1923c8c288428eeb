"""What shares of the labels are worth: one table and one figure, from runs that are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.kept_runs import by_seed, in_pairs, of_arm, over_seeds, told
from benchmarks.resampled import Scores, high, low

__all__ = ["curve_figure", "curve_table"]

COLORS = ("#6b7280", "#1f4e8c", "#d9730d")
MARKERS = ("s", "o", "^")
FACES = ("white", None)
"""Curves are told apart without colors too: one marker per color, hollow in the first set and full in the second."""

Run = Mapping[str, Any]
Points = dict[int, tuple[Scores, int]]
"""By percent of the patients with labels: mean AUROC and its resamples, and the number of seeds."""


def curve_table(runs: Sequence[Run], *, arms: Sequence[str], everything: str) -> str:
    """The mean AUROC of each arm by the share of the labels; empty where the curve has not begun.

    Args:
        everything: the arm with all labels, where all curves end.
    """
    points = _points(runs, arms, everything)
    shares = sorted({percent for of_share in points.values() for percent in of_share})
    if not _begun(points):
        return ""
    lines = ["by the share of the patients with labels, all inputs (seeds)"]
    lines.append(f"{'':8}" + "".join(f"{name:>31}" for name in arms))
    for percent in shares:
        cells = [points[name].get(percent) for name in (arms if percent < 100 else arms[:1])]
        texts = ["" if cell is None else f"{told(cell[0])} ({cell[1]})" for cell in cells]
        lines.append(f"{f'{percent} %':8}{''.join(f'{text:>31}' for text in texts)}".rstrip())
    lines += ["", f"less {arms[0]}, the same seeds", f"{'':8}" + "".join(f"{name:>31}" for name in arms[1:])]
    for percent in shares:
        gains = []
        for name in arms[1:]:
            mine, first = in_pairs(of_arm(runs, name, percent), of_arm(runs, arms[0], percent))
            more = over_seeds(mine, [*mine], "all") - over_seeds(first, [*mine], "all") if mine else None
            gains.append("" if more is None else f"{told(more)} ({len(mine)})")
        if any(gains):
            lines.append(f"{f'{percent} %':8}{''.join(f'{gain:>31}' for gain in gains)}".rstrip())
    return "\n".join(lines)


def curve_figure(runs: Sequence[Run], sets: Mapping[str, Sequence[str]]) -> Figure | None:
    """The same as curves with 95 % intervals; None where there is nothing to draw.

    Args:
        sets: arms by the one with all labels where their curves end; two sets at most, of three arms each.
    """
    begun = {everything: found for everything, arms in sets.items() if _begun(found := _points(runs, arms, everything))}
    if not begun:
        return None
    figure = Figure(figsize=(6.4, 4.4), dpi=130, layout="constrained")
    axes = figure.subplots()
    drawn = [each for points, face in zip(begun.values(), FACES, strict=False) for each in _looks(points, face)]
    for i, (name, of_share, look) in enumerate(drawn):
        shares = sorted(of_share)
        samples = [of_share[percent][0] for percent in shares]
        value = np.array([each[0] for each in samples])
        ends = np.array([[each[0] - low(each[1:]), high(each[1:]) - each[0]] for each in samples]).T
        shifted = np.array(shares) * 1.03 ** (i - (len(drawn) - 1) / 2)  # side by side: no interval hides another
        axes.errorbar(shifted, value, yerr=ends, markersize=5, capsize=3, label=name, **look)
    axes.set_xscale("log")
    shares = sorted({percent for points in begun.values() for of_share in points.values() for percent in of_share})
    axes.set_xticks(shares, [f"{percent} %" for percent in shares])
    axes.minorticks_off()
    axes.set_xlabel("patients whose labels are used")
    axes.set_ylabel("mean AUROC of 14, all inputs")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e5e7eb")
    axes.legend(frameon=False, loc="lower right")
    return figure


def _looks(points: Mapping[str, Points], face: str | None) -> list[tuple[str, Points, dict[str, Any]]]:
    line = "-" if face is None else ":"
    return [
        (name, of_share, {"color": color, "marker": marker, "linestyle": line, "markerfacecolor": face or color})
        for (name, of_share), color, marker in zip(points.items(), COLORS, MARKERS, strict=True)
    ]


def _points(runs: Sequence[Run], arms: Sequence[str], everything: str) -> dict[str, Points]:
    found: dict[str, Points] = {}
    for name in arms:
        mine = [run for run in runs if run["arm"] == name or (run["arm"] == everything and run["percent"] == 100)]
        found[name] = {}
        for percent in {run["percent"] for run in mine}:
            those = by_seed(of_arm(runs, everything if percent == 100 else name, percent))
            found[name][percent] = over_seeds(those, sorted(those), "all"), len(those)
    return found


def _begun(points: Mapping[str, Points]) -> bool:
    return any(len(of_share.keys() - {100}) > 1 for of_share in points.values())
