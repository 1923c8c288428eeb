"""Where on its films the patches of a study speak for a finding or against it, and how much.

Only the expert of patches has places: what it adds to an answer is a sum over them. The encoder, the text and the
metadata add the rest, of which no map is drawn.

Shape letters: V films, P pathologies, S pixels along the side of a film for the expert.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch

from components.cxr.bundle import Bundle
from components.cxr.model.batch import VIEW_INDEX
from components.cxr.model.device import exact_float32

__all__ = ["has_heatmaps", "heatmaps"]

_BLUR = 0.03
"""Of a film's side: patches of 6 of 64 pixels leave edges where one ends (benchmarks/heatmaps.py)."""


def has_heatmaps(bundle: Bundle) -> bool:
    """Whether there is an expert of patches that counts."""
    return any(model.patch_expert is not None and model.patch_expert.counts for model in bundle.models)


@torch.inference_mode()
def heatmaps(
    bundle: Bundle,
    films: Sequence[npt.NDArray[np.uint8]],
    view_positions: Sequence[str | None],
    *,
    device: torch.device | str = "cpu",
) -> npt.NDArray[np.float64]:
    """Log-odds that each point of each film adds to the score, beyond what it adds usually (V, P, S, S).

    Usually is on films of the same view. Where no view is known, all points of all films together are what the expert
    of patches adds to z1 - z0. Of several models it is the mean, as their answer is.

    Args:
        films: of one study, as the model sees them, at least one.
        view_positions: theirs.

    Raises:
        ValueError: no expert of patches that counts.
    """
    exact_float32()
    films_VHW = torch.from_numpy(np.stack(films)).to(device)
    view_V = torch.tensor([VIEW_INDEX.get(view or "", 0) for view in view_positions], device=device)
    maps = []
    for model in bundle.models:
        expert = model.to(device).patch_expert
        if expert is not None and expert.counts:
            maps.append(expert.heat(films_VHW, view_V).double().cpu())
    if not maps:
        raise ValueError("a model without patches has no heatmaps")
    map_VPSS = torch.stack(maps).sum(dim=0).numpy() / (len(bundle.models) * len(films))
    blur = _BLUR * map_VPSS.shape[-1]
    for map_SS in map_VPSS.reshape(-1, *map_VPSS.shape[2:]):
        cv2.GaussianBlur(map_SS, (0, 0), blur, dst=map_SS, borderType=cv2.BORDER_REFLECT)  # which keeps the sum
    return np.asarray(map_VPSS)
