"""A sheet of the golden studies' films with the model's highest answers, for MLflow, where one is asked for."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from components.cxr.report import GoldenStudy, Report
from components.cxr.shards import LoadedManifest, read_shard

__all__ = ["film_sheet"]

COLUMNS, CELL = 4, 2.6
"""Films per row, and a film's side in inches."""
NUM_ANSWERS = 3


def film_sheet(report: Report, manifest: LoadedManifest) -> Figure:
    """The first film of each golden study, as the model sees it; no id is shown."""
    rows = max(-(-len(report.golden) // COLUMNS), 1)
    figure = Figure(figsize=(COLUMNS * CELL, rows * (CELL + 0.7)), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, golden in zip(axes, report.golden, strict=False):
        axis.imshow(_pixels(golden, manifest), cmap="gray", vmin=0, vmax=255)
        highest = sorted(golden.probabilities.items(), key=lambda pair: -pair[1])[:NUM_ANSWERS]
        axis.set_title("\n".join(f"{name} {value:.2f}" for name, value in highest), fontsize=8)
    return figure


def _pixels(golden: GoldenStudy, manifest: LoadedManifest) -> np.ndarray:
    """uint8 (H, W)."""
    info = next(shard for shard in manifest.manifest.shards if shard.name == golden.shard)
    column = read_shard(manifest.storage, info, columns=["pixels"]).column("pixels")
    size = manifest.manifest.pixel_preset.size
    return np.frombuffer(column[golden.row].as_py(), np.uint8).reshape(size, size)
