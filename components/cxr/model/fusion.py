"""How films, metadata and text become one answer per pathology; network.py makes the tokens.

`experts` (the default) is a product of experts (Hinton 2002): the queries answer from films and metadata, the text adds
a log-odds ratio of its own, and each is trained toward the labels alone. Trained as one, the text was not heard, and
what it would have added was lost: docs/benchmarks.md has the runs. `concat` is that one attention over all tokens.

Shape letters: B studies, T tokens, C width of the text encoder, P pathologies, D width, K keys that a query attends
over.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.cxr.model.architecture import FusionConfig
from components.cxr.model.dropout import KeyedDropout, attention

__all__ = ["PathologyQueries", "TextExpert"]


class PathologyQueries(nn.Module):
    """One learned query per pathology attends over a study's tokens; 3 logits each."""

    def __init__(self, fusion: FusionConfig, *, num_pathologies: int) -> None:
        super().__init__()
        self.queries_PD = nn.Parameter(torch.empty(num_pathologies, fusion.width))
        self.blocks = nn.ModuleList(_QueryBlock(fusion) for _ in range(fusion.num_layers))
        self.norm = nn.LayerNorm(fusion.width)
        self.head_weight_PD3 = nn.Parameter(torch.empty(num_pathologies, fusion.width, 3))
        self.head_bias_P3 = nn.Parameter(torch.zeros(num_pathologies, 3))

    def forward(self, keys_BKD: Tensor, mask_BK: Tensor, columns_K: Tensor) -> Tensor:
        """Logits (B, P, 3).

        Args:
            mask_BK: bool, True for a token that is there; at least one is in every row.
            columns_K: int64, what stands for each key in keyed dropout.
        """
        answer_BPD = self.queries_PD.expand(len(keys_BKD), -1, -1)
        for block in self.blocks:
            answer_BPD = block(answer_BPD, keys_BKD, mask_BK, columns_K)
        logits_BP3 = torch.einsum("bpd,pdk->bpk", self.norm(answer_BPD), self.head_weight_PD3)
        return logits_BP3 + self.head_bias_P3


class TextExpert(nn.Module):
    """What the text adds to the logits: a linear map of its mean token.

    Where films and text are independent given the label, log p(y | film, text) is log p(y | film) + log p(y | text) -
    log p(y) up to a constant. This gives the last two; `prior_P3` is log p(y), which training sets from its labels.
    Findings come together, so that the two are not independent given one of them: `scale` is learned on the sum, and is
    all that is.
    """

    prior_P3: Tensor

    def __init__(self, width: int, *, num_pathologies: int, p: float) -> None:
        super().__init__()
        self.norm, self.dropout = nn.LayerNorm(width), KeyedDropout(p)
        self.weight_PC3 = nn.Parameter(torch.empty(num_pathologies, width, 3))
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("prior_P3", torch.zeros(num_pathologies, 3))

    def forward(self, hidden_BTC: Tensor, token_mask_BT: Tensor) -> Tensor:
        """Log-odds ratios (B, P, 3), exactly 0 without a text.

        >>> expert = TextExpert(8, num_pathologies=2, p=0.0)
        >>> expert(torch.randn(1, 5, 8), torch.zeros(1, 5, dtype=torch.bool)).any().item()
        False
        """
        num_tokens_B1 = token_mask_BT.sum(dim=1, keepdim=True)
        mean_BC = (hidden_BTC * token_mask_BT[..., None]).sum(dim=1) / num_tokens_B1.clamp(min=1)
        ratio_BP3 = torch.einsum("bc,pck->bpk", self.dropout(self.norm(mean_BC)), self.weight_PC3)
        return ratio_BP3.masked_fill(num_tokens_B1[..., None] == 0, 0.0)


class _QueryBlock(nn.Module):
    """Pre-norm cross-attention of the pathology queries over the study's tokens, then a feed-forward layer."""

    def __init__(self, fusion: FusionConfig) -> None:
        super().__init__()
        self.num_heads, self.dropout, self.dropout_place = fusion.num_heads, fusion.dropout, 0
        self.query_norm, self.key_norm, self.feed_norm = (nn.LayerNorm(fusion.width) for _ in range(3))
        self.query, self.key, self.value, self.out = (nn.Linear(fusion.width, fusion.width) for _ in range(4))
        self.feed = nn.Sequential(
            nn.Linear(fusion.width, 2 * fusion.width),
            nn.GELU(),
            KeyedDropout(fusion.dropout),
            nn.Linear(2 * fusion.width, fusion.width),
            KeyedDropout(fusion.dropout),
        )

    def forward(self, answer_BPD: Tensor, keys_BKD: Tensor, mask_BK: Tensor, columns_K: Tensor) -> Tensor:
        keys_BKD = self.key_norm(keys_BKD)
        attended_BPD = attention(
            self._heads(self.query(self.query_norm(answer_BPD))),
            self._heads(self.key(keys_BKD)),
            self._heads(self.value(keys_BKD)),
            mask=mask_BK[:, None, None, :],
            p=self.dropout if self.training else 0.0,
            place=self.dropout_place,
            columns_K=columns_K,
        )
        answer_BPD = answer_BPD + self.out(attended_BPD.transpose(1, 2).flatten(2))
        fed_BPD: Tensor = self.feed(self.feed_norm(answer_BPD))
        return answer_BPD + fed_BPD

    def _heads(self, tokens_BKD: Tensor) -> Tensor:
        return tokens_BKD.reshape(*tokens_BKD.shape[:2], self.num_heads, -1).transpose(1, 2)
