"""Places of findings, and maps of a small model that finds blobs where they are."""

import numpy as np
import pytest

from benchmarks.heatmaps import METHODS, Pointed, draw, hit, place_of, report
from components.cxr.bundle import load_bundle
from components.cxr.labels import PATHOLOGIES
from tests.components.conftest import fitted_bundle, tiny_data

__all__ = ["fitted_bundle", "tiny_data"]


def test_a_place_is_where_the_film_changes_and_a_little_around_it():
    without = np.full((128, 128), 1000, np.uint16)
    film = without.copy()
    film[40:60, 70:90] += 500
    film[45:55, 75:85] -= 500  # a ring: its inside belongs to it
    place = place_of(film, without)
    assert place[50, 80]
    assert place[38, 80]
    assert not place[30, 80]
    assert place.sum() < 900
    assert place_of(without, without) is None


def test_a_map_hits_by_its_highest_point():
    place = np.zeros((4, 4), bool)
    place[1, 2] = True
    heat = np.zeros((4, 4))
    heat[1, 2] = 1.0
    assert hit(heat, place)
    heat[3, 3] = 2.0
    assert not hit(heat, place)


def test_films_show_what_they_are_drawn_for():
    found = draw(30, size=64, most=2, pathologies=PATHOLOGIES)
    assert len({each.pathology for each in found}) >= 6
    for each in found:
        assert each.film_HW.shape == each.place_HW.shape == (64, 64)
        assert 0 < each.place_HW.sum() < 0.6 * 64 * 64
        assert each.view_position in ("PA", "AP")


@pytest.fixture(scope="module")
def blobs(fitted_bundle):
    """Films with a blob of Edema at the top left, or of Pleural Effusion in the middle; the same model for all."""
    rng = np.random.default_rng(2)
    found = []
    for i in range(24):
        name, row = (("Edema", 5), ("Pleural Effusion", 19))[i % 2]
        film, place = rng.normal(90, 10, (32, 32)), np.zeros((32, 32), bool)
        film[row : row + 8, row : row + 8] += 50
        place[row - 2 : row + 10, row - 2 : row + 10] = True
        found.append(Pointed(name, np.clip(film, 0, 255).astype(np.uint8), "PA", place, i))
    return load_bundle(fitted_bundle), found


@pytest.mark.parametrize("method", ["patches", "occlusion", "gradient_x"])
def test_a_map_points_at_what_the_model_finds(method, blobs):
    bundle, found = blobs
    names = bundle.info.pathologies
    maps = [METHODS[method](bundle, each, names.index(each.pathology)) for each in found]
    assert np.mean([hit(heat, each.place_HW) for heat, each in zip(maps, found, strict=True)]) >= 0.7
    other = {"Edema": "Pleural Effusion", "Pleural Effusion": "Edema"}
    wrong = [METHODS[method](bundle, each, names.index(other[each.pathology])) for each in found]
    there = [(right - heat)[each.place_HW].mean() for right, heat, each in zip(maps, wrong, found, strict=True)]
    assert np.mean(np.array(there) > 0) >= 0.9  # the other finding is said to be there less


@pytest.mark.parametrize("method", METHODS)
def test_every_way_gives_a_map_of_the_films_size(method, blobs):
    bundle, found = blobs
    heat = METHODS[method](bundle, found[0], 0)
    assert heat.shape == (32, 32)
    assert np.isfinite(heat).all()
    assert np.ptp(heat) > 0


def test_a_map_that_is_the_same_for_every_film_gains_nothing(blobs, capsys):
    _, found = blobs
    rng = np.random.default_rng(0)
    fixed = rng.random((32, 32))
    perfect = [each.place_HW.astype(float) + 0.01 * rng.random((32, 32)) for each in found]
    gains = report(found, {"perfect": perfect, "fixed": [fixed] * len(found)})
    assert gains["fixed_gain"] == 0
    told = capsys.readouterr().out
    by_finding = told.partition("perfect less its own average, by finding")[2]
    assert [line.split("  ")[0] for line in by_finding.splitlines()[1:]] == ["Edema", "Pleural Effusion"]
