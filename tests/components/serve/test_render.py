import cv2
import numpy as np
import pytest

from components.cxr.films.pixels import read_film
from components.serve.openapi import REPLY_EXAMPLE
from components.serve.schemas import PredictReply

STORED = (np.arange(60 * 40, dtype=np.uint16).reshape(60, 40) * 7) % 4096


def _render(client, film, query=""):
    return client.post(f"/v1/render{query}", files={"files": ("f", film)})


def _pixels(response):
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    return cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_the_picture_is_what_the_model_saw(client, predictor, dicom_bytes, photometric):
    film = dicom_bytes(STORED, bits_stored=12, PhotometricInterpretation=photometric)
    pixels = _pixels(_render(client, film))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, predictor.predict([film]).study.films[0])


def test_a_larger_picture_is_the_same_reading(client, predictor, dicom_bytes):
    film = dicom_bytes(STORED, bits_stored=12)
    preset = predictor.bundle.info.pixel_preset.model_copy(update={"size": 128})
    np.testing.assert_array_equal(_pixels(_render(client, film, "?size=128")), read_film(film, preset=preset).pixels)


@pytest.mark.parametrize("size", ["15", "2049", "1e2", "Jane"])
def test_a_size_that_cannot_be_is_refused(client, png, size):
    response = _render(client, png, f"?size={size}")
    assert (response.status_code, response.json()["error"]["code"]) == (422, "bad-size")
    assert "Jane" not in response.text


def test_one_usable_film_is_wanted(client, png):
    assert client.post("/v1/render", json={"files": []}).json()["error"]["code"] == "not-one-film"
    two = client.post("/v1/render", files=[("files", ("a", png)), ("files", ("b", png))])
    assert (two.status_code, two.json()["error"]["code"]) == (422, "not-one-film")
    assert _render(client, b"Jane Doe").json()["error"]["code"] == "film-unknown-format"


@pytest.mark.parametrize(
    ("path", "field", "value", "known"),
    [
        ("/v1/render", "text", "cough", "files"),
        ("/v1/render", "age_years", "0", "files"),
        ("/v1/render", "view_positions", "PA", "files"),
        ("/v1/explain", "sex", "F", "files, view_positions"),
        ("/v1/explain", "explain", "Edema", "files, view_positions"),
        ("/v1/explain", "study_uid", "1.2.3", "files, view_positions"),
        ("/v1/explain", "view_positions", "PA", None),
    ],
)
def test_a_field_that_is_not_for_one_film_is_refused(client, png, path, field, value, known):
    query = {"pathology": "Edema"} if path == "/v1/explain" else {}
    answer = client.post(path, params=query, files={"files": ("f", png)}, data={field: value})
    if known is None:
        assert answer.status_code == 200
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "unknown-field")
        assert answer.json()["error"]["remedy"] == f"Known fields: {known}."


def test_openapi_describes_the_requests_and_the_answers_with_examples_that_work(client):
    schema = client.get("/openapi.json").json()
    fields = {"files", "text", "age_years", "sex", "view_positions", "study_uid", "explain"}
    for path in ("/v1/predict", "/v1/render", "/v1/explain"):
        operation = schema["paths"][path]["post"]
        content = operation["requestBody"]["content"]
        assert set(content) == {"multipart/form-data", "application/json"}
        assert not any(kind["schema"]["additionalProperties"] for kind in content.values()), "others are refused"
        assert {"200", "400", "408", "413", "415", "422", "429", "503"} <= set(operation["responses"])
        if path == "/v1/predict":
            assert all(set(kind["schema"]["properties"]) == fields for kind in content.values())
        examples = content["application/json"]["examples"]
        for example in examples.values():
            query = {"pathology": "Edema"} if path == "/v1/explain" else {}
            assert client.post(path, params=query, json=example["value"]).status_code == 200
    reply = schema["paths"]["/v1/predict"]["post"]["responses"]["200"]["content"]["application/json"]
    assert PredictReply.model_validate(reply["example"]).model_dump(mode="json") == REPLY_EXAMPLE
    assert schema["components"]["schemas"]["PathologyAnswer"]["properties"]["state"]["description"]
