"""A second opinion on films that no gradient makes: how often which small patch comes where, and a ridge regression.

Coates, Lee and Ng, "An analysis of single-layer networks in unsupervised feature learning", 2011: patches of the films,
normalized and whitened, are told apart by the centers of a k-means clustering; the answer is linear in how near each
part of a film comes to each center. The centers need no labels. Where films are few, this knows more than an encoder
from scratch, and other things (docs/learning.md). components/train/patch_words.py fits it.

Shape letters: B studies, V views, N films, H and W pixels, L places of a film, T places along its side, G parts along
its side, Q pixels of a patch, K words, F features, P pathologies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.cxr.model.architecture import PatchConfig

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

    def features(self, films_NHW: Tensor) -> Tensor:
        """How near each part of each film comes to each word (N, F), 0 for words that are farther than the mean.

        Args:
            films_NHW: uint8.
        """
        if not len(films_NHW):
            return self.weight_PF.new_zeros(0, self.weight_PF.shape[1])
        return torch.cat([self._features(films) for films in films_NHW.split(_FILMS_A_TIME)])

    def patches(self, films_NHW: Tensor) -> Tensor:
        """Every patch of each film (N, L, Q), normalized to mean 0 and variance 1, not yet whitened."""
        films_N1HW = films_NHW[:, None].to(self.mean_Q.dtype) / 255.0
        if films_N1HW.shape[-1] > self.config.side:
            films_N1HW = F.interpolate(films_N1HW, size=(self.config.side, self.config.side), mode="area")
        patch_NLQ = F.unfold(films_N1HW, self.config.patch, stride=self.config.stride).transpose(1, 2)
        variance_NL1, mean_NL1 = torch.var_mean(patch_NLQ, dim=2, keepdim=True, correction=0)
        return (patch_NLQ - mean_NL1) / (variance_NL1 + _LEAST_VARIANCE).sqrt()

    def whitened(self, patch_NLQ: Tensor) -> Tensor:
        """Patches whose pixels no longer go together."""
        return (patch_NLQ - self.mean_Q) @ self.whitening_QQ

    def _features(self, films_NHW: Tensor) -> Tensor:
        patch_NLQ = self.whitened(self.patches(films_NHW))
        words_NKQ = self.words_KQ.expand(len(patch_NLQ), -1, -1)
        distance_NLK = torch.cdist(patch_NLQ, words_NKQ, compute_mode="use_mm_for_euclid_dist")
        near_NLK = (distance_NLK.mean(dim=2, keepdim=True) - distance_NLK).clamp_(min=0.0)
        num_films, places, words = near_NLK.shape
        grid, side = self.config.grid, round(places**0.5)
        part_GT = F.adaptive_avg_pool1d(torch.eye(side, dtype=near_NLK.dtype, device=near_NLK.device), grid).T
        column_NTGK = part_GT @ near_NLK.reshape(num_films, side, side, words)
        mean_NGGK = part_GT @ column_NTGK.reshape(num_films, side, grid * words)
        return mean_NGGK.reshape(num_films, grid**2, words).transpose(1, 2).flatten(1)
