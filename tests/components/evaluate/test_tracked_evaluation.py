"""What MLflow has of an evaluation, under Kubeflow and after an outage too."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from components.cxr.config import content_hash
from components.cxr.decision import Decision
from components.cxr.report import (
    LEAKY_TEXT,
    load_predictions,
)
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root, Storage
from components.cxr.tracking.journal import DESCRIPTION, append_metrics
from components.cxr.tracking.mlflow_server import tracking_uri
from components.cxr.tracking.outbox import send_outboxes
from components.cxr.tracking.tracking import joined_run, tag_run
from components.evaluate.config import TrackingConfig
from components.evaluate.evaluate import run
from components.evaluate.log import headline_of, metrics_of
from tests.components.evaluate.world import CONFIG, KEY, World, edit_bundle


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
    edit_bundle(bundle, mlflow_run_id=trained)
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


@pytest.mark.parametrize("of_the_environment", [False, True])
def test_what_mlflow_missed_of_an_evaluation_is_told_by_the_next_step(
    of_the_environment: bool,
    tiny_data: LoadedManifest,
    fitted_bundle: Storage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Metrics, tags, inputs, artifacts, the registration: once, for the run of the training or of MLFLOW_RUN_ID."""
    root = Root(tmp_path / "root")
    with joined_run(root, experiment="of training") as training, joined_run(root, experiment="another") as another:
        pass
    run_id = str(another.id if of_the_environment else training.id)
    bundle = root.bundle(KEY)
    bundle.upload_folder(Path(fitted_bundle.uri))
    edit_bundle(bundle, mlflow_run_id=training.id)
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        away.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        if of_the_environment:
            away.setenv("MLFLOW_RUN_ID", run_id)
        report, decision, storage = run(CONFIG, root=root, manifest=tiny_data, bundle=bundle)
        run(CONFIG, root=root, manifest=tiny_data, bundle=bundle)  # misses the same again
        assert send_outboxes(root, "serve") == {}
    assert decision.registered_model is None
    capsys.readouterr()

    with joined_run(root, experiment="of the sender") as sender, monkeypatch.context() as sending:
        sending.setenv("MLFLOW_RUN_ID", str(sender.id))
        registered = send_outboxes(root, "serve")
    assert f"serve: told MLflow what it missed, outbox/{Path(storage.uri).name}" in capsys.readouterr().out
    found = registered[storage.uri]
    assert (found.name, found.version, found.champion) == ("cxrflow", "1", None)
    client = MlflowClient(tracking_uri(root))
    assert not client.get_run(sender.id).data.metrics
    told = client.get_run(run_id)
    assert told.info.status == "FINISHED"
    assert told.data.metrics == metrics_of(report)
    assert told.data.tags["evaluation"] == Path(storage.uri).name
    assert [each.dataset.name for each in told.inputs.dataset_inputs] == ["root test"]
    names = {Path(item.path).name for item in client.list_artifacts(run_id, "evaluation")}
    assert {"MODEL_CARD.md", "decision.json", "predictions.parquet", "report.json", "roc.png"} <= names
    model = client.get_logged_model(found.model_id)
    assert {metric.key: metric.value for metric in model.metrics} == metrics_of(report)
    assert client.get_model_version("cxrflow", "1").tags["bundle_hash"] == report.bundle_hash

    assert send_outboxes(root, "serve") == {}
    assert not root.storage.child("outbox").sizes()
    again = run(CONFIG, root=root, manifest=tiny_data, bundle=bundle)
    assert again.decision.challenger_version == "1"
    assert len(client.get_metric_history(run_id, "test/auroc")) == 1


def test_a_training_that_mlflow_never_heard_of_is_described_in_its_evaluations_run(
    tiny_data: LoadedManifest, fitted_bundle: Storage, tmp_path: Path
) -> None:
    root = Root(tmp_path / "root")
    bundle, checkpoints = root.bundle(KEY), root.checkpoints(KEY)
    bundle.upload_folder(Path(fitted_bundle.uri))
    edit_bundle(bundle, mlflow_run_id=None)
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


def test_metrics_of_a_leaky_model_have_names_of_their_own(world: World) -> None:
    leaky = metrics_of(world.report.model_copy(update={"leaks": (LEAKY_TEXT,)}))
    assert set(leaky) == {f"LEAKY/{name}" for name in metrics_of(world.report)}
