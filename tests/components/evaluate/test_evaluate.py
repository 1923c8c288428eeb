"""The whole step on a tiny data set: report, decision, MLflow run and registry, twice and beside a deployed model."""

from __future__ import annotations

import base64
import contextlib
import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kfp import dsl
from mlflow import MlflowClient
from sklearn.metrics import roc_auc_score

from components.cxr.bundle import load_bundle
from components.cxr.bundle_info import BUNDLE, TOKENIZER, WEIGHTS
from components.cxr.config import content_hash
from components.cxr.decision import Decision, load_decision
from components.cxr.errors import UserError
from components.cxr.films.pixels import encode_png
from components.cxr.labels import truth_of
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.predictor import answer, condition_of, predict
from components.cxr.operating_points import MODEL_CARD, OPERATING_POINTS, OperatingPoints, load_operating_points
from components.cxr.report import (
    CONDITIONS,
    LEAKY_TEXT,
    Report,
    ThresholdRule,
    load_predictions,
    load_report,
)
from components.cxr.shards import LoadedManifest, read_shard
from components.cxr.storage.pointers import read_pointer, write_pointer
from components.cxr.storage.storage import Root, Storage
from components.cxr.tracking import artifacts
from components.cxr.tracking.journal import DESCRIPTION, append_metrics
from components.cxr.tracking.mlflow_server import tracking_uri
from components.cxr.tracking.outbox import send_outboxes
from components.cxr.tracking.registry import champion_version, set_champion
from components.cxr.tracking.tracking import joined_run, tag_run
from components.cxr.trained_on import TRAINED_ON
from components.evaluate import predict as predict_step
from components.evaluate.__main__ import main
from components.evaluate.calibration import operating_points
from components.evaluate.component import evaluate as component
from components.evaluate.config import EvaluateConfig, TrackingConfig
from components.evaluate.evaluate import run
from components.evaluate.log import headline_of, metrics_of

CONFIG = EvaluateConfig(num_bootstrap=200, num_golden=5)
KEY = "trained"
_SUPPORTED = ["pathology/No Finding", "pathology/Edema", "pathology/Pleural Effusion"]


class World(NamedTuple):
    """A root in which the fitted bundle was trained and evaluated once."""

    root: Root
    bundle: Storage
    report: Report
    decision: Decision
    evaluation: Storage
    run_id: str


@pytest.fixture(scope="module")
def world(tiny_data: LoadedManifest, fitted_bundle: Storage, tmp_path_factory: pytest.TempPathFactory) -> World:
    """As training leaves it: a finished run, its journal with a line that MLflow never got, and the bundle."""
    root = Root(tmp_path_factory.mktemp("root"))
    journal = Path(root.checkpoints(KEY).uri, "metrics.jsonl")
    with joined_run(root, experiment="of training", journal=journal) as training:
        training.metrics({"train/loss": 0.5}, step=1)
    append_metrics(journal, {"train/loss": 0.25}, step=2, time_ms=1)
    assert training.id is not None
    bundle = root.bundle(KEY)
    bundle.upload_folder(Path(fitted_bundle.uri))
    _edit(bundle, mlflow_run_id=training.id)
    found = run(CONFIG, root=root, manifest=tiny_data, bundle=bundle)
    return World(root, bundle, *found, training.id)


def test_report_and_decision_are_what_the_files_say(world: World) -> None:
    assert load_report(world.evaluation) == world.report
    assert load_decision(world.evaluation) == world.decision
    assert list(world.report.headline.pathologies) == ["No Finding", "Edema", "Pleural Effusion", "Fracture"]


def test_auroc_is_sklearns_on_the_predictions(world: World) -> None:
    table = load_predictions(world.evaluation)
    for condition in CONDITIONS:
        for protocol in ("A", "B"):
            found = world.report.score(condition, protocol=protocol).pathologies["Edema"]
            rows = [row for row in table.to_pylist() if row["condition"] == condition and row["labeled"]]
            if protocol == "B":
                rows = [row for row in rows if row["label/Edema"] in (0, 1) or row["label/No Finding"] == 1]
                assert any(row["label/Edema"] is None for row in rows), "a blank counts beside No Finding"
            truth = [row["label/Edema"] == 1 and row["label/No Finding"] != 1 for row in rows]
            assert found.auroc == pytest.approx(roc_auc_score(truth, [row["score/Edema"] for row in rows]))
            assert found.positives + found.negatives == len(rows)


def test_what_is_undefined_is_none(world: World) -> None:
    headline = world.report.headline
    assert headline.pathologies["Fracture"].auroc is None
    assert headline.mean.pathologies == ("No Finding", "Edema", "Pleural Effusion")
    assert headline.pathologies["Fracture"].unknown == 4  # studies without labels


def test_subsets_and_units_count_what_they_should(world: World) -> None:
    """10 of 40 test studies have no text, and 8 have two films."""
    assert (world.report.headline.num_studies, world.report.headline.num_patients) == (40, 20)
    assert world.report.score("text", subset="common").num_studies == 30
    by_image = world.report.score("image", unit="image")
    assert (by_image.num_rows, by_image.num_studies) == (48, 40)


def test_the_fitted_model_reads_films_and_metadata_tells_nothing(world: World) -> None:
    assert world.report.score("image").mean.auroc > 0.7
    meta = world.report.score("meta").mean.intervals["auroc"]
    assert meta is not None
    assert meta.low < 0.5 < meta.high


def test_golden_studies_are_answers_that_a_server_would_give(world: World, tiny_data: LoadedManifest) -> None:
    bundle, points = load_bundle(world.bundle), _points(world)
    studies = StudyDataset(tiny_data, splits=["test"], text=bundle.info.text)
    assert len(world.report.golden) == 5
    assert {golden.num_images for golden in world.report.golden} == {1, 2}
    for golden in world.report.golden:
        s = studies.places.index((golden.shard, golden.row, golden.num_images))
        found = answer(bundle, predict(bundle, [studies[s]]), points, condition=condition_of(studies[s]))
        probabilities = {name: one.probability for name, one in found.items()}
        assert probabilities == pytest.approx(golden.probabilities, abs=1e-5)


def test_operating_points_come_from_validation(world: World, tiny_data: LoadedManifest) -> None:
    bundle = load_bundle(world.bundle)
    studies = StudyDataset(tiny_data, splits=["validate"], text=bundle.info.text)
    truth_SP = truth_of(studies.states_SP, studies.labeled_S, protocol="A")
    found = _points(world)
    for condition in CONDITIONS:
        score_SP = predict(bundle, list(studies), condition=condition).score_SP
        expected = operating_points(score_SP, truth_SP, pathologies=bundle.info.pathologies, rule=ThresholdRule())
        for name, point in found.conditions[condition].items():
            assert point.threshold == pytest.approx(expected[name].threshold, abs=1e-4)
            assert point.calibration.slope == pytest.approx(expected[name].calibration.slope, abs=1e-3)
            assert world.report.score(condition).pathologies[name].threshold == point.threshold


def test_the_evaluation_has_operating_points_and_a_card_without_ids(world: World) -> None:
    assert set(_points(world).conditions) == set(CONDITIONS)
    assert {name.partition("/")[0] for name in world.bundle.sizes()} == {BUNDLE, TOKENIZER, TRAINED_ON, WEIGHTS}
    card = world.evaluation.read(MODEL_CARD).data.decode()
    assert f"`{world.report.bundle_hash}`" in card
    assert f"| Edema | {world.report.headline.pathologies['Edema'].auroc:.3f} |" in card
    assert "| Fracture | – | – | – |" in card
    assert "Not a medical device" in card
    assert "patient-" not in card
    assert "study-" not in card
    assert world.report.bundle_hash == load_bundle(world.bundle).hash


def test_everything_is_in_the_trainings_run(world: World) -> None:
    client = MlflowClient(tracking_uri(world.root))
    experiment = client.get_experiment_by_name("of training")
    (only,) = client.search_runs([experiment.experiment_id])
    assert only.info.run_id == world.run_id
    assert only.info.status == "FINISHED"
    metrics, headline = only.data.metrics, world.report.headline
    assert metrics["test/auroc/Edema"] == headline.pathologies["Edema"].auroc
    interval = headline.mean.intervals["auroc"]
    assert (metrics["test/auroc"], metrics["test/auroc_low"]) == (headline.mean.auroc, interval.low)
    assert metrics["test/image/auroc_high"] == world.report.score("image").mean.intervals["auroc"].high
    assert "test/auroc/Fracture" not in metrics
    assert sum(name.startswith("test/") for name in metrics) <= 21, "the rest is in tables"
    losses = {found.step: found.value for found in client.get_metric_history(world.run_id, "train/loss")}
    assert losses == {1: 0.5, 2: 0.25}
    assert "| Edema |" in only.data.tags["mlflow.note.content"]
    names = [item.path for item in client.list_artifacts(world.run_id, "evaluation")]
    expected = ["MODEL_CARD.md", "all_scores.csv", "conditions.csv", "confusion.png", "decision.json", "history.csv"]
    expected += ["pathologies.csv", "precision_recall.png", "predictions.parquet", "reliability.csv", "reliability.png"]
    expected += ["report.json", "roc.png", "subgroups.csv", "uncertain.csv"]
    assert names == [f"evaluation/{name}" for name in expected]


def test_scores_are_the_models_on_its_test_data(world: World, tiny_data: LoadedManifest) -> None:
    """What the model's page and the registry show."""
    client = MlflowClient(tracking_uri(world.root))
    version = client.get_model_version_by_alias("cxrflow", "challenger")
    model = client.get_logged_model(version.source.removeprefix("models:/"))
    (test,) = client.get_run(world.run_id).inputs.dataset_inputs
    assert test.dataset.name == f"{Path(world.root.uri).name} test"
    assert test.dataset.digest == content_hash(*(s.sha256 for s in tiny_data.manifest.shards_of("test")))
    assert {tag.key: tag.value for tag in test.tags} == {"mlflow.data.context": "test"}
    scores = {metric.key: metric for metric in model.metrics}
    assert scores.keys() == metrics_of(world.report).keys()
    headline = scores["test/auroc"]
    assert headline.value == world.report.headline.mean.auroc
    assert (headline.dataset_name, headline.dataset_digest) == (test.dataset.name, test.dataset.digest)
    assert (model.name, model.source_run_id) == ("cxrflow", world.run_id)
    assert model.params["architecture.vision.model_type"] == "resnet"
    assert model.params["pixels.size"] == "32"
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "cxrflow", "version": 1}]
    assert version.description == model.tags["mlflow.note.content"]
    assert "load_model" in client.get_registered_model("cxrflow").description


def test_predictions_in_mlflow_hold_no_ids_and_give_the_same_scores(world: World, tmp_path: Path) -> None:
    client = MlflowClient(tracking_uri(world.root))
    file = client.download_artifacts(world.run_id, "evaluation/predictions.parquet", str(tmp_path))
    found, told = pq.read_table(file), load_predictions(world.evaluation)
    assert {"patient_id", "study_id"}.isdisjoint(found.column_names)
    assert not [field.name for field in found.schema if field.type == pa.string() and field.name != "condition"]
    for number, name in (("patient", "patient_id"), ("study", "study_id")):
        pairs = set(zip(found.column(number).to_pylist(), told.column(name).to_pylist(), strict=True))
        assert len(pairs) == len(set(told.column(name).to_pylist()))
        assert {pair[0] for pair in pairs} == set(range(1, len(pairs) + 1))
    assert found.column("score/Edema").equals(told.column("score/Edema"))


def test_tables_in_mlflow_have_every_metric_with_its_bounds(world: World, tmp_path: Path) -> None:
    client = MlflowClient(tracking_uri(world.root))
    file = client.download_artifacts(world.run_id, "evaluation/all_scores.csv", str(tmp_path))
    rows = list(csv.DictReader(Path(file).read_text().splitlines()))
    assert len(rows) == sum(len(score.pathologies) + 1 for score in world.report.scores)
    (row,) = [
        row for row in rows
        if (row["condition"], row["protocol"], row["unit"], row["subset"]) == ("image", "B", "study", "all")
        and row["pathology"] == "Edema"
    ]  # fmt: skip
    edema = world.report.score("image", protocol="B").pathologies["Edema"]
    assert float(row["recall"]) == edema.recall
    assert float(row["recall_high"]) == edema.intervals["recall"].high
    assert int(row["positives"]) == edema.positives


def _rows(world: World, name: str, folder: Path) -> list[dict[str, str]]:
    client = MlflowClient(tracking_uri(world.root))
    file = client.download_artifacts(world.run_id, f"evaluation/{name}.csv", str(folder))
    return list(csv.DictReader(Path(file).read_text().splitlines()))


def test_subgroups_history_third_state_and_reliability_are_tables_too(world: World, tmp_path: Path) -> None:
    report = world.report
    assert report.history is not None
    subgroups = _rows(world, "subgroups", tmp_path)
    assert [(row["attribute"], row["group"]) for row in subgroups] == [(g.attribute, g.group) for g in report.subgroups]
    history = {(row["of"], row["score"], row["pathology"]): row for row in _rows(world, "history", tmp_path)}
    images = history["image", "balanced_auroc", "mean"]
    assert float(images["value"]) == report.history.balanced["image"].value
    assert history["image over context", "balanced_auroc", "mean"]["value"] != images["value"]
    uncertain = {row["pathology"]: row for row in _rows(world, "uncertain", tmp_path)}
    effusion = report.uncertain["Pleural Effusion"]
    assert int(uncertain["Pleural Effusion"]["label_-1_answer_1"]) == effusion.confusion[0][2]
    assert sum(int(n) for name, n in uncertain["Pleural Effusion"].items() if "_answer_" in name) == sum(
        map(sum, effusion.confusion)
    )
    reliability = {row["pathology"]: row for row in _rows(world, "reliability", tmp_path)}
    assert float(reliability["Edema"]["ece_before"]) == report.uncalibrated["Edema"].ece
    assert float(reliability["Edema"]["ece_after"]) == report.headline.pathologies["Edema"].ece


def test_under_kubeflow_a_task_logs_into_its_own_run_and_the_headline_into_the_pipelines(
    tiny_data: LoadedManifest, fitted_bundle: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubeflow's MLflow plugin closes the run of the task that trained; what that missed goes to the open one."""
    root = Root(tmp_path / "root")
    with joined_run(root, experiment="kubeflow") as pipeline:
        pass
    client = MlflowClient(tracking_uri(root))
    nested = {"mlflow.parentRunId": pipeline.id}
    experiment = client.get_run(pipeline.id).info.experiment_id
    client.update_run(pipeline.id, status="RUNNING")
    trained, task = (client.create_run(experiment, tags=nested).info.run_id for _ in range(2))
    client.log_metric(trained, "train/loss", 0.5, step=1)
    client.set_terminated(trained)
    bundle = root.bundle(KEY)
    bundle.upload_folder(Path(fitted_bundle.uri))
    _edit(bundle, mlflow_run_id=trained)
    journal = Path(root.checkpoints(KEY).uri, "metrics.jsonl")
    for step in (1, 2):
        append_metrics(journal, {"train/loss": 0.5 / step}, step=step, time_ms=1)
    closed = client.get_run(trained).to_dictionary()

    monkeypatch.setenv("MLFLOW_RUN_ID", task)
    report, _, _ = run(CONFIG, root=root, manifest=tiny_data, bundle=bundle)
    assert client.get_run(trained).to_dictionary() == closed
    own, whole = client.get_run(task), client.get_run(pipeline.id)
    assert metrics_of(report).items() <= own.data.metrics.items()
    assert [found.step for found in client.get_metric_history(task, "train/loss")] == [2]
    assert own.info.status == "RUNNING", "Kubeflow closes it"
    assert whole.data.metrics == headline_of(report)
    assert whole.data.tags["evaluate_run"] == task
    assert whole.data.tags["mlflow.note.content"].startswith("Mean AUROC")
    version = client.get_model_version_by_alias("cxrflow", "challenger")
    assert version.run_id == task

    deploy = client.create_run(experiment, tags=nested).info.run_id
    client.set_terminated(task)
    monkeypatch.setenv("MLFLOW_RUN_ID", deploy)
    tag_run(root, report.mlflow_run_id, {"deployed": "bundle"})
    tags = {one: client.get_run(one).data.tags.get("deployed") for one in (trained, task, deploy, pipeline.id)}
    assert tags == {trained: None, task: None, deploy: "bundle", pipeline.id: "bundle"}


def test_films_go_to_mlflow_only_where_the_configuration_says_so(
    world: World, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    client = MlflowClient(tracking_uri(world.root))
    names = [item.path for item in client.list_artifacts(world.run_id, "evaluation")]
    assert "evaluation/films.png" not in names
    config = CONFIG.model_copy(update={"tracking": TrackingConfig(log_images=True)})
    again = run(config, root=world.root, manifest=tiny_data, bundle=world.bundle)
    assert again.storage.uri == world.evaluation.uri
    sheet = Path(client.download_artifacts(world.run_id, "evaluation/films.png", str(tmp_path))).read_bytes()
    assert sheet[:4] == b"\x89PNG"
    assert len(client.get_metric_history(world.run_id, "test/auroc")) == 1
    client.set_tag(world.run_id, "evaluation", Path(world.evaluation.uri).name)


def test_what_mlflow_missed_of_an_evaluation_is_told_by_the_next_step(
    tiny_data: LoadedManifest,
    fitted_bundle: Storage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Metrics, tags, inputs, artifacts and the registration, once and for the training's run."""
    root = Root(tmp_path / "root")
    with joined_run(root, experiment="of training") as training:
        pass
    bundle = root.bundle(KEY)
    bundle.upload_folder(Path(fitted_bundle.uri))
    _edit(bundle, mlflow_run_id=training.id)
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        away.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        report, decision, storage = run(CONFIG, root=root, manifest=tiny_data, bundle=bundle)
        run(CONFIG, root=root, manifest=tiny_data, bundle=bundle)  # misses the same again
        assert send_outboxes(root, "serve") == {}
    assert decision.registered_model is None
    capsys.readouterr()

    registered = send_outboxes(root, "serve")
    assert f"serve: told MLflow what it missed, outbox/{Path(storage.uri).name}" in capsys.readouterr().out
    found = registered[storage.uri]
    assert (found.name, found.version, found.champion) == ("cxrflow", "1", None)
    client = MlflowClient(tracking_uri(root))
    told = client.get_run(training.id)
    assert told.info.status == "FINISHED"
    assert told.data.metrics == metrics_of(report)
    assert told.data.tags["evaluation"] == Path(storage.uri).name
    assert [each.dataset.name for each in told.inputs.dataset_inputs] == ["root test"]
    names = {Path(item.path).name for item in client.list_artifacts(training.id, "evaluation")}
    assert {"MODEL_CARD.md", "decision.json", "predictions.parquet", "report.json", "roc.png"} <= names
    model = client.get_logged_model(found.model_id)
    assert {metric.key: metric.value for metric in model.metrics} == metrics_of(report)
    assert client.get_model_version("cxrflow", "1").tags["bundle_hash"] == report.bundle_hash

    assert send_outboxes(root, "serve") == {}
    assert not root.storage.child("outbox").sizes()
    again = run(CONFIG, root=root, manifest=tiny_data, bundle=bundle)
    assert again.decision.challenger_version == "1"
    assert len(client.get_metric_history(training.id, "test/auroc")) == 1


def test_a_training_that_mlflow_never_heard_of_is_described_in_its_evaluations_run(
    tiny_data: LoadedManifest, fitted_bundle: Storage, tmp_path: Path
) -> None:
    root = Root(tmp_path / "root")
    bundle, checkpoints = root.bundle(KEY), root.checkpoints(KEY)
    bundle.upload_folder(Path(fitted_bundle.uri))
    _edit(bundle, mlflow_run_id=None)
    description = {"params": {"train.epochs": 18, "train.lr": 0.001}, "tags": {"text_sections": "indication"}}
    checkpoints.write(DESCRIPTION, json.dumps(description).encode())
    append_metrics(Path(checkpoints.uri, "metrics.jsonl"), {"train/loss": 0.25}, step=2, time_ms=1)
    report = run(CONFIG, root=root, manifest=tiny_data, bundle=bundle).report
    found = MlflowClient(tracking_uri(root)).get_run(report.mlflow_run_id)
    assert found.data.params == {"train.epochs": "18", "train.lr": "0.001"}
    assert found.data.tags["text_sections"] == "indication"
    assert found.data.metrics["train/loss"] == 0.25
    contexts = {tag.value for each in found.inputs.dataset_inputs for tag in each.tags}
    assert contexts == {"training", "validation", "test"}


def test_nothing_in_mlflow_holds_an_id(world: World) -> None:
    files = [path for path in Path(world.root.uri, "mlflow").rglob("*") if path.is_file()]
    assert any(path.name == "mlflow.db" for path in files)
    assert not [path.name for path in files if b"test-patient" in path.read_bytes()]
    assert "test-patient-0" in load_predictions(world.evaluation).column("patient_id").to_pylist()


def test_the_decision_is_in_the_run(world: World, tmp_path: Path) -> None:
    client = MlflowClient(tracking_uri(world.root))
    tags = client.get_run(world.run_id).data.tags
    assert (tags["decision"], tags["verdict"], tags["earlier_decisions"]) == ("promoted", "first", "0")
    assert tags["reason"] == world.decision.reason
    assert re.fullmatch(r"passed: \+0\.\d{4} \[.*\], lower end above \+0\.5000", tags["check/floor"])
    artifact = Path(client.download_artifacts(world.run_id, "evaluation/decision.json", str(tmp_path)))
    told = Decision.parse(json.loads(artifact.read_text()), where="the artifact")
    assert told == world.decision


def test_the_first_model_is_promoted_and_registered_as_challenger(world: World) -> None:
    assert world.decision.promoted
    versions = world.decision.registered_model, world.decision.challenger_version
    assert versions == ("cxrflow", "1")
    assert world.decision.champion_version is None
    found = MlflowClient(tracking_uri(world.root)).get_model_version_by_alias("cxrflow", "challenger")
    assert str(found.version) == "1"
    assert found.tags["decision"] == "promoted"
    assert found.tags["bundle_hash"] == world.report.bundle_hash
    assert found.run_id == world.run_id


def test_a_second_evaluation_reuses_the_first(
    world: World, tiny_data: LoadedManifest, capsys: pytest.CaptureFixture[str]
) -> None:
    client = MlflowClient(tracking_uri(world.root))
    report, decision, _ = run(CONFIG, root=world.root, manifest=tiny_data, bundle=world.bundle)
    assert (report, decision) == (world.report, world.decision)
    printed = capsys.readouterr()
    assert f"evaluate: reused evaluations/{Path(world.evaluation.uri).name}" in printed.out
    assert printed.err == ""
    assert len(client.search_model_versions("name = 'cxrflow'")) == 1
    assert len(client.get_metric_history(world.run_id, "test/auroc/Edema")) == 1
    assert client.get_run(world.run_id).info.status == "FINISHED"


def test_another_threshold_rule_needs_no_model_and_changes_nothing_in_service(
    world: World, tiny_data: LoadedManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Root(tmp_path / "root")
    shutil.copytree(world.root.uri, root.uri)
    bundle = root.bundle(KEY)
    _deploy(root, bundle, world.evaluation)
    before = {name: bundle.read(name).data for name in bundle.sizes()}
    monkeypatch.setattr(predict_step, "load_bundle", lambda _: pytest.fail("the model is loaded"))
    other = CONFIG.model_copy(update={"threshold": ThresholdRule(rule="f1"), "num_bootstrap": 150})
    report, decision, evaluation = run(other, root=root, manifest=tiny_data, bundle=bundle)
    assert Path(evaluation.uri).name != Path(world.evaluation.uri).name
    assert report.operating_points_hash != world.report.operating_points_hash
    assert report.headline.mean.auroc == world.report.headline.mean.auroc
    stay = "already deployed, with the operating points of another evaluation, which stay in service."
    assert (decision.promoted, decision.reason) == (False, stay)
    assert {name: bundle.read(name).data for name in bundle.sizes()} == before


def test_the_deployed_model_decides_the_next(
    world: World, tiny_data: LoadedManifest, untrained_bundle: Storage, tmp_path: Path
) -> None:
    root = Root(tmp_path / "root")
    shutil.copytree(world.root.uri, root.uri)
    bundle, evaluation = root.bundle(KEY), root.evaluation(Path(world.evaluation.uri).name)

    _deploy(root, bundle, evaluation)
    _, cut_short, _ = run(CONFIG, root=root, manifest=tiny_data, bundle=bundle)
    assert cut_short.promoted, "deploy runs again to make it MLflow's champion"
    assert "before MLflow's champion was set" in cut_short.reason

    set_champion(root, name="cxrflow", version="1", expected=None)
    _, again, _ = run(CONFIG, root=root, manifest=tiny_data, bundle=bundle)
    assert (again.promoted, again.reason) == (False, "already deployed.")

    worse = root.bundle("worse")
    worse.upload_folder(Path(untrained_bundle.uri))
    _, rejected, evaluation_of_worse = run(CONFIG, root=root, manifest=tiny_data, bundle=worse)
    assert not rejected.promoted
    assert rejected.champion_bundle == world.report.bundle_hash
    assert rejected.difference_ci.high < 0
    assert rejected.challenger_version == "2"
    assert rejected.verdict == "not_shown"
    assert rejected.earlier_decisions == 1, "the first model's, above its floor"
    assert [check.name for check in rejected.checks] == ["mean", "films", "calibration", *_SUPPORTED]

    _deploy(root, worse, evaluation_of_worse)
    _, better, _ = run(CONFIG, root=root, manifest=tiny_data, bundle=bundle)
    assert better.promoted
    assert better.earlier_decisions == 2
    assert better.difference == pytest.approx(-rejected.difference)
    mirrored = zip(better.checks, rejected.checks, strict=True)
    assert all(one.value == pytest.approx(-other.value) for one, other in mirrored), "calibration too"
    assert better.difference_ci.low == pytest.approx(-rejected.difference_ci.high)
    assert load_decision(evaluation) == better

    _deploy(root, worse, evaluation_of_worse, bundle_hash="0" * 64)
    _, changed, _ = run(CONFIG, root=root, manifest=tiny_data, bundle=bundle)
    assert not changed.promoted
    assert "changed after its deployment" in changed.reason

    set_champion(root, name="cxrflow", version="1", expected=None)
    set_champion(root, name="cxrflow", version="1", expected=None)
    assert champion_version(root, "cxrflow") == "1"
    with pytest.raises(UserError, match="another model has become champion") as error:
        set_champion(root, name="cxrflow", version="2", expected=None)
    assert "found version 1, expected no version. Run evaluate again." in str(error.value)
    set_champion(root, name="cxrflow", version="2", expected="1")
    assert champion_version(root, "cxrflow") == "2"


def test_the_registered_model_answers_elsewhere_as_evaluation_did(
    world: World, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    """In another process and folder, without this repository on its path; films go as files."""
    rows, expected = [], []
    for g, golden in enumerate(world.report.golden):
        info = next(shard for shard in tiny_data.manifest.shards if shard.name == golden.shard)
        images = read_shard(tiny_data.storage, info).slice(golden.row, golden.num_images).to_pylist()
        rows += [_row(image, study=f"s{g}") for image in images]
        expected += [golden.probabilities] * len(images)
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    program = """
import json, sys, warnings
warnings.simplefilter("ignore")
import mlflow, pandas
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/cxrflow@challenger", suppress_warnings=True)
import components
assert "artifacts" in components.__file__, components.__file__
frame = pandas.DataFrame(json.load(open("rows.json")))
print(model.predict(frame).to_json(orient="records"))
"""
    command = [sys.executable, "-c", program, tracking_uri(world.root)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=_environment())
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])
    for one, other in zip(found, expected, strict=True):
        assert one.pop("in_distribution") is None, "too few films for a check"
        assert one == pytest.approx(other, abs=1e-5)


def test_the_docs_snippet_answers_for_any_form_of_a_row(
    world: World, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    """As written but for address, alias and film; in a clean process, in a folder where it leaves nothing."""
    golden = next(golden for golden in world.report.golden if golden.num_images == 1)
    info = next(shard for shard in tiny_data.manifest.shards if shard.name == golden.shard)
    (image,) = read_shard(tiny_data.storage, info).slice(golden.row, 1).to_pylist()
    row = _row(image, study="s")
    (tmp_path / "here").mkdir()
    film = tmp_path / "film.png"
    film.write_bytes(base64.b64decode(row["film"]))
    docs = Path(__file__).parents[3].joinpath("docs", "running.md").read_text()
    (snippet,) = re.findall(r"```python\n(import mlflow\n.*?)```", docs, re.DOTALL)
    uri = next(iter(re.findall(r'"(sqlite:[^"]+)"', snippet)))
    program = snippet.replace(uri, tracking_uri(world.root)).replace("@champion", "@challenger")
    assert "film.dcm" in program
    program = (
        "import warnings\nwarnings.simplefilter('ignore')\n"
        + program.replace("film.dcm", str(film))
        + f"""
import json
row = {row!r}
given = dict(row, age_years=row["age_years"] and int(row["age_years"]))
lower = dict(given, view_position=str(row["view_position"] or "").lower(), sex=str(row["sex"] or "").lower())
forms = [row, given, lower, dict(given, film=open({str(film)!r}, "rb").read()), dict(given, film={str(film)!r})]
answers = [model.predict(pd.DataFrame([form])) for form in forms] + [model.predict(given)]
empty = model.predict(pd.DataFrame([row])[:0])
assert (len(empty), list(empty.columns)) == (0, list(answers[0].columns))
example = model.predict(model.input_example)
assert len(example) == 1
print(json.dumps([answer.to_dict("records")[0] for answer in answers]))
"""
    )
    here, environment = tmp_path / "here", _environment()
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.strip().splitlines()[-1])
    assert len(answers) == 6
    for found in answers:
        assert found.pop("in_distribution") is None
        assert found == pytest.approx(golden.probabilities, abs=1e-5)
    assert list(here.iterdir()) == [], "no mlflow.db is left behind"


@pytest.mark.slow
def test_mlflows_scoring_server_answers_as_evaluation_did(
    world: World, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    golden = next(golden for golden in world.report.golden if golden.num_images == 1)
    info = next(shard for shard in tiny_data.manifest.shards if shard.name == golden.shard)
    (image,) = read_shard(tiny_data.storage, info).slice(golden.row, 1).to_pylist()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/cxrflow@challenger"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # MLflow starts uvicorn by name
    environment = _environment() | {"MLFLOW_TRACKING_URI": tracking_uri(world.root), "PATH": path}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 300
        while True:
            assert server.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/ping"):
                break
            time.sleep(0.5)
        (found,) = _scored(port, [_row(image, study="s")])["predictions"]
        assert found.pop("in_distribution") is None
        assert found == pytest.approx(golden.probabilities, abs=1e-5)
        film = tmp_path / "film.png"
        film.write_bytes(base64.b64decode(_row(image, study="s")["film"]))
        with pytest.raises(urllib.error.HTTPError) as refused:
            _scored(port, [{"film": str(film)}])
        refused.value.close()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def _scored(port: int, records: list[dict[str, Any]]) -> Any:
    data = json.dumps({"dataframe_records": records}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def test_without_a_server_the_decision_is_made_all_the_same(
    world: World,
    tiny_data: LoadedManifest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    _, decision, _ = run(CONFIG, root=world.root, manifest=tiny_data, bundle=world.bundle)
    assert decision.promoted
    assert decision.challenger_version is None
    warning = "warning: MLflow does not answer at http://127.0.0.1:9; going on without it\n"
    assert capsys.readouterr().err == warning


def test_the_command_line_takes_the_newest_results(world: World, tiny_data: LoadedManifest, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"root: {world.root.uri}\nevaluate: {{num_bootstrap: 200}}\n")
    write_pointer(world.root, "manifest", tiny_data.storage.uri)
    write_pointer(world.root, "bundle", world.bundle.uri)
    main(config, ["evaluate.num_golden=5"])
    assert read_pointer(world.root, "evaluation", made_by="evaluate") == world.evaluation.uri


def test_kfp_gets_metrics_a_curve_and_a_confusion_matrix(
    world: World, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    manifest, bundle, evaluation = (dsl.Artifact(uri=str(tmp_path / name)) for name in ("m", "b", "e"))
    artifacts.point(manifest, tiny_data.storage)
    artifacts.point(bundle, world.bundle)
    metrics, curve, page = dsl.Metrics(), dsl.ClassificationMetrics(), dsl.HTML(uri=str(tmp_path / "page" / "page"))
    promoted = component.python_func(
        world.root.uri, CONFIG.model_dump(mode="json"), manifest, bundle, evaluation, metrics, curve, page
    )
    assert promoted is world.decision.promoted
    assert metrics.metadata["mean AUROC"] == world.report.headline.mean.auroc
    assert metrics.metadata["Edema"] == world.report.headline.pathologies["Edema"].auroc
    assert {"confidenceThreshold", "recall", "falsePositiveRate"} == set(curve.metadata["confidenceMetrics"][0])
    rows = [row["row"] for row in curve.metadata["confusionMatrix"]["rows"]]
    scores = world.report.headline.pathologies.values()
    assert sum(rows[1]) == sum(score.positives for score in scores if score.auroc is not None)
    assert sum(rows[0]) == sum(score.negatives for score in scores if score.auroc is not None)
    assert json.dumps([metrics.metadata, curve.metadata], allow_nan=False)
    html = Path(page.path).read_text()
    assert f"Mean AUROC {world.report.headline.mean.auroc:.3f}" in html
    assert "<td>Edema" in html
    figures = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    assert [base64.b64decode(figure)[:4] for figure in figures] == [b"\x89PNG"] * 4
    assert not re.search(r"https?://|<script|test-patient", html)


@pytest.mark.parametrize(
    ("edit", "config", "message"),
    [
        ({"pathologies": ["No Finding", "Edema", "Pneumonia", "Fracture"]}, CONFIG, "different pathologies"),
        ({}, EvaluateConfig(headline=("Edma",)), "unknown pathology: evaluate.headline; found Edma"),
    ],
)
def test_a_bundle_that_does_not_fit_is_refused(
    world: World,
    tiny_data: LoadedManifest,
    tmp_path: Path,
    edit: dict[str, Any],
    config: EvaluateConfig,
    message: str,
) -> None:
    root = Root(tmp_path)
    bundle = root.bundle(KEY)
    bundle.upload_folder(Path(world.bundle.uri))
    _edit(bundle, **edit)
    with pytest.raises(UserError, match=message):
        run(config, root=root, manifest=tiny_data, bundle=bundle)
    assert not root.storage.sizes("evaluations")


def test_metrics_of_a_leaky_model_have_names_of_their_own(world: World) -> None:
    leaky = metrics_of(world.report.model_copy(update={"leaks": (LEAKY_TEXT,)}))
    assert set(leaky) == {f"LEAKY/{name}" for name in metrics_of(world.report)}


def _points(world: World) -> OperatingPoints:
    return load_operating_points(world.evaluation, bundle_hash=world.report.bundle_hash)


def _edit(bundle: Storage, **values: Any) -> None:
    found = json.loads(bundle.read(BUNDLE).data)
    bundle.write(BUNDLE, json.dumps(found | values).encode())


def _deploy(root: Root, bundle: Storage, evaluation: Storage, *, bundle_hash: str | None = None) -> None:
    """As deployment leaves it: the operating points beside the model, and a pointer."""
    report = load_report(evaluation)
    bundle.write(OPERATING_POINTS, evaluation.read(OPERATING_POINTS).data)
    points = {"operating_points_hash": report.operating_points_hash}
    values = {"bundle": bundle.uri, "bundle_hash": bundle_hash or report.bundle_hash}
    root.deployed().write("current.json", json.dumps(values | points).encode())


def _row(image: dict[str, Any], *, study: str) -> dict[str, Any]:
    film = encode_png(np.frombuffer(image["pixels"], np.uint8).reshape(32, 32))
    return {
        "film": base64.b64encode(film).decode(),
        "view_position": image["view_position"],
        "study": study,
        "text": image["text_indication"],
        "age_years": image["age_years"],
        "sex": image["sex"],
    }


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
