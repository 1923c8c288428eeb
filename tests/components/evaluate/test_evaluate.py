"""The whole step on a model that was fitted to its films: what it writes, reuses, promotes and refuses."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl
from mlflow import MlflowClient
from sklearn.metrics import roc_auc_score

from components.cxr.bundle import load_bundle
from components.cxr.bundle_info import BUNDLE, TOKENIZER, WEIGHTS
from components.cxr.decision import load_decision
from components.cxr.errors import UserError
from components.cxr.labels import truth_of
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.predictor import answer, condition_of, predict
from components.cxr.operating_points import MODEL_CARD, OPERATING_POINTS, OperatingPoints, load_operating_points
from components.cxr.report import (
    CONDITIONS,
    ThresholdRule,
    load_predictions,
    load_report,
)
from components.cxr.shards import LoadedManifest
from components.cxr.storage.pointers import read_pointer, write_pointer
from components.cxr.storage.storage import Root, Storage
from components.cxr.tracking import artifacts
from components.cxr.tracking.mlflow_server import tracking_uri
from components.cxr.tracking.registry import champion_version, set_champion
from components.cxr.trained_on import TRAINED_ON
from components.evaluate import predict as predict_step
from components.evaluate.__main__ import main
from components.evaluate.calibration import operating_points
from components.evaluate.component import evaluate as component
from components.evaluate.config import EvaluateConfig
from components.evaluate.evaluate import run
from tests.components.evaluate.world import CONFIG, KEY, World, edit_bundle

_SUPPORTED = ["pathology/No Finding", "pathology/Edema", "pathology/Pleural Effusion"]


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
    edit_bundle(bundle, **edit)
    with pytest.raises(UserError, match=message):
        run(config, root=root, manifest=tiny_data, bundle=bundle)
    assert not root.storage.sizes("evaluations")


def _points(world: World) -> OperatingPoints:
    return load_operating_points(world.evaluation, bundle_hash=world.report.bundle_hash)


def _deploy(root: Root, bundle: Storage, evaluation: Storage, *, bundle_hash: str | None = None) -> None:
    """As deployment leaves it: the operating points beside the model, and a pointer."""
    report = load_report(evaluation)
    bundle.write(OPERATING_POINTS, evaluation.read(OPERATING_POINTS).data)
    points = {"operating_points_hash": report.operating_points_hash}
    values = {"bundle": bundle.uri, "bundle_hash": bundle_hash or report.bundle_hash}
    root.deployed().write("current.json", json.dumps(values | points).encode())
