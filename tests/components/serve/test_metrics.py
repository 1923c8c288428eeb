import json

import pytest

from components.cxr.errors import UserError
from components.cxr.report import REPORT
from components.serve.metrics import load_metrics
from components.serve.predictor import StudyPredictor


def test_the_model_tells_the_reports_metrics_with_intervals(client, evaluated):
    metrics = client.get("/v1/model").json()["metrics"]
    assert set(metrics) == {score.condition for score in evaluated.report.scores}
    for condition in ("all", "text"):
        score = evaluated.report.score(condition)
        assert metrics[condition]["studies"] == score.num_studies
        assert metrics[condition]["mean_auroc"]["value"] == score.mean.auroc
        for name, told in metrics[condition]["pathologies"].items():
            expected = score.pathologies[name]
            assert told["metrics"]["auroc"] == {
                "value": expected.auroc,
                "ci": expected.intervals["auroc"].model_dump() if "auroc" in expected.intervals else None,
            }
            assert told["metrics"]["recall"]["value"] == expected.recall
            assert (told["positives"], told["low_support"]) == (expected.positives, expected.low_support)


@pytest.mark.parametrize("is_film", [True, False])
def test_an_answer_tells_the_auroc_of_its_own_condition(client, evaluated, png, is_film):
    fields = {"files": {"files": ("f", png)}} if is_film else {"data": {"text": "cough"}}
    reply = client.post("/v1/predict", **fields).json()
    score, other = evaluated.report.score(reply["condition"]), evaluated.report.score("text" if is_film else "all")
    for name, answer in reply["answers"].items():
        expected = score.pathologies[name]
        assert answer["auroc"]["value"] == expected.auroc
        assert answer["low_support"] == expected.low_support
    assert any(answer["auroc"]["ci"] for answer in reply["answers"].values())
    assert any(other.pathologies[name].auroc != answer["auroc"]["value"] for name, answer in reply["answers"].items())


def test_the_model_card_is_behind_a_link(client):
    card = client.get("/v1/model/card")
    assert card.headers["content-type"] == "text/plain; charset=utf-8"
    assert card.text == "# The card of this evaluation"


def test_a_report_that_is_missing_or_of_another_evaluation_is_refused(world, predictor):
    values = json.loads(world.evaluation.read(REPORT).data)
    values["operating_points_hash"] = "0" * 16
    world.evaluation.write(REPORT, json.dumps(values).encode())
    with pytest.raises(UserError, match="of two evaluations"):
        load_metrics(world.evaluation, predictor.points)
    world.evaluation.delete(REPORT)
    with pytest.raises(UserError, match="no evaluation's report"):
        StudyPredictor(world.bundle, world.evaluation)
