"""The classifier: a CNN on every film, a Transformer on the text, and one query per pathology that attends over both.

Shape letters: B studies, V views, N films of the batch, H and W pixels, h and w feature map, T tokens, P pathologies,
D width, K keys that a query attends over.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.cxr.model.architecture import Architecture, FusionConfig
from components.cxr.model.batch import NUM_SEXES, NUM_VIEWS, Batch
from components.cxr.model.dropout import KeyedDropout, attention, film_keys, key_dropout, keyed
from components.cxr.model.text import text_encoder
from components.cxr.model.vision import VisionEncoder

__all__ = ["CxrModel", "positive_score", "probabilities"]


class CxrModel(nn.Module):
    """Per-pathology logits of a study from whatever of films, text and metadata is there.

    Args:
        architecture: with complete transformers configurations (components/train/build.py completes them).
        num_pathologies: P.
    """

    def __init__(self, architecture: Architecture, *, num_pathologies: int) -> None:
        super().__init__()
        fusion = architecture.fusion
        self.vision = VisionEncoder(architecture.vision)
        self.text = text_encoder(architecture.text)
        width = fusion.width
        self.image_projection = nn.Linear(self.vision.channels, width)
        self.text_projection = nn.Linear(self.text.config.hidden_size, width)
        self.view_embedding = nn.Embedding(NUM_VIEWS, width)
        self.sex_embedding = nn.Embedding(NUM_SEXES, width)
        self.age_projection = nn.Linear(1, width)
        self.null_token = nn.Parameter(torch.zeros(width))
        self.queries_PD = nn.Parameter(torch.empty(num_pathologies, width))
        self.blocks = nn.ModuleList(_QueryBlock(fusion) for _ in range(fusion.num_layers))
        self.norm = nn.LayerNorm(width)
        self.head_weight_PD3 = nn.Parameter(torch.empty(num_pathologies, width, 3))
        self.head_bias_P3 = nn.Parameter(torch.zeros(num_pathologies, 3))
        key_dropout(self)
        _xavier(
            self,
            skip=[m for m, e in ((self.vision, architecture.vision), (self.text, architecture.text)) if e.pretrained],
        )

    def forward(self, batch: Batch, keys_B: Tensor | None = None) -> Tensor:
        """Logits (B, P, 3) in the order negative, uncertain, positive.

        Args:
            keys_B: int64, what dropout depends on while training; without them it draws from the process's stream.
        """
        with keyed(keys_B):
            return self._logits(batch, keys_B)

    def _logits(self, batch: Batch, keys_B: Tensor | None) -> Tensor:
        image_BKD, image_mask_BK = self._image_tokens(batch, keys_B)
        text_BTD = self._text_tokens(batch)
        meta_B2D, meta_mask_B2 = self._meta_tokens(batch)
        num_studies = len(batch)
        keys_BKD = torch.cat([self.null_token.expand(num_studies, 1, -1), image_BKD, text_BTD, meta_B2D], dim=1)
        always_B1 = torch.ones(num_studies, 1, dtype=torch.bool, device=keys_BKD.device)
        mask_BK = torch.cat([always_B1, image_mask_BK, batch.token_mask_BT, meta_mask_B2], dim=1)
        columns_K = _columns(image_BKD.shape[1], text_BTD.shape[1], device=keys_BKD.device)
        answer_BPD = self.queries_PD.expand(num_studies, -1, -1)
        for block in self.blocks:
            answer_BPD = block(answer_BPD, keys_BKD, mask_BK, columns_K)
        logits_BP3 = torch.einsum("bpd,pdk->bpk", self.norm(answer_BPD), self.head_weight_PD3)
        return logits_BP3 + self.head_bias_P3

    def _image_tokens(self, batch: Batch, keys_B: Tensor | None) -> tuple[Tensor, Tensor]:
        """Feature-map cells of every view as tokens (B, V h w, D) with their mask (B, V h w)."""
        num_studies, num_views = batch.film_mask_BV.shape
        present_M = batch.present_N  # a masked film where there is none keeps every parameter in the graph, for DDP
        films_NHW = batch.films_BVHW.flatten(0, 1)[present_M]
        keys_M = film_keys(keys_B, num_views)
        with keyed(None if keys_M is None else keys_M[present_M]):
            map_NChw = self.vision(films_NHW)
        height, width = map_NChw.shape[-2:]
        tokens_NKD = self.image_projection(map_NChw.flatten(2).transpose(1, 2))
        tokens_NKD = tokens_NKD + _grid_position(height, width, tokens_NKD.shape[-1], device=tokens_NKD.device)
        tokens_NKD = tokens_NKD + self.view_embedding(batch.view_BV.flatten()[present_M])[:, None]
        tokens_MKD = tokens_NKD.new_zeros(num_studies * num_views, height * width, tokens_NKD.shape[-1])
        tokens_MKD = tokens_MKD.index_copy(0, present_M, tokens_NKD)
        tokens_BKD = tokens_MKD.reshape(num_studies, num_views * height * width, -1)
        return tokens_BKD, batch.film_mask_BV.repeat_interleave(height * width, dim=1)

    def _text_tokens(self, batch: Batch) -> Tensor:
        """Text tokens (B, T, D); [CLS] is attended inside the encoder even where the text is masked."""
        attended_BT = batch.token_mask_BT.clone()
        attended_BT[:, 0] = True
        hidden_BTC = self.text(input_ids=batch.tokens_BT, attention_mask=attended_BT.long()).last_hidden_state
        text_BTD: Tensor = self.text_projection(hidden_BTC)
        return text_BTD

    def _meta_tokens(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Age and sex tokens (B, 2, D) with their mask (B, 2)."""
        known_B = ~batch.age_B.isnan()
        age_BD = self.age_projection(batch.age_B.nan_to_num(0.0)[:, None] / 100.0)
        return (
            torch.stack([age_BD, self.sex_embedding(batch.sex_B)], dim=1),
            torch.stack([known_B, batch.sex_B > 0], dim=1),
        )


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


def _columns(num_cells: int, num_tokens: int, *, device: torch.device) -> Tensor:
    """A number per key (K,) for dropout: the same whatever the padding of views and text is in a process's share."""
    cells = 4 * torch.arange(num_cells, device=device)
    tokens = 4 * torch.arange(num_tokens, device=device) + 1
    meta = 4 * torch.arange(2, device=device) + 3
    return torch.cat([torch.full((1,), 2, device=device), cells, tokens, meta])


def positive_score(logits_BP3: Tensor) -> Tensor:
    """z1 - z0 (B, P): the logit of p1 / (p0 + p1), the score behind every metric."""
    return logits_BP3[..., 2] - logits_BP3[..., 0]


def probabilities(logits_BP3: Tensor) -> tuple[Tensor, Tensor]:
    """q = p1 / (p0 + p1) and the 3-way probability of uncertain, both (B, P) in [0, 1]."""
    return positive_score(logits_BP3).sigmoid(), logits_BP3.softmax(dim=-1)[..., 1]


def _xavier(model: CxrModel, *, skip: list[nn.Module]) -> None:
    """Xavier uniform (Glorot and Bengio 2010) on every new matrix and kernel; pretrained encoders keep theirs.

    What is neither in an encoder, such as [CLS], positions and gains, starts as the transformers library has it.
    """
    skipped = {id(parameter) for module in skip for parameter in module.parameters()}
    for module in (*model.vision.modules(), *model.text.modules()):
        if not isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)):
            skipped |= {id(parameter) for parameter in module.parameters(recurse=False)}
    for parameter in model.parameters():
        if parameter.dim() >= 2 and id(parameter) not in skipped:
            nn.init.xavier_uniform_(parameter)


def _grid_position(height: int, width: int, dim: int, *, device: torch.device) -> Tensor:
    """Fixed 2-D sine and cosine position code (h w, D), half of the channels a side (Vaswani et al. 2017)."""
    frequency_Q = 1.0 / 100.0 ** (torch.arange(dim // 4, device=device) / (dim // 4))
    angle_hQ = torch.arange(height, device=device)[:, None] * frequency_Q
    angle_wQ = torch.arange(width, device=device)[:, None] * frequency_Q
    rows_hD = torch.cat([angle_hQ.sin(), angle_hQ.cos()], dim=1)
    columns_wD = torch.cat([angle_wQ.sin(), angle_wQ.cos()], dim=1)
    code_hwD = torch.cat([rows_hD[:, None].expand(-1, width, -1), columns_wD[None].expand(height, -1, -1)], dim=2)
    return code_hwD.flatten(0, 1)
