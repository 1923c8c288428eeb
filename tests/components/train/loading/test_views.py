from __future__ import annotations

import torch

from components.train.config import TrainConfig
from components.train.loading.augment import augment, drop_modalities
from components.train.loading.views import student_view, teacher_view
from tests.components.train.loading.test_augment import make_batch

HOST = torch.device("cpu")
STUDIES = list(range(20, 60))


def test_the_student_sees_strong_films_without_some_modalities(tiny_config: TrainConfig) -> None:
    batch = make_batch(40)
    keyed = {"studies": STUDIES, "step": 3, "seed": tiny_config.seed}
    seen = student_view(batch, on_device=batch.to(HOST), studies=STUDIES, step=3, config=tiny_config)
    strong = augment(batch, **keyed, config=tiny_config.augment, strength="strong")
    kept = drop_modalities(batch, **keyed, config=tiny_config.modality_dropout)
    assert torch.equal(seen.token_mask_BT, kept.token_mask_BT)
    assert torch.equal(seen.film_mask_BV, kept.film_mask_BV)
    assert seen.has_text().sum() < 40
    shown_BV = seen.film_mask_BV
    assert torch.equal(seen.films_BVHW[shown_BV], strong.films_BVHW[shown_BV])


def test_the_teacher_sees_weak_films_and_every_modality(tiny_config: TrainConfig) -> None:
    batch = make_batch(40)
    seen = teacher_view(batch, studies=STUDIES, step=3, config=tiny_config)
    weak = augment(batch, studies=STUDIES, step=3, seed=tiny_config.seed, config=tiny_config.augment, strength="weak")
    assert torch.equal(seen.films_BVHW, weak.films_BVHW)
    assert torch.equal(seen.token_mask_BT, batch.token_mask_BT)
    assert torch.equal(seen.film_mask_BV, batch.film_mask_BV)
    student = student_view(batch, on_device=batch.to(HOST), studies=STUDIES, step=3, config=tiny_config)
    assert not torch.equal(seen.films_BVHW, student.films_BVHW)


def test_without_augmentation_both_see_the_films_themselves(tiny_config: TrainConfig) -> None:
    batch = make_batch(40)
    config = TrainConfig.parse(tiny_config.model_dump(mode="json") | {"augment": "none"}, where="train")
    student = student_view(batch, on_device=batch.to(HOST), studies=STUDIES, step=3, config=config)
    teacher = teacher_view(batch, studies=STUDIES, step=3, config=config)
    assert torch.equal(student.films_BVHW, batch.films_BVHW)
    assert torch.equal(teacher.films_BVHW, batch.films_BVHW)
    assert student.has_text().sum() < 40, "modalities still fall"
