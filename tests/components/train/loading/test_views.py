from __future__ import annotations

import torch

from components.train.config import TrainConfig
from components.train.loading.augment import augment, drop_modalities
from components.train.loading.views import student_view
from tests.components.train.loading.test_augment import make_batch

HOST = torch.device("cpu")
STUDIES = list(range(20, 60))


def test_a_view_has_changed_films_and_lacks_some_modalities(tiny_config: TrainConfig) -> None:
    batch = make_batch(40)
    keyed = {"studies": STUDIES, "step": 3, "seed": tiny_config.seed}
    seen = student_view(batch, on_device=batch.to(HOST), studies=STUDIES, step=3, config=tiny_config)
    changed = augment(batch, **keyed, config=tiny_config.augment)
    kept = drop_modalities(batch, **keyed, config=tiny_config.modality_dropout)
    assert torch.equal(seen.token_mask_BT, kept.token_mask_BT)
    assert torch.equal(seen.film_mask_BV, kept.film_mask_BV)
    assert seen.has_text().sum() < 40
    shown_BV = seen.film_mask_BV
    assert torch.equal(seen.films_BVHW[shown_BV], changed.films_BVHW[shown_BV])


def test_without_augmentation_the_films_themselves_are_seen(tiny_config: TrainConfig) -> None:
    batch = make_batch(40)
    config = TrainConfig.parse(tiny_config.model_dump(mode="json") | {"augment": "none"}, where="train")
    seen = student_view(batch, on_device=batch.to(HOST), studies=STUDIES, step=3, config=config)
    assert torch.equal(seen.films_BVHW, batch.films_BVHW)
    assert seen.has_text().sum() < 40, "modalities still fall"
