"""The classifier: an encoder of every film, an encoder of the text, and what `fusion.py` makes of both.

Shape letters: B studies, V views, N films of the batch, H and W pixels, h and w feature map, T tokens, P pathologies,
D width, K keys that a query attends over, E experts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.cxr.model.architecture import Architecture
from components.cxr.model.batch import NUM_SEXES, NUM_VIEWS, Batch
from components.cxr.model.dropout import film_keys, key_dropout, keyed
from components.cxr.model.fusion import PathologyQueries, TextExpert
from components.cxr.model.patch_expert import PatchExpert
from components.cxr.model.text import text_encoder
from components.cxr.model.vision import VisionEncoder

__all__ = ["OF_A_PATHOLOGY", "CxrModel", "positive_score", "probabilities"]


_PRIOR, _BIAS = "text_expert.prior_P3", "queries.head_bias_P3"
OF_A_PATHOLOGY = (
    "queries.queries_PD", "queries.head_weight_PD3", _BIAS, "text_expert.weight_PC3", _PRIOR,
    "patch_expert.weight_PF", "patch_expert.bias_P", "patch_expert.usual_PVL", "patch_expert.scale_P",
)  # fmt: skip
"""Weights whose rows are the pathologies."""


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
        self.view_embedding = nn.Embedding(NUM_VIEWS, width)
        self.sex_embedding = nn.Embedding(NUM_SEXES, width)
        self.age_projection = nn.Linear(1, width)
        self.null_token = nn.Parameter(torch.zeros(width))
        self.queries = PathologyQueries(fusion, num_pathologies=num_pathologies)
        self.text_expert, self.text_projection = None, None
        if fusion.kind == "experts":
            self.text_expert = TextExpert(
                self.text.config.hidden_size, num_pathologies=num_pathologies, p=fusion.dropout
            )
        else:
            self.text_projection = nn.Linear(self.text.config.hidden_size, width)
        key_dropout(self)
        _xavier(
            self,
            skip=[m for m, e in ((self.vision, architecture.vision), (self.text, architecture.text)) if e.pretrained],
        )
        patches = architecture.patches  # last, so that the rest learns the same with it and without
        self.patch_expert = None if patches == "none" else PatchExpert(patches, num_pathologies=num_pathologies)

    def train(self, mode: bool = True) -> CxrModel:
        """As in torch, but a frozen encoder stays in evaluation mode."""
        super().train(mode)
        for encoder in (self.vision, self.text):
            if not any(parameter.requires_grad for parameter in encoder.parameters()):
                encoder.eval()
        return self

    def forward(self, batch: Batch, keys_B: Tensor | None = None) -> Tensor:
        """Logits (B, P, 3) in the order negative, uncertain, positive.

        Args:
            keys_B: int64, what dropout depends on while training; without them it draws from the process's stream.
        """
        with keyed(keys_B):
            logits_BP3, text_BP3, _ = self._parts(batch, keys_B)
        if self.text_expert is not None:
            logits_BP3 = logits_BP3 + self.text_expert.scale * text_BP3
        if self.patch_expert is not None and self.patch_expert.counts:
            logits_BP3 = logits_BP3 + F.pad(self.patch_expert(batch.films_BVHW, batch.film_mask_BV)[..., None], (2, 0))
        return logits_BP3

    def experts(self, batch: Batch, keys_B: Tensor | None = None) -> Tensor:
        """Logits (E, B, P, 3) that training draws toward the labels, each expert's alone.

        They are films with metadata, text, and the scale of their sum; under `concat` the one answer. The expert of
        patches is not among them: no gradient changes it.
        """
        return self.experts_and_films(batch, keys_B)[0]

    def experts_and_films(self, batch: Batch, keys_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same, and the mean token of every study's films (B, D), 0 without any; no text has a part in it."""
        with keyed(keys_B):
            films_BP3, text_BP3, mean_BD = self._parts(batch, keys_B)
        if self.text_expert is None:
            return films_BP3[None], mean_BD
        scaled_BP3 = films_BP3.detach() + self.text_expert.scale * text_BP3.detach()
        return torch.stack([films_BP3, text_BP3 + self.text_expert.prior_P3, scaled_BP3]), mean_BD

    def known(self, batch: Batch) -> Tensor:
        """Bool (E, B), the studies that each of the `experts` can say something of."""
        always_B, has_text_B = torch.ones_like(batch.sex_B, dtype=torch.bool), batch.has_text()
        return always_B[None] if self.text_expert is None else torch.stack([always_B, has_text_B, has_text_B])

    @torch.no_grad()
    def start_at(self, prior_P3: Tensor) -> None:
        """Let both experts begin at the log frequency of each class (P, 3); `concat` begins at 0."""
        if self.text_expert is not None:
            self.text_expert.prior_P3.copy_(prior_P3)
            self.queries.head_bias_P3.copy_(prior_P3)

    @torch.no_grad()
    def continue_from(self, other: CxrModel, shared: Sequence[tuple[int, int]]) -> None:
        """Take over the weights of a network of the same architecture.

        What belongs to one pathology is taken for the shared ones, given by their number here and there. Both experts
        are then moved from the class shares that the other began at to those that this one begins at.
        """
        own, theirs = self.state_dict(), other.state_dict()
        mine, yours = (
            (torch.tensor(numbers, dtype=torch.long) for numbers in zip(*shared, strict=True)) if shared else ([], [])
        )
        for name, value in theirs.items():
            if name not in OF_A_PATHOLOGY:
                own[name].copy_(value)
            elif name != _PRIOR:
                own[name][mine] = value[yours]
        if self.text_expert is not None and shared:
            own[_BIAS][mine] += own[_PRIOR][mine] - theirs[_PRIOR][yours]

    def _parts(self, batch: Batch, keys_B: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, P, 3) from all tokens but a text expert's, and that expert's log-odds ratios, else zeros.

        Third the mean token of the films (B, D).
        """
        image_BKD, image_mask_BK = self._image_tokens(batch, keys_B)
        meta_B2D, meta_mask_B2 = self._meta_tokens(batch)
        num_studies, device = len(batch), image_BKD.device
        null_B1D, always_B1 = self.null_token.expand(num_studies, 1, -1), torch.ones_like(image_mask_BK[:, :1])
        keys_BKD, mask_BK = [null_B1D, image_BKD, meta_B2D], [always_B1, image_mask_BK, meta_mask_B2]
        hidden_BTC, num_tokens = self._hidden_text(batch), 0
        if self.text_projection is not None:
            keys_BKD.insert(2, self.text_projection(hidden_BTC))
            mask_BK.insert(2, batch.token_mask_BT)
            num_tokens = hidden_BTC.shape[1]
        columns_K = _columns(image_BKD.shape[1], num_tokens, device=device)
        films_BP3 = self.queries(torch.cat(keys_BKD, dim=1), torch.cat(mask_BK, dim=1), columns_K)
        num_cells_B1 = image_mask_BK.sum(dim=1, keepdim=True).clamp(min=1)
        mean_BD = (image_BKD * image_mask_BK[..., None]).sum(dim=1) / num_cells_B1
        if self.text_expert is None:
            return films_BP3, torch.zeros_like(films_BP3), mean_BD
        return films_BP3, self.text_expert(hidden_BTC, batch.token_mask_BT), mean_BD

    def _image_tokens(self, batch: Batch, keys_B: Tensor | None) -> tuple[Tensor, Tensor]:
        """Feature-map cells of every view as tokens (B, V h w, D) with their mask (B, V h w)."""
        num_studies, num_views = batch.film_mask_BV.shape
        present_M = batch.present_N  # a masked film where there is none keeps every parameter in the graph, for DDP
        if batch.map_BVChw is not None:
            map_NChw = batch.map_BVChw.flatten(0, 1)[present_M]
        else:
            keys_M = film_keys(keys_B, num_views)
            with keyed(None if keys_M is None else keys_M[present_M]):
                map_NChw = self.vision(batch.films_BVHW.flatten(0, 1)[present_M])
        height, width = map_NChw.shape[-2:]
        tokens_NKD = self.image_projection(map_NChw.flatten(2).transpose(1, 2))
        tokens_NKD = tokens_NKD + _grid_position(height, width, tokens_NKD.shape[-1], device=tokens_NKD.device)
        tokens_NKD = tokens_NKD + self.view_embedding(batch.view_BV.flatten()[present_M])[:, None]
        tokens_MKD = tokens_NKD.new_zeros(num_studies * num_views, height * width, tokens_NKD.shape[-1])
        tokens_MKD = tokens_MKD.index_copy(0, present_M, tokens_NKD)
        tokens_BKD = tokens_MKD.reshape(num_studies, num_views * height * width, -1)
        return tokens_BKD, batch.film_mask_BV.repeat_interleave(height * width, dim=1)

    def _hidden_text(self, batch: Batch) -> Tensor:
        """The text encoder's output (B, T, C); [CLS] is attended inside it even where the text is masked."""
        attended_BT = batch.token_mask_BT.clone()
        attended_BT[:, 0] = True
        hidden_BTC: Tensor = self.text(input_ids=batch.tokens_BT, attention_mask=attended_BT.long()).last_hidden_state
        return hidden_BTC

    def _meta_tokens(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Age and sex tokens (B, 2, D) with their mask (B, 2)."""
        known_B = ~batch.age_B.isnan()
        age_BD = self.age_projection(batch.age_B.nan_to_num(0.0)[:, None] / 100.0)
        return (
            torch.stack([age_BD, self.sex_embedding(batch.sex_B)], dim=1),
            torch.stack([known_B, batch.sex_B > 0], dim=1),
        )


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

    Other weights of an encoder ([CLS], positions, gains) start as the transformers library has them.
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
