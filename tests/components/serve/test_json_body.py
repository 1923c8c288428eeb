import base64
import json
import logging

import pytest
from starlette.testclient import TestClient

from components.cxr.films.pixels import encode_png
from components.serve.app import create_app
from components.serve.config import ServeConfig
from components.serve.errors import RequestError
from components.serve.json_body import read_json

UID = "1.2.840.113654.2.55.9"


def _base64(data):
    return base64.b64encode(data).decode()


def _code(response, status):
    assert response.status_code == status
    assert "Jane" not in response.text
    return response.json()["error"]["code"]


def test_json_gets_the_forms_answer(client, study):
    films = [encode_png(film) for film in study.films]
    fields = {"text": study.text, "sex": study.sex, "study_uid": UID}
    form = client.post(
        "/v1/predict",
        data={**fields, "age_years": repr(study.age_years), "view_positions": "PA,"},
        files=[("files", (str(i), film)) for i, film in enumerate(films)],
    )
    body = {**fields, "age_years": study.age_years, "view_positions": ["PA", None]}
    reply = client.post("/v1/predict", json={**body, "files": [_base64(film) for film in films]})
    assert reply.status_code == 200
    assert reply.json() == form.json()
    assert reply.json()["study_uid"] == UID
    assert client.post("/v1/predict", json={"text": "cough"}).json()["study_uid"] is None


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "nothing-to-read"),
        (b"{}", 422, "nothing-to-read"),
        (b"{", 400, "bad-json"),
        (b'["Jane"]', 400, "bad-json"),
        (b'{"text": "Jane \xff"}', 400, "bad-json"),
        (b"[" * 100_000, 400, "bad-json"),
        (b'{"text": [' + b"0," * 100_000 + b"0]}", 400, "bad-json"),
        (b'{"age_years": ' + b"9" * 5000 + b"}", 400, "bad-json"),
        (b'{"text": "Jane", "text": "Doe"}', 422, "repeated-field"),
        (b'{"text": "cough", "Jane": "Doe"}', 422, "unknown-field"),
        (b'{"text": {"Jane": "Doe"}}', 422, "bad-field"),
        (b'{"text": "cough", "sex": true}', 422, "bad-field"),
        (b'{"text": "cough", "age_years": true}', 422, "bad-field"),
        (b'{"text": "cough", "age_years": NaN}', 422, "bad-age"),
        (b'{"text": "cough", "age_years": 131}', 422, "bad-age"),
        (b'{"text": "cough", "view_positions": [1]}', 422, "bad-field"),
        (b'{"text": "cough", "view_positions": ["PA"]}', 422, "bad-view-positions"),
        (b'{"files": "Jane"}', 422, "bad-field"),
        (b'{"files": [5]}', 422, "bad-field"),
        (b'{"files": ["Jane^Doe"]}', 422, "bad-base64"),
        (b'{"files": ["SmFuZQ"]}', 422, "bad-base64"),
        (b'{"files": [""]}', 422, "film-empty"),
        (b'{"files": ["SmFuZQ=="]}', 422, "film-unknown-format"),
        (b'{"text": "cough", "study_uid": "Jane Doe"}', 422, "bad-study-uid"),
        (b'{"text": "cough", "study_uid": "' + b"1" * 65 + b'"}', 422, "bad-study-uid"),
    ],
)
def test_bad_json_is_refused_as_a_bad_form_is(client, body, status, code):
    response = client.post("/v1/predict", content=body, headers={"content-type": "application/json; charset=utf-8"})
    assert _code(response, status) == code


def test_half_a_surrogate_pair_is_no_failure(client):
    response = client.post(
        "/v1/predict", content=b'{"text": "cough \\ud800"}', headers={"content-type": "application/json"}
    )
    assert response.status_code == 200


def test_limits_are_the_forms(predictor, png):
    film = _base64(png)
    limits = {"max_files": 2, "max_file_bytes": len(png), "max_text_chars": 10, "max_request_bytes": 3 * len(png)}
    with TestClient(create_app(predictor, ServeConfig(**limits))) as client:

        def post(**body):
            return client.post("/v1/predict", json=body)

        assert post(files=[film] * 2, text="a" * 10).status_code == 200
        assert _code(post(files=["SmFu"] * 3), 413) == "too-many-films"
        assert _code(post(files=[_base64(png + b"x")]), 413) == "film-too-large"
        assert _code(post(text="ä" * 11), 413) == "text-too-long"
        assert _code(post(files=[_base64(bytes(4 * len(png)))]), 413) == "request-too-large"


def test_a_body_of_marks_is_refused_before_it_is_parsed(monkeypatch):
    monkeypatch.setattr(json, "loads", lambda *_, **__: pytest.fail("parsed"))
    with pytest.raises(RequestError, match="bad-json"):
        read_json(b'{"files": [' + b"[],[]," * 20_000 + b"[]]}", ServeConfig())


def test_the_study_uid_is_never_logged(predictor, caplog):
    with caplog.at_level(logging.DEBUG), TestClient(create_app(predictor, ServeConfig())) as client:
        assert client.post("/v1/predict", json={"text": "cough", "study_uid": UID}).json()["study_uid"] == UID
        client.post("/v1/predict", json={"study_uid": UID})
    assert "/v1/predict" in caplog.text
    assert UID not in caplog.text
