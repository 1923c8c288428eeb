"""Weak and strong views of a study, and modality dropout: keyed by (seed, epoch, study), never by process or order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from components.cxr.model.batch import Batch
from components.train.config import AugmentConfig, ModalityDropout

__all__ = ["augment", "drop_modalities"]

_STREAM = {"weak": 1, "strong": 2, "dropout": 3}
_WEAK = 0.25
"""Strength of the weak view relative to the strong one's geometry and contrast."""


@dataclass(frozen=True)
class _Views:
    """Random numbers of N films: affine maps, grey transforms, noise and erased rectangles."""

    affine_N23: Tensor
    gain_N: Tensor
    offset_N: Tensor
    noise_NHW: Tensor | None
    erase_N4: npt.NDArray[np.int64] | None


def augment(
    batch: Batch,
    *,
    studies: Sequence[int],
    epoch: int,
    seed: int,
    config: AugmentConfig,
    strength: Literal["weak", "strong"],
    device: torch.device | None = None,
) -> Batch:
    """The batch with every film shifted, rotated, zoomed and regraded at random; strong adds noise and an erased part.

    Args:
        batch: on the host, where random numbers are drawn: finding the films there on a GPU would wait for it.
        studies: index of each study in its data set, length B: the key of its random numbers.
        device: where the films are transformed and the result lies; the batch's own unless given.
    """
    device = batch.films_BVHW.device if device is None else device
    present_M = batch.film_mask_BV.flatten().nonzero().squeeze(1)
    if len(present_M) == 0:
        return batch.to(device)
    size = batch.films_BVHW.shape[-1]
    generators = [
        np.random.default_rng([seed, epoch, studies[b], v, _STREAM[strength]])
        for b, v in batch.film_mask_BV.nonzero().tolist()
    ]
    views = _draw(generators, size=size, config=config, strong=strength == "strong")
    batch, present_M = batch.to(device), present_M.to(device)
    films_N1HW = batch.films_BVHW.flatten(0, 1)[present_M].float()[:, None] / 255.0
    grid = F.affine_grid(views.affine_N23.to(device), list(films_N1HW.shape), align_corners=False)
    films_NHW = F.grid_sample(films_N1HW, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[:, 0]
    gain, offset = (value.to(device)[:, None, None] for value in (views.gain_N, views.offset_N))
    films_NHW = (films_NHW - 0.5) * gain + 0.5 + offset
    if views.noise_NHW is not None:
        films_NHW = films_NHW + views.noise_NHW.to(device)
    if views.erase_N4 is not None:
        for n, (top, bottom, left, right) in enumerate(views.erase_N4):
            films_NHW[n, top:bottom, left:right] = 0.5
    films_MHW = batch.films_BVHW.flatten(0, 1).clone()
    films_MHW[present_M] = (films_NHW.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
    return replace(batch, films_BVHW=films_MHW.view_as(batch.films_BVHW))


def drop_modalities(batch: Batch, *, studies: Sequence[int], epoch: int, seed: int, config: ModalityDropout) -> Batch:
    """Mask films, text or metadata of some studies.

    Films fall only where there is text, and text only where there are films that stay. The batch lies on the host.
    """
    draws_B3 = np.stack(
        [np.random.default_rng([seed, epoch, study, _STREAM["dropout"]]).random(3) for study in studies]
    )
    image_B, text_B, meta_B = torch.from_numpy(draws_B3 >= [config.image, config.text, config.meta]).unbind(1)
    has_text_B, has_film_B = batch.has_text(), batch.film_mask_BV.any(dim=1)
    image_B = image_B | ~has_text_B
    text_B = text_B | ~(image_B & has_film_B)
    return batch.keep(image_B=image_B, text_B=text_B, meta_B=meta_B)


def _draw(generators: Sequence[np.random.Generator], *, size: int, config: AugmentConfig, strong: bool) -> _Views:
    strength = 1.0 if strong else _WEAK
    affine, gain, offset, noise, erase = [], [], [], [], []
    for generator in generators:
        angle, zoom, right, down, contrast, brightness = generator.uniform(-strength, strength, size=6)
        angle, zoom = np.deg2rad(angle * config.rotation_degrees), 1.0 + zoom * config.scale
        cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
        shift = 2.0 * config.translation * np.array([right, down])
        affine.append([[cos, -sin, shift[0]], [sin, cos, shift[1]]])
        gain.append(1.0 + contrast * config.contrast)
        offset.append(brightness * config.brightness)
        if strong:
            deviation = generator.uniform(0.0, config.noise)
            noise.append(deviation * generator.standard_normal((size, size), dtype=np.float32))
            height, width = (generator.uniform(0.0, config.erase, size=2) * size).astype(int)
            top, left = generator.integers(0, size - height), generator.integers(0, size - width)
            erase.append([top, top + height, left, left + width])
    return _Views(
        torch.tensor(np.array(affine), dtype=torch.float32),
        torch.tensor(gain, dtype=torch.float32),
        torch.tensor(offset, dtype=torch.float32),
        torch.from_numpy(np.stack(noise).astype(np.float32)) if strong else None,
        np.array(erase) if strong else None,
    )
