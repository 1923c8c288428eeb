"""The whole step on a tiny data set: report, decision, MLflow run and registry, twice and beside a deployed model."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from kfp import dsl
from mlflow import MlflowClient
from sklearn.metrics import roc_auc_score

from components.cxr.bundle import load_bundle
from components.cxr.bundle_info import BUNDLE, TOKENIZER, WEIGHTS
from components.cxr.decision import Decision, load_decision
from components.cxr.errors import UserError
from components.cxr.films.pixels import encode_png
from components.cxr.labels import truth_of
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.predictor import answer, predict
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
from components.cxr.tracking.journal import append_metrics
from components.cxr.tracking.mlflow_server import tracking_uri
from components.cxr.tracking.registry import champion_version, set_champion
from components.cxr.tracking.tracking import joined_run
from components.cxr.trained_on import TRAINED_ON
from components.evaluate import predict as predict_step
from components.evaluate.__main__ import main
from components.evaluate.calibration import operating_points
from components.evaluate.component import evaluate as component
from components.evaluate.config import EvaluateConfig
from components.evaluate.evaluate import run
from components.evaluate.log import metrics_of

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
        found = answer(bundle, predict(bundle, [studies[s]]), points, condition="all")
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
    assert only.data.metrics["test/auroc/Edema"] == world.report.headline.pathologies["Edema"].auroc
    assert only.data.metrics["test/auroc/mean_low"] == world.report.headline.mean.intervals["auroc"].low
    assert "test/auroc/Fracture" not in only.data.metrics
    assert only.data.metrics["test/image_meta/common/auroc/mean"] > 0.5
    losses = {found.step: found.value for found in client.get_metric_history(world.run_id, "train/loss")}
    assert losses == {1: 0.5, 2: 0.25}
    assert only.inputs.dataset_inputs[0].dataset.digest == world.report.manifest_hash[:36]
    names = [item.path for item in client.list_artifacts(world.run_id, "evaluation")]
    expected = ["MODEL_CARD.md", "conditions.csv", "confusion.png", "decision.json", "pathologies.csv"]
    expected += ["precision_recall.png"]
    assert names == [f"evaluation/{name}" for name in [*expected, "reliability.png", "roc.png"]]


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
        assert one == pytest.approx(other, abs=1e-5)


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
    metrics, curve = dsl.Metrics(), dsl.ClassificationMetrics()
    promoted = component.python_func(
        world.root.uri, CONFIG.model_dump(mode="json"), manifest, bundle, evaluation, metrics, curve
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
