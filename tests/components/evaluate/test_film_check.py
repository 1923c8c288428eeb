"""Chest films pass, other pictures do not; on the films of the synthetic generator."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from benchmarks.foreign_pictures import foreign_sets
from components.cxr.errors import UserError
from components.cxr.film_check import FILM_CHECK, FilmCounts, load_film_check
from components.cxr.storage.storage import open_storage
from components.evaluate import film_check as fitting
from components.evaluate.film_check import film_check, fit_axes, fit_film_check
from components.evaluate.foreign_pictures import foreign_pictures
from pipeline.synthetic.dataset import draw_data
from pipeline.synthetic.films.films import render_film
from pipeline.synthetic.presets import Settings

SIZE = 64


@pytest.fixture(scope="module")
def films():
    """Films of 240 studies, patient by patient."""
    drawn = draw_data(240, settings=Settings(seed=3, preset="medium", prevalence="floor"))
    studies = [reading.study for patient in drawn.readings for reading in patient]
    return np.stack([_film(study, image) for study in studies for image in range(len(study.views))])


@pytest.fixture(scope="module")
def parts(films):
    return np.split(films, [len(films) - 160, len(films) - 90])


@pytest.fixture(scope="module")
def check(parts):
    return fit_film_check(*parts)


def _film(study, image):
    film = render_film(study, image, size=SIZE)
    low = film.window_center - film.window_width / 2
    gray = np.clip((film.pixels - low) * (255 / film.window_width), 0, 255).astype(np.uint8)
    square = np.zeros((SIZE, SIZE), np.uint8)
    top, left = ((SIZE - side) // 2 for side in gray.shape)
    square[top : top + gray.shape[0], left : left + gray.shape[1]] = gray
    return square


def test_other_pictures_are_refused_and_films_are_not(check, parts):
    assert (check.score(parts[2]) > 0).mean() <= 0.05
    shares = {kind: (check.score(pictures) > 0).mean() for kind, pictures in foreign_sets(parts[2]).items()}
    assert shares.pop("mirrored") < 0.3
    assert min(shares.values()) >= 0.9, shares
    assert np.mean(list(shares.values())) >= 0.97


def test_the_limit_is_that_of_films_it_was_not_fitted_to(check, parts):
    train, validate, test = parts
    held_out = np.concatenate([validate, train[len(train) - len(train) // 4 :]])
    refused = (check.score(held_out) > 0).sum()
    assert refused == np.floor(0.01 * (len(held_out) - 1))
    assert check.validation == FilmCounts(len(validate), int((check.score(validate) > 0).sum()))
    assert check.test == FilmCounts(len(test), int((check.score(test) > 0).sum()))


def test_brightness_contrast_and_size_do_not_count(check, parts):
    films = parts[2][:40]
    darker = (40 + 0.5 * films).astype(np.uint8)
    larger = np.stack([cv2.resize(film, (256, 256), interpolation=cv2.INTER_LINEAR) for film in films])
    for changed in (darker, larger):
        np.testing.assert_allclose(check.score(changed), check.score(films), atol=0.6)
    assert np.std(check.score(films)) > 0.5


def test_a_film_is_scored_alone(check, parts):
    together = check.score(parts[2][:5])
    np.testing.assert_allclose([check.score(parts[2][i : i + 1])[0] for i in range(5)], together, atol=1e-9)
    assert check.score([]).shape == (0,)


def test_the_axes_are_of_several_films_each_and_orthonormal(films):
    axes = fit_axes(films[:100])
    assert len(axes.axis_KD) == 100 // 8
    np.testing.assert_allclose(axes.axis_KD @ axes.axis_KD.T, np.eye(12), atol=1e-9)
    assert axes.features(films[:3]).shape == (3, 2 * 12 + 2)


def test_the_same_films_give_the_same_foreign_pictures(films):
    first, second = (foreign_pictures(films[:20], seed=1) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape[1:] == films.shape[1:]
    assert not np.array_equal(first, foreign_pictures(films[:20], seed=2))


def test_what_is_written_is_what_is_read(check, parts, tmp_path):
    (tmp_path / FILM_CHECK).write_bytes(check.save())
    found = load_film_check(open_storage(str(tmp_path)))
    assert found is not None
    np.testing.assert_array_equal(found.score(parts[2]), check.score(parts[2]))
    assert (found.validation, found.test) == (check.validation, check.test)


def test_another_version_and_a_damaged_file_are_refused(check, tmp_path, monkeypatch):
    path = tmp_path / FILM_CHECK
    path.write_bytes(check.save()[:-9])
    with pytest.raises(UserError, match="damaged film check"):
        load_film_check(open_storage(str(tmp_path)))
    monkeypatch.setattr("components.cxr.film_check.SCHEMA_VERSION", 2)
    path.write_bytes(check.save())
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"another version.*found 2, expected 1"):
        load_film_check(open_storage(str(tmp_path)))


def test_a_small_data_set_has_no_check(tiny_data):
    assert film_check(tiny_data) is None


def test_a_data_set_has_a_check_of_its_own_films(tiny_data, monkeypatch):
    monkeypatch.setattr(fitting, "LEAST_FILMS", 50)
    monkeypatch.setattr(fitting, "LEAST_VALIDATION", 20)
    found = film_check(tiny_data)
    assert found is not None
    assert found.test.films == sum(shard.rows for shard in tiny_data.manifest.shards_of("test"))
    assert replace(found, test=found.validation) != found
