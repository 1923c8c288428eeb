"""What Prometheus reads: every request and answer is counted, drift is seen, and nothing tells of a patient."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from components.cxr.films.pixels import encode_png
from components.cxr.model.predictor import Answer
from components.evaluate.calibration import calibrate
from components.evaluate.predict import predict
from components.evaluate.predictions import Pass, predictions_key
from components.serve.app import create_app
from components.serve.config import ServeConfig
from components.serve.predictor import Prediction, StudyPredictor
from components.serve.telemetry import LEAST_ANSWERS, Telemetry

if TYPE_CHECKING:
    from components.cxr.model.batch import Study
    from tests.components.serve.conftest import World

NAMES = ("No Finding", "Edema", "Pleural Effusion", "Fracture")


def _values(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Samples by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _value(values: dict[tuple[str, tuple[tuple[str, str], ...]], float], name: str, **labels: str) -> float:
    return values[name, tuple(sorted(labels.items()))]


def test_requests_answers_and_refusals_are_counted(predictor: StudyPredictor, study: Study) -> None:
    with TestClient(create_app(predictor, ServeConfig())) as client:
        film = ("files", ("film", encode_png(study.films[0])))
        replies = [client.post("/v1/predict", data={"text": text}, files=[film]) for text in (study.text, "")]
        assert [reply.status_code for reply in replies] == [200, 200]
        assert client.post("/v1/predict", files=[("files", ("film", b"no film"))]).status_code == 422
        assert client.get("/Jane-Doe").status_code == 404
        reply = client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=")
    values = _values(reply.text)
    assert _value(values, "cxrflow_requests_total", path="/v1/predict", status="200") == 2
    assert _value(values, "cxrflow_requests_total", path="/v1/predict", status="422") == 1
    assert _value(values, "cxrflow_requests_total", path="(other)", status="404") == 1
    assert _value(values, "cxrflow_request_seconds_count", path="/v1/predict") == 3
    assert _value(values, "cxrflow_requests_open") == 1, "this one"
    assert sum(value for (name, _), value in values.items() if name == "cxrflow_refusals_total") == 1
    assert _value(values, "cxrflow_films_total") == 2
    conditions = [reply.json()["condition"] for reply in replies]
    for condition in set(conditions):
        assert _value(values, "cxrflow_studies_total", condition=condition) == conditions.count(condition)
    for name in NAMES:
        answers = [reply.json()["answers"][name] for reply in replies]
        for state in {answer["state"] for answer in answers}:
            told = sum(answer["state"] == state for answer in answers)
            assert _value(values, "cxrflow_states_total", pathology=name, state=str(state)) == told
        assert _value(values, "cxrflow_probability_count", pathology=name) == 2
        total = sum(answer["probability"] for answer in answers)
        assert _value(values, "cxrflow_probability_sum", pathology=name) == pytest.approx(total)
    assert _value(
        values,
        "cxrflow_model_info",
        bundle_hash=predictor.bundle.hash,
        operating_points_hash=predictor.points.hash,
    )


def test_nothing_of_a_patient_is_in_the_metrics(predictor: StudyPredictor, study: Study) -> None:
    with TestClient(create_app(predictor, ServeConfig())) as client:
        film = ("files", ("Jane-Doe.png", encode_png(study.films[0])))
        fields = {"text": "Jane Doe, cough", "age_years": "61.25", "study_uid": "1.2.840.99"}
        assert client.post("/v1/predict", data=fields, files=[film]).status_code == 200
        client.get("/v1/Jane-Doe?name=Jane")
        client.post("/v1/predict", data={"text": "Jane Doe", "age_years": "Jane"})
        text = client.get("/metrics").text
    for secret in ("Jane", "Doe", "cough", "61.25", "1.2.840.99"):
        assert secret not in text


@pytest.fixture(scope="module")
def validation(evaluated: World, predictor: StudyPredictor) -> dict[str, list[float]]:
    """By pathology, what the model says of the labeled validation studies with every input."""
    from components.cxr.bundle_info import describe
    from components.evaluate.config import EvaluateConfig

    model = describe(evaluated.bundle)
    storage = evaluated.root.predictions(predictions_key(model.hash, evaluated.manifest.hash))
    found = predict(
        EvaluateConfig(), storage=storage, bundle=evaluated.bundle, model=model, manifest=evaluated.manifest
    )
    labeled_S = found.validation.rows.labeled_N
    score_SP = found.scores[Pass("validate", "all")].score_NP[labeled_S]
    points = predictor.points.conditions["all"]
    return {name: calibrate(score_SP[:, p], points[name].calibration).tolist() for p, name in enumerate(NAMES)}


def _serve(telemetry: Telemetry, study: Study, probability: dict[str, float]) -> None:
    answers = {name: Answer(value, 0.0, 0, 0.5) for name, value in probability.items()}
    telemetry.answered(Prediction(answers=answers, condition="all", study=study))


def _psi(telemetry: Telemetry, gauge: str = "cxrflow_probability_psi") -> dict[str, float]:
    values = _values(telemetry.exposition().decode())
    return {name: _value(values, gauge, pathology=name, condition="all") for name in NAMES}


def test_the_limit_of_drift_falls_with_the_number_of_answers(
    predictor: StudyPredictor, study: Study, validation: dict[str, list[float]]
) -> None:
    telemetry, gauge = (
        Telemetry(NAMES, predictor.points, bundle_hash=predictor.bundle.hash),
        "cxrflow_probability_psi_limit",
    )
    first = {name: values[0] for name, values in validation.items()}
    for _ in range(LEAST_ANSWERS - 1):
        _serve(telemetry, study, first)
    assert all(math.isnan(value) for value in _psi(telemetry, gauge).values()), "too few to say"
    for count in (LEAST_ANSWERS, 400):
        while _served(telemetry) < count:
            _serve(telemetry, study, first)
        for name, limit in _psi(telemetry, gauge).items():
            assert limit == pytest.approx(30 * (1 / count + 1 / len(validation[name])))


def _served(telemetry: Telemetry) -> int:
    return int(_value(_values(telemetry.exposition().decode()), "cxrflow_studies_total", condition="all"))


def test_drift_is_seen_and_its_absence_too(
    predictor: StudyPredictor, study: Study, validation: dict[str, list[float]]
) -> None:
    def telemetry() -> Telemetry:
        return Telemetry(NAMES, predictor.points, bundle_hash=predictor.bundle.hash)

    count = len(validation["Edema"])
    same, lower = telemetry(), telemetry()
    for i in range(LEAST_ANSWERS - 1):
        _serve(same, study, {name: validation[name][i % count] for name in NAMES})
    assert all(math.isnan(value) for value in _psi(same).values()), "too few to say"
    for i in range(LEAST_ANSWERS - 1, 20 * count):
        _serve(same, study, {name: validation[name][i % count] for name in NAMES})
    assert max(_psi(same).values()) < 0.01
    low = {name: float(np.quantile(values, 0.1)) for name, values in validation.items()}
    for _ in range(200):
        _serve(lower, study, low)
    assert min(_psi(lower).values()) > 1.0
