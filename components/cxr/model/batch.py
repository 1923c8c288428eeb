"""What the model sees: studies as arrays, and batches of them as padded, masked tensors.

Shape letters here and in model.py: B studies, V views, H and W pixels, T text tokens, P pathologies, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

__all__ = ["NUM_SEXES", "NUM_VIEWS", "SEX_INDEX", "VIEW_INDEX", "Batch", "Study", "collate", "has_metadata"]

VIEW_INDEX = {"PA": 1, "AP": 2, "LATERAL": 3, "LL": 3}
"""DICOM (0018,5101) to embedding index; 0 is unknown or masked."""
NUM_VIEWS = 4

SEX_INDEX = {"F": 1, "M": 2}
NUM_SEXES = 3


@dataclass(frozen=True, kw_only=True)
class Study:
    """The input of one study; anything but one of films and text may be missing."""

    films: Sequence[npt.NDArray[np.uint8]]
    """H x W each, made with the model's pixel preset."""
    view_positions: Sequence[str | None]
    text: str
    """Pre-read text; empty when absent."""
    age_years: float | None
    sex: str | None


def has_metadata(study: Study) -> bool:
    """Whether there is an age, a sex or a view that the model knows."""
    known_view = any(view in VIEW_INDEX for view in study.view_positions)
    return study.age_years is not None or study.sex in SEX_INDEX or known_view


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Padded studies; what is absent or dropped is masked, never zero-filled into the answer."""

    films_BVHW: Tensor
    """uint8."""
    film_mask_BV: Tensor
    """bool, True for a film that is there."""
    view_BV: Tensor
    """int64 index into VIEW_INDEX's values, 0 unknown."""
    tokens_BT: Tensor
    """int64 token ids; every row starts with the [CLS] token."""
    token_mask_BT: Tensor
    """bool, True for a token of a text that is there."""
    age_B: Tensor
    """float32 years, NaN when absent."""
    sex_B: Tensor
    """int64 index into SEX_INDEX's values, 0 unknown."""
    map_BVChw: Tensor | None = None
    """What an encoder that never changes makes of each film, where training keeps it: it is not run again."""
    present_N: Tensor = None  # type: ignore[assignment]
    """int64 places among the B V of the films that are there, or 0 where none is; from `film_mask_BV` unless given.
    On the host it costs nothing; a GPU would have the host wait until it knows their number."""

    def __post_init__(self) -> None:
        if self.present_N is None:
            found_N = self.film_mask_BV.flatten().nonzero().squeeze(1)
            object.__setattr__(self, "present_N", found_N if len(found_N) else found_N.new_zeros(1))

    def __len__(self) -> int:
        return len(self.age_B)

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        return replace(self, **{name: value.to(device, non_blocking=True) for name, value in self._tensors()})

    def rows(self, part: slice) -> Batch:
        """The batch of some of its studies, padded as they are."""
        chosen = {name: value[part] for name, value in self._tensors() if name != "present_N"}
        return Batch(**chosen)

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, from which a GPU copies while the host goes on."""
        return replace(self, **{name: value.pin_memory() for name, value in self._tensors()})

    def _tensors(self) -> list[tuple[str, Tensor]]:
        return [(name, value) for name, value in vars(self).items() if value is not None]

    def keep(
        self, *, image_B: Tensor | bool = True, text_B: Tensor | bool = True, meta_B: Tensor | bool = True
    ) -> Batch:
        """Mask whole modalities by study; the view falls with the metadata.

        Args:
            image_B, text_B, meta_B: bool tensors of length B (or one bool for all), True to keep.
        """
        image_B, text_B, meta_B = (
            torch.as_tensor(keep, device=self.age_B.device).expand(len(self)) for keep in (image_B, text_B, meta_B)
        )
        return replace(
            self,
            film_mask_BV=self.film_mask_BV & image_B[:, None],
            present_N=None,  # type: ignore[arg-type]
            view_BV=self.view_BV * meta_B[:, None],
            token_mask_BT=self.token_mask_BT & text_B[:, None],
            age_B=self.age_B.masked_fill(~meta_B, torch.nan),
            sex_B=self.sex_B * meta_B,
        )

    def has_text(self) -> Tensor:
        """Bool by study, shape (B,)."""
        return self.token_mask_BT.any(dim=1)


def collate(studies: Sequence[Study], *, tokenizer: PreTrainedTokenizerBase, max_tokens: int, size: int) -> Batch:
    """Pad studies to the most views and the longest text among them.

    Args:
        max_tokens: longer texts are cut.
        size: side of the square films, for studies without any.
    """
    num_views = max(1, *(len(study.films) for study in studies))
    films_BVHW = np.zeros((len(studies), num_views, size, size), dtype=np.uint8)
    film_mask_BV = np.zeros((len(studies), num_views), dtype=bool)
    view_BV = np.zeros((len(studies), num_views), dtype=np.int64)
    for b, study in enumerate(studies):
        for v, (film, view_position) in enumerate(zip(study.films, study.view_positions, strict=True)):
            films_BVHW[b, v] = film
            film_mask_BV[b, v] = True
            view_BV[b, v] = VIEW_INDEX.get(view_position or "", 0)
    encoded = tokenizer(
        [study.text for study in studies],
        padding=True,
        padding_side="right",
        truncation=True,
        max_length=max_tokens,
        return_tensors="pt",
    )
    has_text_B = torch.tensor([bool(study.text.strip()) for study in studies])
    ages = [float("nan") if study.age_years is None else study.age_years for study in studies]
    return Batch(
        films_BVHW=torch.from_numpy(films_BVHW),
        film_mask_BV=torch.from_numpy(film_mask_BV),
        view_BV=torch.from_numpy(view_BV),
        tokens_BT=encoded["input_ids"],
        token_mask_BT=encoded["attention_mask"].bool() & has_text_B[:, None],
        age_B=torch.tensor(ages, dtype=torch.float32),
        sex_B=torch.tensor([SEX_INDEX.get(study.sex or "", 0) for study in studies]),
    )
