"""Batches straight from a data set's columns and mapped pixels; each equals `collate` of the same studies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from components.cxr.model.batch import Batch
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.feature_maps import FeatureMaps
from components.cxr.model.tokens import tokenized

__all__ = ["StudyBatches"]


class StudyBatches(Dataset[Batch]):
    """Batches by the indices of their studies.

    A film is copied once, from the page cache into the batch: no array per film, no text is tokenized twice.

    Args:
        max_tokens: longer texts are cut.
        maps: of the same studies' films, where an encoder is not to be run.
    """

    def __init__(
        self,
        studies: StudyDataset,
        *,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int,
        maps: FeatureMaps | None = None,
    ) -> None:
        self.studies, self._maps = studies, maps
        texts = studies.texts()
        self._tokens = tokenized(texts, tokenizer=tokenizer, max_tokens=max_tokens)
        self._padding = tokenizer.pad_token_id
        self._has_text_S = np.array([bool(text.strip()) for text in texts], dtype=bool)

    def __getitem__(self, studies: Sequence[int]) -> Batch:
        data, chosen_B = self.studies, np.asarray(studies, dtype=np.int64)
        first_B = data.first_film_S[chosen_B]
        count_B = data.first_film_S[chosen_B + 1] - first_B
        place_V = np.arange(max(1, count_B.max(initial=0)))
        there_BV = place_V < count_B[:, None]
        film_BV = np.where(there_BV, first_B[:, None] + place_V, 0)
        token_BT, token_there_BT = self._tokens.padded(studies, padding=self._padding)
        return Batch(
            films_BVHW=data.films(studies, num_views=len(place_V)),
            film_mask_BV=torch.from_numpy(there_BV),
            view_BV=torch.from_numpy(np.where(there_BV, data.view_F[film_BV], 0).astype(np.int64)),
            tokens_BT=torch.from_numpy(token_BT),
            token_mask_BT=torch.from_numpy(token_there_BT & self._has_text_S[chosen_B][:, None]),
            age_B=torch.from_numpy(data.age_S[chosen_B]),
            sex_B=torch.from_numpy(data.sex_S[chosen_B].astype(np.int64)),
            map_BVChw=None if self._maps is None else self._maps.of(studies, num_views=len(place_V)),
        )
