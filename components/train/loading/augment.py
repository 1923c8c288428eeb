"""Views of a study and modality dropout: keyed by (seed, step, study), never by process or order.

All numbers are hashes of counters and all work is done on the training device, for all films at once: NumPy's noise on
the host cost 45 ms a batch of 53 films at 224 pixels, 196 ms at 512, in the process that should feed the GPU.

Shape letters: B studies, V views, N films that are there, H and W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from components.cxr.model.batch import Batch
from components.cxr.model.counters import mixed, normals, uniforms
from components.train.config import AugmentConfig, ModalityDropout

__all__ = ["augment", "drop_modalities", "view_keys"]

_STREAM = {"view": 2, "dropout": 3}


def view_keys(studies: Sequence[int], *, seed: int, step: int, stream: Literal["view", "dropout"]) -> Tensor:
    """One int64 key per study (B,), on the host."""
    start = mixed(mixed(mixed(torch.tensor(seed)) + step) + _STREAM[stream])
    return mixed(start + torch.tensor(list(studies), dtype=torch.int64))


def augment(batch: Batch, *, studies: Sequence[int], step: int, seed: int, config: AugmentConfig) -> Batch:
    """The batch with every film shifted, rotated, zoomed, regraded, overlaid with noise and erased in part at random.

    Args:
        batch: on the device where the films are to be transformed.
        studies: index of each study in its data set, length B: the key of its random numbers.
    """
    device, num_views = batch.films_BVHW.device, batch.films_BVHW.shape[1]
    key_B = view_keys(studies, seed=seed, step=step, stream="view").to(device, non_blocking=True)
    key_BV = mixed(key_B[:, None] + 1 + torch.arange(num_views, device=device))
    key_N = key_BV.flatten()[batch.present_N]
    films_NHW = batch.films_BVHW.flatten(0, 1)[batch.present_N].float()
    films_NHW = _damaged(_warped(films_NHW, key_N, config), key_N, config)
    films_NHW = films_NHW.clamp_(0.0, 255.0).round_().to(torch.uint8)
    films_MHW = batch.films_BVHW.flatten(0, 1).index_copy(0, batch.present_N, films_NHW)
    return replace(batch, films_BVHW=films_MHW.view_as(batch.films_BVHW))


def drop_modalities(batch: Batch, *, studies: Sequence[int], step: int, seed: int, config: ModalityDropout) -> Batch:
    """Mask films, text or metadata of some studies.

    Films fall only where there is text, and text only where there are films that stay. The batch lies on the host,
    which then knows how many films are left.
    """
    draw_B3 = uniforms(view_keys(studies, seed=seed, step=step, stream="dropout"), 3)
    image_B, text_B, meta_B = (draw_B3 >= torch.tensor([config.image, config.text, config.meta])).unbind(1)
    has_text_B, has_film_B = batch.has_text(), batch.film_mask_BV.any(dim=1)
    image_B = image_B | ~has_text_B
    text_B = text_B | ~(image_B & has_film_B)
    return batch.keep(image_B=image_B, text_B=text_B, meta_B=meta_B)


def _warped(films_NHW: Tensor, key_N: Tensor, config: AugmentConfig) -> Tensor:
    """Films in [0, 255] turned, zoomed, shifted and regraded; what comes in from outside is black."""
    angle, zoom, right, down, contrast, brightness = (uniforms(key_N, 6) * 2.0 - 1.0).unbind(1)
    angle, zoom = angle * math.radians(config.rotation_degrees), 1.0 + zoom * config.scale
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    shift = 2.0 * config.translation
    affine_N23 = torch.stack([cos, -sin, shift * right, sin, cos, shift * down], dim=1).view(-1, 2, 3)
    films_N1HW = films_NHW[:, None]
    grid = F.affine_grid(affine_N23, list(films_N1HW.shape), align_corners=False)
    films_NHW = F.grid_sample(films_N1HW, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[:, 0]
    gain_N, middle = 1.0 + contrast * config.contrast, 127.5
    offset_N = middle - middle * gain_N + 255.0 * config.brightness * brightness
    return films_NHW.mul_(gain_N[:, None, None]).add_(offset_N[:, None, None])


def _damaged(films_NHW: Tensor, key_N: Tensor, config: AugmentConfig) -> Tensor:
    """Noise of a random strength on each film, then a rectangle of middle gray in each."""
    size = films_NHW.shape[-1]
    key_N = mixed(key_N)  # not the counters of the geometry
    noise_NHW = normals(mixed(key_N + 8), size * size).view_as(films_NHW)
    deviation, height, width, top, left = uniforms(key_N, 5).unbind(1)
    films_NHW = films_NHW.addcmul_(noise_NHW, (deviation * (255.0 * config.noise))[:, None, None])
    place = torch.arange(size, device=films_NHW.device)

    def within(start_N: Tensor, side_N: Tensor) -> Tensor:
        side_N = (side_N * (config.erase * size)).floor()
        start_N = (start_N * (size - side_N + 1)).floor()
        return (place >= start_N[:, None]) & (place < (start_N + side_N)[:, None])

    erased_NHW = within(top, height)[:, :, None] & within(left, width)[:, None, :]
    return films_NHW.masked_fill_(erased_NHW, 127.5)
