"""The pictures that the check of films is measured on."""

import numpy as np

from benchmarks.foreign_pictures import foreign_sets, limit_of, pydicom_films, true_films_refused
from components.cxr.model.dataset import StudyDataset
from components.cxr.text.text import TextConfig
from tests.components.conftest import tiny_data

__all__ = ["tiny_data"]


def test_there_are_pictures_of_every_kind_of_the_films_size():
    films = np.random.default_rng(0).integers(0, 256, (4, 32, 32)).astype(np.uint8)
    sets = foreign_sets(films)
    assert all(pictures.shape[1:] == (32, 32) and pictures.dtype == np.uint8 for pictures in sets.values())
    assert len(sets["photographs"]) >= 25
    assert len(sets["CT, MR, ultrasound, other DICOM"]) >= 30
    np.testing.assert_array_equal(sets["mirrored"][:, :, ::-1], films)
    np.testing.assert_array_equal(sets["upside down"][:, ::-1], films)


def test_a_picture_of_pydicom_counts_once_and_a_chest_film_never():
    pictures = list(pydicom_films(32))
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)


def test_the_limit_lets_99_of_100_validation_films_pass():
    score = np.arange(200.0)
    assert (score > limit_of(lambda _: score, np.zeros((200, 1, 1), np.uint8))).sum() == 1


def test_every_film_is_scored_by_a_check_of_other_patients(tiny_data):
    studies = StudyDataset(tiny_data, splits=["train", "validate", "test"], text=TextConfig())
    refused, number = true_films_refused(studies)
    assert number == studies.first_film_S[-1]
    assert 0 <= refused < 0.2 * number
