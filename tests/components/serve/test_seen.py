import dataclasses

import numpy as np
import pytest

from components.cxr.model.batch import Study
from components.cxr.model.predictor import Answer
from components.serve.fields import StudyForm
from components.serve.seen import cautions, inputs, overall

STORED = np.arange(40 * 40, dtype=np.uint16).reshape(40, 40)


def _post(client, *, films=(), **fields):
    response = client.post("/v1/predict", data=fields, files=[("files", ("f", film)) for film in films])
    assert response.status_code == 200, response.text
    return response.json()


def _codes(reply):
    return [warning["code"] for warning in reply["warnings"]]


def _uses(reply):
    return {(use["name"], use["film"]): (use["used"], use["source"]) for use in reply["inputs"]}


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({"No Finding": 1, "Edema": 0, "Support Devices": 1}, "no-finding"),
        ({"No Finding": 1, "Edema": 1}, "findings"),
        ({"No Finding": 0, "Edema": 1, "Fracture": -1}, "findings"),
        ({"No Finding": 1, "Edema": -1}, "open"),
        ({"No Finding": 0, "Edema": 0}, "open"),
        ({"No Finding": -1, "Edema": 0}, "open"),
        ({"Edema": 0}, "no-finding"),
    ],
)
def test_no_finding_never_contradicts_a_finding(states, expected):
    assert overall({name: Answer(0.5, 0.1, state, 0.5) for name, state in states.items()}) == expected


def test_the_states_stay_evaluations(client, predictor, png):
    reply = _post(client, films=[png])
    found = predictor.predict([png])
    assert {name: value["state"] for name, value in reply["answers"].items()} == {
        name: value.state for name, value in found.answers.items()
    }
    assert reply["overall"] == overall(found.answers)


def test_every_part_of_the_request_is_accounted_for(client, dicom_bytes, png):
    film = dicom_bytes(STORED, bits_stored=12, PatientAge="063Y", PatientSex="F", ViewPosition="AP")
    reply = _post(client, films=[film, png, png], text="FINDINGS: Clear.", sex="M", view_positions=",,LL")
    assert _uses(reply) == {
        ("film", 1): (True, "request"),
        ("view_position", 1): (True, "header"),
        ("film", 2): (True, "request"),
        ("view_position", 2): (False, None),
        ("film", 3): (True, "request"),
        ("view_position", 3): (True, "request"),
        ("text", None): (False, "request"),
        ("age_years", None): (True, "header"),
        ("sex", None): (True, "request"),
    }
    assert all(use["used"] or use["why"] for use in reply["inputs"])
    assert _codes(reply) == ["sex-differs", "text-left-out"]
    bad = _post(client, films=[dicom_bytes(STORED, bits_stored=12, PatientAge="999Y")])
    assert [use["why"] for use in bad["inputs"] if use["name"] == "age_years"] == [
        "The DICOM header's is none from 0 to 130 years."
    ]


def test_what_a_text_alone_leaves_out_is_not_called_missing(predictor):
    form = StudyForm(files=[], text="cough", age_years=63.0, sex="F", view_positions=None, study_uid=None)
    study = Study(films=[], view_positions=[], text="cough", age_years=None, sex=None)
    text, age, sex = inputs(form, predictor.predict([], text="cough")._replace(study=study))
    assert (text.used, age.used, sex.used) == (True, False, False)
    assert age.source == sex.source == "request"
    assert "text alone" in age.why


def test_a_plain_request_has_no_warning(client, png):
    assert _codes(_post(client, films=[png], text="cough")) == []
    assert _codes(_post(client, text="INDICATION: cough")) == []


def test_warnings(client, dicom_bytes):
    film = dicom_bytes(STORED, bits_stored=12, ViewPosition="LPO", PatientAge="063Y")
    other = dicom_bytes(STORED, bits_stored=12, ViewPosition="PA", PatientAge="036Y")
    assert _codes(_post(client, films=[film])) == ["unusual-view"]
    assert _codes(_post(client, films=[film], view_positions="PA")) == []
    assert _codes(_post(client, films=[other], view_positions="LATERAL")) == ["view-differs"]
    side = dicom_bytes(STORED, bits_stored=12, ViewPosition="LL")
    assert _codes(_post(client, films=[side], view_positions="LATERAL")) == [], "one view by two names"
    assert _codes(_post(client, films=[film, other], age_years="64")) == ["unusual-view", "films-differ", "age-differs"]
    long = _post(client, text="INDICATION: " + "cough and fever " * 400 + "\nFINDINGS: Jane Doe is well.")
    assert _codes(long) == ["text-left-out", "text-cut"]
    assert "findings" in long["warnings"][0]["message"]
    assert "Jane" not in str(long)


def test_the_film_that_looks_unlike_one_is_named_by_its_own_number(predictor, dicom_bytes):
    films = [dicom_bytes(STORED, bits_stored=12)] * 3
    form = StudyForm(files=films, text="", age_years=None, sex=None, view_positions=None, study_uid=None)
    found = predictor.predict(films)._replace(foreign=(-1.0, 0.5, 0.0))
    (caution,) = cautions(form, found, predictor)
    assert (caution.code, caution.message[:24]) == ("not-a-chest-film", "Film 2 looks unlike a ch")


def test_burned_in_text_is_told_where_the_model_takes_such_films(predictor, dicom_bytes, monkeypatch):
    from starlette.testclient import TestClient

    from components.serve.app import create_app
    from components.serve.config import ServeConfig

    info = predictor.bundle.info
    preset = info.pixel_preset.model_copy(update={"allow_burned_in": True})
    bundle = dataclasses.replace(predictor.bundle, info=info.model_copy(update={"pixel_preset": preset}))
    film = dicom_bytes(STORED, bits_stored=12, BurnedInAnnotation="YES")
    with TestClient(create_app(predictor, ServeConfig())) as client:
        refused = client.post("/v1/predict", files={"files": ("f", film)})
        assert refused.json()["error"]["code"] == "film-burned-in"
        monkeypatch.setattr(predictor, "bundle", bundle)
        assert _codes(_post(client, films=[film])) == ["burned-in"]
        assert _codes(_post(client, films=[dicom_bytes(STORED, bits_stored=12, BurnedInAnnotation="NO")])) == []


def test_cautions_share_no_tokenizer_with_the_model(predictor):
    form = StudyForm(files=[], text="cough " * 99, age_years=None, sex=None, view_positions=None, study_uid=None)
    found, models = predictor.predict([], text=form.text), predictor.bundle.tokenizer.backend_tokenizer
    before = models.truncation
    assert [caution.code for caution in cautions(form, found, predictor)] == ["text-cut"]
    assert models.truncation == before
    assert predictor.own_tokenizer.backend_tokenizer is not models
