import numpy as np
import pytest
import torch

from components.cxr.model.batch import Batch
from components.train.config import AugmentConfig, ModalityDropout
from components.train.loading.augment import augment, drop_modalities, view_keys


def make_batch(num_studies: int, *, texts: list[bool] | None = None) -> Batch:
    films_BVHW = np.random.default_rng(3).integers(0, 256, (num_studies, 2, 32, 32), dtype=np.uint8)
    film_mask_BV = torch.ones(num_studies, 2, dtype=torch.bool)
    film_mask_BV[0, 1] = False
    has_text_B = torch.tensor(texts if texts is not None else [True] * num_studies)
    return Batch(
        films_BVHW=torch.from_numpy(films_BVHW),
        film_mask_BV=film_mask_BV,
        view_BV=torch.ones(num_studies, 2, dtype=torch.int64),
        tokens_BT=torch.ones(num_studies, 4, dtype=torch.int64),
        token_mask_BT=has_text_B[:, None].expand(-1, 4).clone(),
        age_B=torch.full((num_studies,), 60.0),
        sex_B=torch.ones(num_studies, dtype=torch.int64),
    )


def test_a_view_depends_on_seed_step_and_study_but_not_on_its_neighbors() -> None:
    batch = make_batch(4)
    options = {"config": AugmentConfig()}
    together = augment(batch, studies=[7, 8, 9, 10], step=1, seed=0, **options)
    alone = batch.rows(slice(2, 3))
    assert torch.equal(together.films_BVHW[2:3], augment(alone, studies=[9], step=1, seed=0, **options).films_BVHW)
    for other in ({"step": 2, "seed": 0}, {"step": 1, "seed": 1}):
        assert not torch.equal(
            together.films_BVHW, augment(batch, studies=[7, 8, 9, 10], **other, **options).films_BVHW
        )
    assert torch.equal(together.films_BVHW[0, 1], batch.films_BVHW[0, 1])  # padding stays as it is


def test_zero_strength_is_the_identity() -> None:
    batch = make_batch(3)
    names = ("rotation_degrees", "translation", "scale", "contrast", "brightness", "noise", "erase")
    still = AugmentConfig(**dict.fromkeys(names, 0.0))
    view = augment(batch, studies=[0, 1, 2], step=0, seed=0, config=still)
    difference = view.films_BVHW.int() - batch.films_BVHW.int()
    assert difference.abs().max() <= 1


def test_films_move_as_far_as_configured() -> None:
    """A quarter of a side either way: what comes in from outside is black."""
    num_studies, size = 300, 64
    config = AugmentConfig.parse("none", where="augment").model_copy(update={"translation": 0.25})
    batch = gray_batch(num_studies, size=size)
    seen_NHW = augment(batch, studies=range(num_studies), step=0, seed=0, config=config).films_BVHW[:, 0] > 100
    for axis in (1, 2):
        lost_N = 1.0 - seen_NHW.any(dim=3 - axis).double().mean(dim=1)
        assert lost_N.max() == pytest.approx(0.25, abs=0.03)
        assert lost_N.mean() == pytest.approx(0.125, abs=0.02)


def test_contrast_changes_around_middle_gray() -> None:
    config = AugmentConfig.parse("none", where="augment").model_copy(update={"contrast": 0.5})
    gray = gray_batch(50)
    found = augment(gray, studies=range(50), step=0, seed=0, config=config).films_BVHW.int()
    assert (found - 128).abs().max() <= 1, "nothing but middle gray stays as it is"
    gray.films_BVHW.fill_(228)
    change_N = augment(gray, studies=range(50), step=0, seed=0, config=config).films_BVHW.double().mean(dim=(1, 2, 3))
    assert change_N.min() == pytest.approx(128 + 50, abs=4)
    assert change_N.max() == pytest.approx(255, abs=1)


def test_every_film_of_a_study_is_changed_its_own_way() -> None:
    batch = make_batch(3)
    batch.films_BVHW[:, 1] = batch.films_BVHW[:, 0]
    view = augment(batch, studies=[4, 5, 6], step=0, seed=0, config=AugmentConfig()).films_BVHW
    for s in (1, 2):
        assert (view[s, 0].int() - view[s, 1].int()).abs().double().mean() > 10


def test_what_falls_does_not_hang_on_how_films_are_changed() -> None:
    one, other = (view_keys(range(8), seed=0, step=3, stream=stream) for stream in ("view", "dropout"))
    assert not set(one.tolist()) & set(other.tolist())


def test_films_are_never_mirrored() -> None:
    batch = make_batch(1)
    left_bright = torch.zeros(1, 2, 32, 32, dtype=torch.uint8)
    left_bright[..., 4:28, 2:12] = 200
    batch = Batch(**{**vars(batch), "films_BVHW": left_bright})
    for step in range(50):
        view = augment(batch, studies=[0], step=step, seed=0, config=AugmentConfig()).films_BVHW
        assert view[0, 0, :, :16].float().mean() > view[0, 0, :, 16:].float().mean()


def test_modalities_fall_as_often_as_configured() -> None:
    config = ModalityDropout(image=0.2, text=0.3, meta=0.4)
    seen = drop_modalities(make_batch(4000), studies=range(4000), step=0, seed=0, config=config)
    film_B, text_B, meta_B = seen.film_mask_BV.any(dim=1), seen.has_text(), ~seen.age_B.isnan()
    assert 1 - film_B.float().mean() == pytest.approx(0.2, abs=0.02)
    assert 1 - text_B.float().mean() == pytest.approx(0.3 * 0.8, abs=0.02), "text stays where films fall"
    assert 1 - meta_B.float().mean() == pytest.approx(0.4, abs=0.025)


def test_modality_dropout_never_takes_film_and_text_at_once() -> None:
    num_studies = 400
    texts = [i % 2 == 0 for i in range(num_studies)]
    config = ModalityDropout(image=0.9, text=0.9, meta=0.5)
    dropped = drop_modalities(
        make_batch(num_studies, texts=texts), studies=range(num_studies), step=0, seed=0, config=config
    )
    film_B, text_B = dropped.film_mask_BV.any(dim=1), dropped.has_text()
    assert (film_B | text_B).all()
    assert film_B[1::2].all(), "a study without text keeps its films"
    assert 0.02 < film_B[::2].float().mean() < 0.2
    assert (~text_B[::2] | ~film_B[::2]).float().mean() > 0.7
    meta_B = ~dropped.age_B.isnan()
    assert 0.4 < meta_B.float().mean() < 0.6
    assert torch.equal(meta_B, dropped.sex_B > 0)
    assert torch.equal(meta_B, dropped.view_BV[:, 0] > 0), "the view falls with the metadata"


def gray_batch(num_studies: int, *, size: int = 64) -> Batch:
    films_BVHW = torch.full((num_studies, 1, size, size), 128, dtype=torch.uint8)
    small = make_batch(num_studies)
    return Batch(
        **{
            **{name: value for name, value in vars(small).items() if name != "present_N"},
            "films_BVHW": films_BVHW,
            "film_mask_BV": torch.ones(num_studies, 1, dtype=torch.bool),
            "view_BV": small.view_BV[:, :1],
        }
    )


def test_noise_has_the_configured_strength_and_no_pattern() -> None:
    names = ("rotation_degrees", "translation", "scale", "contrast", "brightness", "erase")
    config = AugmentConfig(**dict.fromkeys(names, 0.0), noise=0.1)
    num_studies = 60
    view = augment(gray_batch(num_studies), studies=range(num_studies), step=0, seed=0, config=config)
    noise_NHW = view.films_BVHW[:, 0].double() - 128
    deviation_N = noise_NHW.std(dim=(1, 2)) / 255
    assert deviation_N.max() == pytest.approx(0.1, abs=0.006)
    assert deviation_N.mean() == pytest.approx(0.05, abs=0.012)
    assert noise_NHW.mean().abs() < 0.2
    flat_NM = noise_NHW.flatten(1)
    flat_NM = flat_NM[deviation_N > 0.01]
    correlation_NN = torch.corrcoef(flat_NM).fill_diagonal_(0.0)
    assert correlation_NN.abs().max() < 6 / flat_NM.shape[1] ** 0.5, "films share no noise"
    right, down = (torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] for a, b in (
        (noise_NHW[:, :, 1:], noise_NHW[:, :, :-1]), (noise_NHW[:, 1:], noise_NHW[:, :-1])
    ))  # fmt: skip
    assert right.abs() < 0.01
    assert down.abs() < 0.01


def test_an_erased_part_is_one_rectangle_of_any_size_up_to_the_largest() -> None:
    names = ("rotation_degrees", "translation", "scale", "contrast", "brightness", "noise")
    config = AugmentConfig(**dict.fromkeys(names, 0.0), erase=0.5)
    num_studies, size = 300, 64
    batch = gray_batch(num_studies, size=size)
    batch.films_BVHW.fill_(255)
    view = augment(batch, studies=range(num_studies), step=0, seed=0, config=config)
    erased_NHW = view.films_BVHW[:, 0] != 255
    rows_NH, columns_NW = erased_NHW.any(dim=2), erased_NHW.any(dim=1)
    assert torch.equal(erased_NHW, rows_NH[:, :, None] & columns_NW[:, None, :])
    for side_NS in (rows_NH, columns_NW):
        length_N = side_NS.sum(dim=1)
        assert (side_NS.int().diff(dim=1) == 1).sum(dim=1).max() <= 1, "in one piece"
        assert length_N.max() == 31
        assert length_N.double().mean() == pytest.approx(15.5, abs=2.0)
        ends = side_NS.any(dim=0)
        assert ends[0]
        assert ends[-1], "it reaches either border"
    assert (view.films_BVHW[:, 0][erased_NHW] == 128).all()
