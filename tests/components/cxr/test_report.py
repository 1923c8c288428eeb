"""The third contract: what is written is what is read, and another version is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from components.cxr.errors import UserError
from components.cxr.labels import LabelPolicy
from components.cxr.report import (
    GoldenStudy,
    Interval,
    MeanScore,
    PathologyScore,
    Report,
    Score,
    ThresholdRule,
    load_predictions,
    load_report,
    write_predictions,
    write_report,
)
from components.cxr.storage.storage import ABSENT, StaleWriteError, Storage, open_storage

UNDEFINED = PathologyScore(
    accuracy=0.5,
    specificity=0.5,
    ece=0.25,
    intervals={"ece": Interval(low=0.2, high=0.3)},
    threshold=0.5,
    positives=0,
    negatives=4,
    unknown=1,
    positive_patients=0,
    negative_patients=3,
    resamples={"auroc": 0},
)
MEAN = MeanScore(pathologies=())
SCORE = Score(
    condition="all",
    protocol="A",
    unit="study",
    subset="all",
    num_patients=3,
    num_studies=5,
    num_rows=5,
    pathologies={"Edema": UNDEFINED, "Atelectasis": UNDEFINED},
    mean=MEAN,
)
REPORT = Report(
    bundle_hash="b",
    manifest_hash="m",
    operating_points_hash="p",
    mlflow_run_id=None,
    label_policy=LabelPolicy(uncertain="ones"),
    threshold_rule=ThresholdRule(rule="sensitivity", level=0.9),
    scores=(SCORE, SCORE.model_copy(update={"protocol": "B"})),
    gains=(),
    golden=(GoldenStudy(shard="test-0.parquet", row=3, num_images=2, probabilities={"Edema": 0.1}),),
    num_bootstrap=1000,
)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(tmp_path)


def test_round_trips(storage: Storage) -> None:
    write_report(storage, REPORT)
    assert load_report(storage) == REPORT
    assert list(load_report(storage).headline.pathologies) == ["Edema", "Atelectasis"]  # not sorted
    assert json.loads(storage.read("report.json").data)["scores"][0]["pathologies"]["Edema"]["auroc"] is None
    with pytest.raises(StaleWriteError):
        write_report(storage, REPORT.model_copy(update={"num_bootstrap": 100}), over=ABSENT)
    assert load_report(storage) == REPORT, "of two evaluations at once the first one's stays"


def test_predictions_round_trip(storage: Storage) -> None:
    table = pa.table({"study_id": ["a"], "label/Edema": pa.array([None], pa.int8())})
    write_predictions(storage, table)
    assert load_predictions(storage).equals(table)


def test_another_version_is_refused(storage: Storage) -> None:
    for content, message in (
        (b'{"schema_version": 99}', "found 99, expected 4. Delete it and run evaluate again"),
        (b"{", "file is not JSON"),
        (b"[]", "another schema version"),
        (b'{"schema_version": 4}', "missing configuration field"),
    ):
        storage.write("report.json", content)
        with pytest.raises(UserError, match=message) as error:
            load_report(storage)
        assert "report.json" in str(error.value)
    storage.delete("report.json")
    with pytest.raises(FileNotFoundError):
        load_report(storage)


def test_a_table_is_found_by_its_keys() -> None:
    assert REPORT.headline is REPORT.scores[0]
    assert REPORT.score("all", protocol="B") is REPORT.scores[1]
    common = SCORE.model_copy(update={"subset": "common"})
    images = SCORE.model_copy(update={"unit": "image"})
    report = REPORT.model_copy(update={"scores": (common, images, *REPORT.scores)})
    assert report.headline is REPORT.scores[0]
    assert report.score("all", subset="common") is common
    assert report.score("all", unit="image") is images
    with pytest.raises(KeyError):
        REPORT.score("text")


def test_an_evaluation_whose_predictions_were_deleted_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"predictions\.parquet\. Delete the evaluation's folder"):
        load_predictions(open_storage(tmp_path))
