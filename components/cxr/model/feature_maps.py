"""The feature maps of a data set's films under an encoder that never changes: made once on a machine, then mapped.

Shape letters: N films of a shard, B studies, V views, C channels, h and w feature map.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from components.cxr.config import content_hash
from components.cxr.errors import UserError
from components.cxr.model.dataset import StudyDataset
from components.cxr.progress import track
from components.cxr.storage.node_cache import made_once

__all__ = ["FeatureMaps"]

_FILMS_AT_ONCE = 32

_Shard = tuple[str, npt.NDArray[np.uint8]]


class FeatureMaps:
    """A map per film, in files of the node's cache with one shard each."""

    def __init__(self, studies: StudyDataset, of_shards: Sequence[npt.NDArray[np.generic]], dtype: torch.dtype) -> None:
        self._studies, self._of_shards, self._dtype = studies, of_shards, dtype

    @classmethod
    @torch.no_grad()
    def kept(cls, encoder: nn.Module, studies: StudyDataset, *, key: str, tell: bool = True) -> FeatureMaps:
        """The maps of all films, from the cache where any process of this machine made them before.

        Processes that start together share the shards out. Under autocast to bfloat16, maps are kept as that.
        A file is named by the shard's hash, the weights, `key`, the kinds of numbers and device, and torch's version.

        Args:
            encoder: from films, uint8 (N, H, W), to maps (N, C, h, w).
            key: what decides the maps beside weights and films: configuration and normalization.
            tell: show the progress.

        Raises:
            UserError: there is no room for a shard's maps.
        """
        was_training = encoder.training
        encoder.eval()
        device = next(encoder.parameters()).device
        dtype = torch.bfloat16 if torch.is_autocast_enabled(device.type) else torch.float32
        known = content_hash("maps 1", _weights(encoder), key, str(dtype), device.type, torch.__version__)

        def make(pixels_NHW: npt.NDArray[np.uint8]) -> list[memoryview]:
            parts = []
            for start in range(0, len(pixels_NHW), _FILMS_AT_ONCE):
                films_NHW = torch.from_numpy(np.array(pixels_NHW[start : start + _FILMS_AT_ONCE])).to(device)
                map_NChw = encoder(films_NHW).to(dtype).cpu().contiguous()
                parts.append(memoryview(map_NChw.view(torch.uint8).numpy()).cast("B"))
            return parts

        shards = list(studies.shards())
        total = sum(len(pixels_NHW) for _, pixels_NHW in shards)
        turns: Iterable[_Shard] = shards
        if tell:
            turns = track(shards, total=total, what="train", unit="feature maps", size=lambda shard: len(shard[1]))
        with _room_for_maps():
            found = [made_once(f"{sha}-{known}", functools.partial(make, films), wait=False) for sha, films in turns]
            found = [
                made_once(f"{sha256}-{known}", functools.partial(make, films)) if content is None else content
                for (sha256, films), content in zip(shards, found, strict=True)
            ]
        one_film = torch.zeros((1, studies.size, studies.size), dtype=torch.uint8, device=device)
        shape = encoder(one_film).shape[1:]
        encoder.train(was_training)
        numbers = np.int16 if dtype == torch.bfloat16 else np.float32
        return cls(studies, [np.asarray(content).view(numbers).reshape(-1, *shape) for content in found], dtype)

    def of(self, studies: Sequence[int], *, num_views: int) -> Tensor:
        """The maps of some studies' films (B, V, C, h, w); 0 where a study has fewer."""
        map_BVChw = torch.from_numpy(self._studies.gathered(self._of_shards, studies, num_views=num_views))
        return map_BVChw.view(self._dtype)


@contextlib.contextmanager
def _room_for_maps() -> Iterator[None]:
    """Maps need not be kept: where there is no room for them, there is one remedy more."""
    try:
        yield
    except UserError as full:
        if full.code != "pixel-cache-full":
            raise
        raise UserError(
            full.code,
            "no room for feature maps",
            where=full.where,
            found=full.found,
            expected=full.expected,
            remedy=f"{full.remedy} Or set train.keep_maps: false.",
        ) from None


def _weights(encoder: nn.Module) -> bytes:
    """32 bytes over the names and values of parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in encoder.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.digest()
