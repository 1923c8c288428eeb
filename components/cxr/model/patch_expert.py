"""A second opinion on films that no gradient makes: how often which small patch comes where, and a ridge regression.

Coates, Lee and Ng, "An analysis of single-layer networks in unsupervised feature learning", 2011: patches of the films,
normalized and whitened, are told apart by the centers of a k-means clustering; the answer is linear in how near each
part of a film comes to each center. The centers need no labels. Where films are few, this knows more than an encoder
from scratch, and other things (docs/learning.md). components/train/patch_words.py fits it.

Its answer is a sum over the places of a film, so that what each place adds can be told exactly: `heat`.

Shape letters: B studies, V views (of a study, or kinds of them), N films, H and W pixels, L places of a film, T places
along its side, G parts along its side, S pixels along its side as the expert sees it, Q pixels of a patch, K words, F
features, P pathologies.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.cxr.model.architecture import PatchConfig
from components.cxr.model.batch import NUM_VIEWS

__all__ = ["PatchExpert"]

_FILMS_A_TIME = 4
"""A film's distances are L x K numbers, 840 KiB with the defaults: of so many a processor's cache still holds them."""
_LEAST_VARIANCE = 0.01
"""Of gray values in [0, 1] within a patch: what varies less is flat."""


class PatchExpert(nn.Module):
    """Log-odds that a study's films add; all its tensors are buffers, set before training and by validation.

    Args:
        num_pathologies: P.
    """

    mean_Q: Tensor
    whitening_QQ: Tensor
    words_KQ: Tensor
    weight_PF: Tensor
    bias_P: Tensor
    usual_PVL: Tensor
    scale_P: Tensor

    def __init__(self, config: PatchConfig, *, num_pathologies: int) -> None:
        super().__init__()
        self.config = config
        pixels, features = config.patch**2, config.words * config.grid**2
        self.register_buffer("mean_Q", torch.zeros(pixels))
        self.register_buffer("whitening_QQ", torch.eye(pixels))
        self.register_buffer("words_KQ", torch.zeros(config.words, pixels))
        self.register_buffer("weight_PF", torch.zeros(num_pathologies, features))
        self.register_buffer("bias_P", torch.zeros(num_pathologies))
        self.register_buffer("usual_PVL", torch.zeros(num_pathologies, NUM_VIEWS, config.places**2))
        self.register_buffer("scale_P", torch.ones(num_pathologies))

    def forward(self, films_BVHW: Tensor, film_mask_BV: Tensor) -> Tensor:
        """What is added to the logit of positive (B, P): 0 on average over the training films, and without films.

        Args:
            films_BVHW: uint8.
            film_mask_BV: True for a film that is there.
        """
        opinion_NP = self.opinion(self.features(films_BVHW[film_mask_BV]))
        opinion_BVP = opinion_NP.new_zeros(*film_mask_BV.shape, opinion_NP.shape[-1])
        opinion_BVP[film_mask_BV] = opinion_NP
        return self.scale_P * opinion_BVP.sum(dim=1) / film_mask_BV.sum(dim=1, keepdim=True).clamp(min=1)

    @property
    def counts(self) -> bool:
        """Whether it moves any answer; validation may have left it out."""
        return bool(self.scale_P.any())

    def opinion(self, features_NF: Tensor) -> Tensor:
        """What is made of features, of a film's or of the mean of several's, before `scale_P` (N, P)."""
        return features_NF @ self.weight_PF.T + self.bias_P

    def heat(self, films_NHW: Tensor, view_N: Tensor) -> Tensor:
        """Log-odds that the patches over each point of each film add, beyond what they add usually (N, P, S, S).

        Every patch is spread evenly over its pixels, so that a film's map sums to what the film adds. Usual is the mean
        of the films of its view from which the weights were learned, place by place; for an unknown view that of all
        studies, whose map sums to `scale_P` times the film's opinion.

        Args:
            films_NHW: uint8.
            view_N: int64 index into VIEW_INDEX's values, 0 unknown.
        """
        config = self.config
        maps = [self.weight_PF.new_zeros(0, len(self.scale_P), config.side, config.side)]
        for near_NLK, some_N in zip(self.near(films_NHW), view_N.split(_FILMS_A_TIME), strict=False):
            added_NPL = self.scale_P[:, None] * (self.added(near_NLK) - self.usual_PVL[:, some_N].transpose(0, 1))
            spread_NPQL = (added_NPL / config.patch**2)[:, :, None].expand(-1, -1, config.patch**2, -1)
            maps.append(
                F.fold(spread_NPQL.flatten(0, 1), config.side, config.patch, stride=config.stride)
                .unflatten(0, added_NPL.shape[:2])
                .squeeze(2)
            )
        return torch.cat(maps)

    def added(self, near_NLK: Tensor) -> Tensor:
        """What each place of a film adds to its opinion, `bias_P` left out (N, P, L)."""
        part_GT = self._parts(near_NLK)
        weight_PKGG = self.weight_PF.unflatten(1, (-1, self.config.grid, self.config.grid))
        weight_PKL = torch.einsum("pkij,iy,jx->pkyx", weight_PKGG, part_GT, part_GT).flatten(2)
        return torch.einsum("nlk,pkl->npl", near_NLK, weight_PKL)

    def features(self, films_NHW: Tensor) -> Tensor:
        """How near each part of each film comes to each word (N, F), 0 for words that are farther than the mean.

        Args:
            films_NHW: uint8.
        """
        nothing_0F = self.weight_PF.new_zeros(0, self.weight_PF.shape[1])
        return torch.cat([nothing_0F, *(self.pooled(near_NLK) for near_NLK in self.near(films_NHW))])

    def near(self, films_NHW: Tensor) -> Iterator[Tensor]:
        """How near each place comes to each word (N, L, K), of a few films at a time."""
        for some_NHW in films_NHW.split(_FILMS_A_TIME) if len(films_NHW) else ():
            patch_NLQ = self.whitened(self.patches(some_NHW))
            words_NKQ = self.words_KQ.expand(len(patch_NLQ), -1, -1)
            distance_NLK = torch.cdist(patch_NLQ, words_NKQ, compute_mode="use_mm_for_euclid_dist")
            yield (distance_NLK.mean(dim=2, keepdim=True) - distance_NLK).clamp_(min=0.0)

    def pooled(self, near_NLK: Tensor) -> Tensor:
        """Its means over the parts of a film (N, F)."""
        num_films, places, words = near_NLK.shape
        grid, side = self.config.grid, round(places**0.5)
        part_GT = self._parts(near_NLK)
        column_NTGK = part_GT @ near_NLK.reshape(num_films, side, side, words)
        mean_NGGK = part_GT @ column_NTGK.reshape(num_films, side, grid * words)
        return mean_NGGK.reshape(num_films, grid**2, words).transpose(1, 2).flatten(1)

    def patches(self, films_NHW: Tensor) -> Tensor:
        """Every patch of each film (N, L, Q), normalized to mean 0 and variance 1, not yet whitened."""
        films_N1HW = films_NHW[:, None].to(self.mean_Q.dtype) / 255.0
        size, side = films_N1HW.shape[-1], self.config.side
        if size != side:  # smaller where a bundle goes on with other films
            films_N1HW = F.interpolate(films_N1HW, size=(side, side), mode="area" if size > side else "bilinear")
        patch_NLQ = F.unfold(films_N1HW, self.config.patch, stride=self.config.stride).transpose(1, 2)
        variance_NL1, mean_NL1 = torch.var_mean(patch_NLQ, dim=2, keepdim=True, correction=0)
        return (patch_NLQ - mean_NL1) / (variance_NL1 + _LEAST_VARIANCE).sqrt()

    def whitened(self, patch_NLQ: Tensor) -> Tensor:
        """Patches whose pixels no longer go together."""
        return (patch_NLQ - self.mean_Q) @ self.whitening_QQ

    def _parts(self, near_NLK: Tensor) -> Tensor:
        """How much each place along a side counts in the mean of each part."""
        eye_TT = torch.eye(round(near_NLK.shape[1] ** 0.5), dtype=near_NLK.dtype, device=near_NLK.device)
        return F.adaptive_avg_pool1d(eye_TT, self.config.grid).T
