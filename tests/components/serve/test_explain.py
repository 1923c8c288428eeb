"""Heatmaps: what they say of a model that finds blobs, where they lie on the film that was sent, and who gets none."""

from __future__ import annotations

import base64
import copy
import dataclasses

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from starlette.testclient import TestClient

from components.cxr.film_check import FilmCheck
from components.cxr.films.pixels import encode_png
from components.cxr.model.batch import Study
from components.cxr.model.predictor import predict
from components.serve.app import create_app
from components.serve.config import ServeConfig
from components.serve.fields import study_form
from components.serve.heatmap import FULL, overlay, spread_over
from components.serve.predictor import StudyPredictor
from components.serve.schemas import ExplainReply, PredictReply

EDEMA = "Edema"
PICTURE = encode_png(np.kron([[0, 255], [255, 0]], np.ones((40, 40))).astype(np.uint8))


def blob(seed: int, *, shape: tuple[int, int] = (32, 32), at: tuple[int, int] | None = (5, 5)) -> bytes:
    """A film with what the model was taught to call Edema, 8 x 8 pixels."""
    film = np.random.default_rng(seed).normal(90, 10, shape)
    if at is not None:
        film[at[0] : at[0] + 8, at[1] : at[1] + 8] += 45
    return encode_png(np.clip(film, 0, 255).astype(np.uint8))


def explained(client: TestClient, film: bytes, **query: object) -> ExplainReply:
    params = {"pathology": EDEMA, "format": "json", "size": 32, **query}
    response = client.post("/v1/explain", params=params, files={"files": ("f", film)})
    assert response.status_code == 200, response.text
    return ExplainReply.model_validate_json(response.content)


def picture(client: TestClient, film: bytes, **query: object) -> npt.NDArray[np.uint8]:
    response = client.post(
        "/v1/explain", params={"pathology": EDEMA, "size": 32, **query}, files={"files": ("f", film)}
    )
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    decoded = cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_UNCHANGED)
    return np.asarray(decoded, dtype=np.uint8)


def test_the_highest_point_is_where_the_finding_is(client: TestClient) -> None:
    hits, clear = [], []
    for seed in range(12):
        found = np.array(explained(client, blob(seed)).map)
        row, column = np.unravel_index(found.argmax(), found.shape)
        hits.append(4 <= row < 14 and 4 <= column < 14)
        clear.append(explained(client, blob(seed)).log_odds - explained(client, blob(seed, at=None)).log_odds)
    assert np.mean(hits) >= 0.75
    assert np.mean(clear) > 0.5


def test_a_heatmap_says_whose_it_is(client: TestClient, predictor: StudyPredictor) -> None:
    for form in ("png", "json"):
        query = {"pathology": EDEMA, "format": form}
        response = client.post("/v1/explain", params=query, files={"files": ("f", blob(1))})
        assert response.headers["x-bundle-hash"] == predictor.bundle.hash


def test_log_odds_are_what_the_patches_add_to_the_answer(client: TestClient, predictor: StudyPredictor) -> None:
    bundle = predictor.bundle
    without = copy.deepcopy(bundle.model)
    assert without.patch_expert is not None
    without.patch_expert.scale_P.zero_()
    p = bundle.info.pathologies.index(EDEMA)
    for seed in range(4):
        film = cv2.imdecode(np.frombuffer(blob(seed), np.uint8), cv2.IMREAD_UNCHANGED)
        study = Study(films=[np.asarray(film, np.uint8)], view_positions=[None], text="", age_years=None, sex=None)
        scores = [
            float(predict(each, [study]).score_SP[0, p])
            for each in (bundle, dataclasses.replace(bundle, models=(without,)))
        ]
        reply = explained(client, blob(seed))
        assert reply.log_odds == pytest.approx(scores[0] - scores[1], abs=1e-4)
        assert np.mean(reply.map) * 100 == pytest.approx(reply.log_odds, abs=1e-4)  # by hundredths of a square film
        assert reply.bundle_hash == bundle.hash


def test_a_film_is_compared_with_those_of_its_view(client: TestClient, predictor: StudyPredictor) -> None:
    expert, film, query = (
        predictor.bundle.model.patch_expert,
        blob(1),
        {"pathology": EDEMA, "format": "json", "size": 32},
    )
    assert expert is not None
    p = predictor.bundle.info.pathologies.index(EDEMA)
    usual_VL = expert.scale_P[p] * expert.usual_PVL[p]
    for view, v in (("AP", 2), ("LL", 3)):
        reply = client.post("/v1/explain", params=query, files={"files": film}, data={"view_positions": view}).json()
        expected = float((usual_VL[0] - usual_VL[v]).sum())
        assert reply["log_odds"] - explained(client, film).log_odds == pytest.approx(expected, abs=1e-3)
    two = client.post("/v1/explain", params=query, files={"files": film}, data={"view_positions": "AP,PA"})
    assert two.json()["error"]["code"] == "bad-view-positions"


def test_a_map_covers_the_film_edge_to_edge(client: TestClient) -> None:
    tall = blob(3, shape=(64, 40), at=(10, 22))
    assert (explained(client, tall).rows, explained(client, tall).columns) == (32, 20)
    larger = explained(client, tall, size=128)
    assert (larger.rows, larger.columns) == np.array(larger.map).shape == (128, 80)
    assert picture(client, tall).shape == (32, 20, 4)
    assert picture(client, tall, size=512).shape == (512, 320, 4)
    assert picture(client, blob(3, shape=(40, 64)), size=512).shape == (320, 512, 4)
    map_SS = np.zeros((32, 32))
    map_SS[4:6, 6:8] = 1.0  # a tall film of 20 columns begins at column 6
    on_film = spread_over(map_SS, extent=(3200, 2000), size=32)
    assert on_film.shape == (32, 20)
    assert on_film[4:6, 0:2].min() == on_film.max() > 0
    assert np.abs(on_film[:, 2:]).max() == 0


def test_a_picture_shows_how_strong_and_for_which_side(client: TestClient) -> None:
    values = np.array([[FULL, FULL / 2, FULL * 9], [-FULL, 0.0, FULL / 20]], np.float32)
    pixels = cv2.imdecode(np.frombuffer(overlay(values), np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels[:, :, 3].tolist() == [[200, 100, 200], [200, 0, 0]]
    assert pixels[0, 0, 2] > 2 * pixels[0, 0, 0]  # orange
    assert pixels[1, 0, 0] > 2 * pixels[1, 0, 2]  # blue
    shown, found = picture(client, blob(1)), np.array(explained(client, blob(1)).map)
    np.testing.assert_array_equal(
        shown, cv2.imdecode(np.frombuffer(overlay(found.astype(np.float32)), np.uint8), cv2.IMREAD_UNCHANGED)
    )
    assert shown[:, :, 3].max() > 40


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({}, "bad-pathology"),
        ({"pathology": "Jane Doe"}, "no-such-pathology"),
        ({"pathology": EDEMA, "format": "Jane"}, "bad-format"),
        ({"pathology": EDEMA, "size": "15"}, "bad-size"),
        ({"pathology": EDEMA, "size": "2049"}, "bad-size"),
        ({"pathology": EDEMA, "size": "257", "format": "json"}, "bad-size"),
    ],
)
def test_a_query_that_cannot_be_is_refused(client: TestClient, query: dict[str, str], code: str) -> None:
    response = client.post("/v1/explain", params=query, files={"files": ("f", blob(0))})
    assert (response.status_code, response.json()["error"]["code"]) == (422, code)
    assert response.json()["error"]["remedy"]
    assert "Jane" not in response.text


def test_one_usable_film_is_wanted(client: TestClient) -> None:
    query = {"pathology": EDEMA}
    for body, code in (({"files": []}, "not-one-film"), ({"text": "cough"}, "not-one-film")):
        assert client.post("/v1/explain", params=query, json=body).json()["error"]["code"] == code
    broken = client.post("/v1/explain", params=query, files={"files": ("f", b"no film")})
    assert (broken.status_code, broken.json()["error"]["code"]) == (422, "film-unknown-format")


def test_of_another_picture_there_is_none(predictor: StudyPredictor, film_check: FilmCheck) -> None:
    checking = copy.copy(predictor)
    checking.film_check = film_check
    with TestClient(create_app(checking, ServeConfig())) as client:
        response = client.post("/v1/explain", params={"pathology": EDEMA}, files={"files": ("f", PICTURE)})
        asked = client.post("/v1/predict", files={"files": ("f", PICTURE)}, data={"explain": EDEMA}).json()
    assert (response.status_code, response.json()["error"]["code"]) == (422, "not-a-chest-film")
    assert (asked["in_distribution"], asked["heatmaps"]) == (False, [])


def test_a_model_whose_patches_do_not_count_has_none(client: TestClient, predictor: StudyPredictor) -> None:
    assert client.get("/v1/model").json()["heatmaps"] is True
    without = copy.copy(predictor)
    model = copy.deepcopy(predictor.bundle.model)
    assert model.patch_expert is not None
    model.patch_expert.scale_P.zero_()
    without.bundle = dataclasses.replace(predictor.bundle, models=(model,))
    with TestClient(create_app(without, ServeConfig())) as other:
        assert other.get("/v1/model").json()["heatmaps"] is False
        response = other.post("/v1/explain", params={"pathology": EDEMA}, files={"files": ("f", blob(0))})
    assert (response.status_code, response.json()["error"]["code"]) == (422, "no-heatmaps")


def test_an_answer_comes_with_the_heatmaps_that_were_asked_for(client: TestClient, predictor: StudyPredictor) -> None:
    films, names, views = [blob(1), blob(2, shape=(64, 40), at=None)], ["Fracture", EDEMA], [None, "AP"]
    several, coded = [("files", ("f", film)) for film in films], [base64.b64encode(film).decode() for film in films]
    tensors = {"files": coded, "view_positions": ["", "AP"], "explain": names}
    infer = {
        "inputs": [{"name": k, "datatype": "BYTES", "shape": [2], "data": data} for k, data in tensors.items()],
        "outputs": [{"name": "reply"}],
    }
    form = {"explain": ["Fracture", " Edema", "Fracture"], "view_positions": ",AP"}
    asked = [
        client.post("/v1/predict", files=several, data=form).content,
        client.post("/v1/predict", json={"files": coded, "view_positions": views, "explain": names}).content,
        client.post("/v2/models/cxrflow/infer", json=infer).json()["outputs"][0]["data"][0],
    ]
    expected = predictor.heatmaps(predictor.read(films, view_positions=views), names, size=64)
    for reply in map(PredictReply.model_validate_json, asked):
        assert [(each.film, each.pathology) for each in reply.heatmaps] == [(v, name) for v in (1, 2) for name in names]
        assert [(each.rows, each.columns) for each in reply.heatmaps] == [(64, 64)] * 2 + [(64, 40)] * 2
        for each, found in zip(reply.heatmaps, expected, strict=True):
            np.testing.assert_allclose(np.array(each.map), found.map_HW, atol=1e-4)
            assert each.log_odds == pytest.approx(found.log_odds, abs=1e-4)
    alone = predictor.heatmaps(predictor.read(films[:1]), [EDEMA], size=64)
    assert expected[1].log_odds == pytest.approx(alone[0].log_odds / 2, abs=1e-4)  # the answer is to both films
    assert client.post("/v1/predict", files=several).json()["heatmaps"] == []
    assert client.post("/v1/predict", json={"text": "cough", "explain": [EDEMA]}).json()["heatmaps"] == []
    assert study_form([], {"explain": ["Nodule, or mass"]}, ServeConfig()).explain == ("Nodule, or mass",)
    unknown = client.post("/v1/predict", json={"text": "cough", "explain": ["Jane Doe"]})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (422, "no-such-pathology")
    assert "Jane" not in unknown.text
