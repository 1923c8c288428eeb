"""A picture that is no chest film is told from films, in the answer, the metrics and the model that is deployed."""

from pathlib import Path

import numpy as np
import pytest

from components.cxr.errors import UserError
from components.cxr.film_check import FILM_CHECK
from components.cxr.films.pixels import encode_png
from components.serve.config import ServeConfig
from components.serve.copies import check_copy, make_copy
from components.serve.predictor import StudyPredictor

PICTURE = encode_png(np.kron([[0, 255], [255, 0]], np.ones((40, 40))).astype(np.uint8))


@pytest.fixture
def client(checked):
    from starlette.testclient import TestClient

    from components.serve.app import create_app

    predictor = StudyPredictor(checked.bundle, checked.evaluation)
    with TestClient(create_app(predictor, ServeConfig())) as client:
        yield client


@pytest.fixture
def film(chest_films, film_check):
    """The film that is the most usual one."""
    return encode_png(chest_films[film_check.score(chest_films).argmin()])


def _predict(client, *films, **fields):
    response = client.post("/v1/predict", files=[("files", ("f", film)) for film in films], data=fields)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_film_is_answered(client, film):
    reply = _predict(client, film)
    assert reply["in_distribution"] is True
    assert reply["overall"] != "not-a-chest-film"
    assert [each["in_distribution"] for each in reply["films"]] == [True]
    assert reply["films"][0]["score"] <= 0
    assert all(answer["valid"] for answer in reply["answers"].values())


def test_another_picture_is_not_answered_as_if_it_were_one(client, film):
    reply = _predict(client, film, PICTURE, text="cough")
    assert reply["in_distribution"] is False
    assert reply["overall"] == "not-a-chest-film"
    assert [each["in_distribution"] for each in reply["films"]] == [True, False]
    assert reply["films"][1]["score"] > 0
    assert not any(answer["valid"] for answer in reply["answers"].values())
    (warning,) = [each for each in reply["warnings"] if each["code"] == "not-a-chest-film"]
    assert warning["message"].startswith("Film 2 looks unlike")


def test_the_score_is_that_of_evaluations_check_of_the_models_pixels(client, checked, film):
    predictor = StudyPredictor(checked.bundle, checked.evaluation)
    found = predictor.predict([film, PICTURE])
    np.testing.assert_array_equal(found.foreign, predictor.film_check.score(found.study.films))


def test_a_text_alone_has_no_film_to_judge(client):
    reply = _predict(client, text="cough")
    assert (reply["in_distribution"], reply["films"]) == (None, [])
    assert all(answer["valid"] for answer in reply["answers"].values())


def test_a_model_without_a_check_judges_nothing(predictor, film):
    found = predictor.predict([PICTURE])
    assert (found.foreign, found.in_distribution) == (None, None)


def test_other_pictures_are_counted_and_are_no_drift(client, film):
    for _ in range(100):  # as many as drift needs
        _predict(client, PICTURE)
    lines = client.get("/metrics").text.splitlines()
    assert "cxrflow_foreign_films_total 100.0" in lines
    drift = [line for line in lines if line.startswith("cxrflow_probability_psi{")]
    assert drift
    assert all(line.endswith("NaN") for line in drift)
    assert not any(line.startswith("cxrflow_probability_count") for line in lines)


def test_a_deployed_copy_has_the_check_and_misses_it(checked):
    copy = checked.root.bundle("copy")
    seal = make_copy(checked.bundle, checked.evaluation, copy)
    assert copy.read(FILM_CHECK).data == checked.evaluation.read(FILM_CHECK).data
    check_copy(copy, seal=seal.hash)
    Path(copy.uri, FILM_CHECK).unlink()
    with pytest.raises(UserError, match=r"not the one that was sealed.*film_check"):
        StudyPredictor(copy)


def test_an_altered_check_is_refused(checked):
    path = Path(checked.evaluation.uri, FILM_CHECK)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(UserError, match=r"not the one that was sealed.*film_check"):
        StudyPredictor(checked.bundle, checked.evaluation)
