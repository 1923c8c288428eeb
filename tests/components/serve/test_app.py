import gzip
import threading
import zlib

import numpy as np
import pytest
from starlette.testclient import TestClient

from components.cxr.films.pixels import encode_png
from components.serve.app import create_app
from components.serve.config import ServeConfig


def _post(client, *, files=(), **fields):
    return client.post("/v1/predict", data=fields, files=[("files", (f"{i}", data)) for i, data in enumerate(files)])


def _error(response, status):
    assert response.status_code == status
    assert set(response.json()) == {"error"}
    assert set(response.json()["error"]) == {"code", "message", "remedy", "film"}
    return response.json()["error"]["code"]


def _client(predictor, **config):
    return TestClient(create_app(predictor, ServeConfig(**config)))


def test_health_and_readiness(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}


def test_model_says_what_it_is_and_where_it_comes_from(client, predictor, evaluated):
    model = client.get("/v1/model").json()
    assert model["bundle_hash"] == evaluated.report.bundle_hash
    assert model["manifest_hash"] == evaluated.manifest.hash
    assert model["pathologies"] == ["No Finding", "Edema", "Pleural Effusion", "Fracture"]
    assert model["pixel_preset"]["size"] == 32
    assert (model["text_sections"], model["leaky"]) == (["indication"], False)
    assert model["label_policy"]["uncertain"] == "multiclass"
    assert model["thresholds"]["text"]["Edema"] == predictor.points.conditions["text"]["Edema"].threshold
    assert "Not a medical device" in model["intended_use"]
    assert model["limits"]["max_files"] == ServeConfig().max_files


def test_prediction_is_the_predictors(client, predictor, study):
    films = [encode_png(film) for film in study.films]
    fields = {
        "text": study.text,
        "age_years": repr(study.age_years),
        "sex": study.sex,
        "view_positions": ",".join(study.view_positions),
    }
    reply = _post(client, files=films, **fields).json()
    expected = predictor.predict(
        films, text=study.text, age_years=study.age_years, sex=study.sex, view_positions=study.view_positions
    )
    told = {
        name: {key: answer[key] for key in answer if key not in ("auroc", "low_support", "valid")}
        for name, answer in reply["answers"].items()
    }
    assert told == {name: answer._asdict() for name, answer in expected.answers.items()}
    assert list(reply["answers"]) == list(expected.answers)
    assert all(answer["state"] in (-1, 0, 1) for answer in reply["answers"].values())
    assert reply["condition"] == "all"
    assert reply["bundle_hash"] == predictor.bundle.hash
    assert reply["seen"] == {
        "films": 2,
        "view_positions": study.view_positions,
        "text": True,
        "age_years": study.age_years,
        "sex": study.sex,
    }


def test_film_only_and_text_only(client, png):
    assert _post(client, files=[png]).json()["condition"] == "image"
    reply = _post(client, text="cough").json()
    assert (reply["condition"], reply["seen"]["films"]) == ("text", 0)
    multipart = client.post("/v1/predict", files={"text": (None, "cough")}).json()
    assert multipart == reply


def test_png_jpeg_and_dicom_are_read(client, make_png, dicom_bytes):
    stored = np.arange(60 * 48, dtype=np.uint16).reshape(60, 48)
    films = [make_png(), make_png(extension=".jpg"), dicom_bytes(stored, bits_stored=12, ViewPosition="PA")]
    reply = _post(client, files=films)
    assert reply.status_code == 200
    assert reply.json()["seen"]["view_positions"] == [None, None, "PA"]


def test_view_positions_repeated_or_with_commas_in_any_case(client, png):
    body = {"files": [png, png, png]}
    repeated = _post(client, **body, view_positions=["pa", "", "lateral"]).json()
    joined = _post(client, **body, view_positions="PA, ,LATERAL").json()
    assert repeated == joined
    assert joined["seen"]["view_positions"] == ["PA", None, "LATERAL"]
    assert _post(client, **body, view_positions=["", "", ""]).json()["seen"]["view_positions"] == [None] * 3


@pytest.mark.parametrize(("age", "years"), [("058Y", 58.0), ("58y", 58.0), ("6M", 0.5), ("61.5", 61.5)])
def test_ages_as_dicom_and_people_write_them(client, png, age, years):
    reply = _post(client, files=[png], age_years=age)
    assert reply.json()["seen"]["age_years"] == years


def test_empty_fields_are_absent_as_browsers_send_them(client):
    form = {"files": ("", b""), "text": (None, "cough"), "age_years": (None, ""), "sex": (None, "")}
    reply = client.post("/v1/predict", files=form)
    assert reply.status_code == 200
    assert reply.json()["seen"] == {
        "films": 0,
        "view_positions": [],
        "text": True,
        "age_years": None,
        "sex": None,
    }


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "nothing-to-read"),
        ({"age_years": "50", "sex": "M"}, "nothing-to-read"),
        ({"text": "cough", "age_years": "sixty"}, "bad-age"),
        ({"text": "cough", "age_years": "1e9"}, "bad-age"),
        ({"text": "cough", "age_years": "nan"}, "bad-age"),
        ({"text": "cough", "age_years": "131Y"}, "bad-age"),
        ({"text": "cough", "sex": "woman"}, "bad-sex"),
        ({"text": "cough", "view_positions": "PA"}, "bad-view-positions"),
        ({"text": ["cough", "fever"]}, "repeated-field"),
        ({"text": "cough", "patient": "Jane Doe"}, "unknown-field"),
        ({"files": "Jane Doe"}, "bad-field"),
    ],
)
def test_bad_fields_are_refused(client, fields, code):
    response = client.post("/v1/predict", data=fields)
    assert _error(response, 422) == code
    assert "Jane" not in response.text
    assert "woman" not in response.text


def test_text_as_a_file_is_refused(client):
    response = client.post("/v1/predict", files={"text": ("Jane.txt", b"cough")})
    assert _error(response, 422) == "bad-field"
    assert "Jane" not in response.text


@pytest.mark.parametrize(
    ("film", "code"),
    [
        (b"", "film-empty"),
        (b"Jane Doe", "film-unknown-format"),
        (b"\x89PNG\r\n\x1a\n" + b"Jane" * 20, "film-truncated"),
        (b"\xff\xd8\xff\xe0" + b"Jane" * 20, "film-truncated"),
        (b"\0" * 128 + b"DICM" + b"Jane" * 20, "film-no-pixels"),
        (b"%PDF-1.7 Jane", "film-unknown-format"),
    ],
)
def test_junk_is_refused_with_a_reason(client, film, code):
    response = client.post("/v1/predict", files={"files": ("Jane^Doe.dcm", film)})
    assert _error(response, 422) == code
    assert "Jane" not in response.text


def test_random_bytes_behind_each_magic_never_break_the_server(client, make_png, dicom_bytes):
    random = np.random.default_rng(5)
    stored = np.arange(40 * 40, dtype=np.uint16).reshape(40, 40)
    for film in (make_png(), make_png(extension=".jpg"), dicom_bytes(stored, bits_stored=12)):
        for _ in range(15):
            damaged = bytearray(film)
            for position in random.integers(8, len(damaged), 12):
                damaged[position] = random.integers(256)
            assert _post(client, files=[bytes(damaged)]).status_code in (200, 422)


def test_a_film_with_too_many_pixels_is_refused_before_it_is_decoded(client, make_png):
    film = bytearray(make_png())
    film[16:24] = (60_000).to_bytes(4, "big") * 2
    film[29:33] = zlib.crc32(film[12:29]).to_bytes(4, "big")
    assert _error(_post(client, files=[bytes(film)]), 422) == "film-too-large"


def test_limits(predictor, png):
    limits = {"max_files": 2, "max_file_bytes": len(png), "max_text_chars": 10}
    with _client(predictor, **limits) as client:
        assert _post(client, files=[png, png], text="a" * 10).status_code == 200
        assert _error(_post(client, files=[png] * 3), 413) == "too-many-films"
        assert _error(_post(client, files=[png] * 9), 400) == "bad-form"
        too_large = _post(client, files=[png, png + b"x"])
        assert _error(too_large, 413) == "film-too-large"
        assert too_large.json()["error"]["film"] == 2
        assert _post(client, files=[png, png[:-9]]).json()["error"]["film"] == 2
        assert _post(client, files=[png] * 3).json()["error"]["film"] is None
        assert _error(_post(client, text="ä" * 11), 413) == "text-too-long"
        assert _error(_post(client, text="a" * 1000), 413) == "text-too-long"
        assert _error(_post(client, files=[png], text="a" * 1000), 400) == "bad-form"
    with _client(predictor, max_request_bytes=1000) as client:
        assert _error(_post(client, files=[bytes(1500)]), 413) == "request-too-large"
        assert _error(_post(client, files=[bytes(9000)]), 413) == "request-too-large"


@pytest.mark.parametrize(
    ("kind", "body", "status", "code"),
    [
        ("text/plain", b"cough", 415, "not-a-form"),
        (None, b"cough", 415, "not-a-form"),
        ("multipart/form-data", b"cough", 400, "bad-form"),
        ("multipart/form-data; boundary=x", b"cough", 400, "bad-form"),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--",
            400,
            "bad-form",
        ),
        ("multipart/form-data; boundary=x", b"", 422, "nothing-to-read"),
    ],
)
def test_what_is_no_form_is_refused(client, kind, body, status, code):
    headers = {"content-type": kind} if kind else {}
    assert _error(client.post("/v1/predict", content=body, headers=headers), status) == code


def test_unknown_paths_and_methods_are_refused_in_the_same_form(client):
    assert _error(client.get("/patients/Jane"), 404) == "http-404"
    response = client.get("/v1/predict")
    assert _error(response, 405) == "http-405"
    assert response.headers["allow"] == "POST"


def test_a_slash_too_many_sends_no_films_elsewhere(client):
    """Behind what ends TLS before the server a redirect would name http://, and 307 has the body sent there."""
    response = client.post("/v1/predict/", json={"text": "cough"}, follow_redirects=False)
    assert _error(response, 404) == "http-404"


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x"])
def test_a_compressed_body_is_refused_as_such(client, kind):
    headers = {"content-type": kind, "content-encoding": "gzip"}
    response = client.post("/v1/predict", content=gzip.compress(b'{"text": "cough"}'), headers=headers)
    assert _error(response, 415) == "compressed"


def test_no_other_site_may_read_an_answer(client):
    """By the rules of browsers: no header lets another origin in, asked before or not."""
    elsewhere = {"origin": "https://elsewhere.example"}
    asked = client.options("/v1/predict", headers={**elsewhere, "access-control-request-method": "POST"})
    assert asked.status_code == 405
    for response in (asked, client.get("/v1/model", headers=elsewhere), client.get("/", headers=elsewhere)):
        assert not [name for name in response.headers if name.startswith("access-control")]


def test_an_overdue_answer_is_503_and_the_server_unready_until_it_comes(predictor, monkeypatch):
    release, entered = threading.Event(), threading.Event()

    def slow(*_args, **_kwargs):
        entered.set()
        release.wait(20)
        raise RuntimeError("too late to matter")

    with _client(predictor, timeout_s=0.2) as client, monkeypatch.context() as patch:
        patch.setattr(predictor, "read", slow)
        response = _post(client, text="cough")
        assert entered.is_set()
        assert _error(response, 503) == "too-slow"
        assert response.headers["retry-after"]
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200
        release.set()
        patch.undo()
        while client.get("/readyz").status_code != 200:
            pass
        assert _post(client, text="cough").status_code == 200


def test_beyond_the_places_a_request_is_sent_away_while_others_go_on(predictor, monkeypatch):
    release, entered = threading.Event(), threading.Event()
    read = predictor.read

    def slow(*args, **kwargs):
        entered.set()
        release.wait(20)
        return read(*args, **kwargs)

    with _client(predictor, max_requests=1) as client:
        monkeypatch.setattr(predictor, "read", slow)
        replies = []
        thread = threading.Thread(target=lambda: replies.append(_post(client, text="cough")))
        thread.start()
        assert entered.wait(20)
        refusal = _post(client, text="cough")
        assert _error(refusal, 429) == "busy"
        assert refusal.headers["retry-after"] == "5"
        assert client.get("/healthz").status_code == 200  # the event loop is free meanwhile
        release.set()
        thread.join()
        assert replies[0].status_code == 200
        assert _post(client, text="cough").status_code == 200


def test_a_bug_is_a_plain_500_and_leaves_its_message_out_of_the_log(predictor, monkeypatch, caplog):
    def broken(*_args, **_kwargs):
        raise RuntimeError("Jane Doe coughs")

    monkeypatch.setattr(predictor, "read", broken)
    with caplog.at_level("DEBUG"), _client(predictor) as client:
        response = _post(client, text="cough")
    assert _error(response, 500) == "internal"
    assert "Jane" not in response.text
    assert "Jane" not in caplog.text
    (bug,) = [record.facts for record in caplog.records if record.getMessage() == "bug"]
    assert bug["error"] == "RuntimeError"
    assert bug["place"].startswith("test_app.py:")
    assert bug["request_id"] == response.headers["x-request-id"]


def test_the_page_needs_nothing_from_elsewhere(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "Not a medical device" in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "innerHTML" not in page.text


def test_answers_are_neither_cached_nor_guessed_at(client):
    headers = _post(client, text="cough").headers
    assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")


def test_the_example_studies_are_answered(client):
    listed = client.get("/examples/examples.json").json()
    assert len(listed) == 3
    for example in listed:
        films = [client.get(f"/examples/{name}").content for name in example["films"]]
        fields = {"text": example["text"], "age_years": example["age_years"] or "", "sex": example["sex"] or ""}
        reply = _post(client, files=films, **fields, view_positions=",".join(example["view_positions"])).json()
        assert reply["seen"]["text"]
        assert None not in (reply["seen"]["age_years"], reply["seen"]["sex"], *reply["seen"]["view_positions"])
        assert {warning["code"] for warning in reply["warnings"]} <= {"text-cut"}  # after this model's 16 tokens


def test_nothing_but_the_examples_is_served_as_one(client):
    for name in ("page.html", "..%2Fpage.html", "%2e%2e%2fapp.py"):
        assert client.get(f"/examples/{name}").status_code == 404
