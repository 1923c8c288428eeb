"""Scores against a second truth, on the tiny data set whose raw study ids are `test-study-0` …"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from components.cxr.errors import UserError
from components.cxr.ids import IdKey, hash_id
from components.cxr.report import CONDITIONS, load_predictions
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root, Storage
from components.evaluate.config import EvaluateConfig
from components.evaluate.evaluate import Evaluation, run
from components.evaluate.log import metrics_of
from components.evaluate.table import print_report
from components.evaluate.tables import agreement_table

STUDIES = range(10, 40)
EDEMA = [i % 3 == 0 for i in STUDIES]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 of the 40 test studies and one stranger; Edema and Fracture alone."""
    rows = [
        {"study_id": f"test-study-{i}", "Edema": float(edema), "Fracture": ("1.0", "-1.0", "")[i % 3]}
        for i, edema in zip(STUDIES, EDEMA, strict=True)
    ]
    rows.append({"study_id": "stranger", "Edema": 1.0, "Fracture": ""})
    return write(tmp_path_factory.mktemp("truth") / "radiologist.csv", rows)


def config_of(table: Path) -> EvaluateConfig:
    values = {"num_bootstrap": 200, "second_truth": {"name": "radiologist", "table": str(table)}}
    return EvaluateConfig.parse(values, where="evaluate")


@pytest.fixture(scope="module")
def found(
    table: Path, tiny_data: LoadedManifest, fitted_bundle: Storage, tmp_path_factory: pytest.TempPathFactory
) -> Evaluation:
    return evaluate(table, tiny_data, fitted_bundle, tmp_path_factory.mktemp("root"))


def evaluate(table: Path, data: LoadedManifest, bundle: Storage, folder: Path) -> Evaluation:
    root = Root(folder)
    root.bundle("tiny").upload_folder(Path(bundle.uri))
    return run(config_of(table), root=root, manifest=data, bundle=root.bundle("tiny"))


def test_every_condition_is_scored_on_the_studies_that_it_has(found: Evaluation) -> None:
    rows = load_predictions(found.storage).to_pylist()
    known = {hash_id("study", f"test-study-{i}", IdKey(None)): edema for i, edema in zip(STUDIES, EDEMA, strict=True)}
    for condition in CONDITIONS:
        score = found.report.score(condition, protocol="truth")
        of_condition = [row for row in rows if row["condition"] == condition and row["study_id"] in known]
        truth = [known[row["study_id"]] for row in of_condition]
        auroc = roc_auc_score(truth, [row["score/Edema"] for row in of_condition])
        assert score.pathologies["Edema"].auroc == pytest.approx(auroc)
        assert score.num_studies == 30
    fracture = found.report.score("all", protocol="truth").pathologies["Fracture"]
    assert (fracture.positives, fracture.negatives) == (10, 20)
    assert found.report.headline.protocol == "A"


def test_what_the_table_lacks_is_undefined(found: Evaluation) -> None:
    truth = found.report.second_truth
    assert truth is not None
    assert truth.missing == ("No Finding", "Pleural Effusion")
    effusion = found.report.score("all", protocol="truth").pathologies["Pleural Effusion"]
    assert (effusion.auroc, effusion.positives, effusion.negatives, effusion.unknown) == (None, 0, 0, 30)
    assert set(truth.agreement) == {"Edema", "Fracture"}


def test_agreement_is_of_the_labeled_studies(found: Evaluation) -> None:
    rows = {row["study_id"]: row for row in load_predictions(found.storage).to_pylist()}
    ours, theirs = [], []
    for i, edema in zip(STUDIES, EDEMA, strict=True):
        row = rows[hash_id("study", f"test-study-{i}", IdKey(None))]
        if row["labeled"]:
            ours.append(row["label/Edema"] == 1)
            theirs.append(edema)
    truth = found.report.second_truth
    assert truth is not None
    agreed = truth.agreement["Edema"]
    assert agreed.studies == len(ours) == 27
    assert agreed.kappa == pytest.approx(cohen_kappa_score(ours, theirs))
    assert agreed.second_alone == np.sum(~np.array(ours) & np.array(theirs))


def test_a_person_reads_it_in_the_table_the_card_and_mlflow(
    found: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    print_report(found.report, found.decision)
    printed = capsys.readouterr().out
    assert "Against radiologist on 30 of these studies" in printed
    assert max(map(len, printed.splitlines())) <= 100
    card = found.storage.read("MODEL_CARD.md").data.decode()
    assert "## Against radiologist" in card
    values, truth = metrics_of(found.report), found.report.score("all", protocol="truth").mean
    assert values["test/radiologist/auroc"] == truth.auroc
    assert values["test/radiologist/auroc_low"] == truth.intervals["auroc"].low
    agreed = agreement_table(found.report)
    assert agreed is not None
    assert agreed.column("pathology").to_pylist() == list(found.report.second_truth.agreement)


def test_another_table_is_another_report(
    table: Path, tiny_data: LoadedManifest, fitted_bundle: Storage, tmp_path: Path
) -> None:
    own = tmp_path / "truth.csv"
    own.write_bytes(table.read_bytes())
    first = evaluate(own, tiny_data, fitted_bundle, tmp_path / "root")
    own.write_text(own.read_text().replace("test-study-10,0.0", "test-study-10,1.0"))
    second = evaluate(own, tiny_data, fitted_bundle, tmp_path / "root")
    assert first.storage.uri != second.storage.uri
    positives = [e.report.score("all", protocol="truth").pathologies["Edema"].positives for e in (first, second)]
    assert positives == [10, 11]


def test_what_cannot_be_joined_is_refused(
    table: Path, tiny_data: LoadedManifest, fitted_bundle: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write(tmp_path / "other.csv", [{"study_id": "stranger", "Edema": 1}])
    with pytest.raises(UserError, match="second truth has no test study"):
        evaluate(other, tiny_data, fitted_bundle, tmp_path / "root")
    monkeypatch.setenv("CXRFLOW_ID_KEY", "another key than the data's")
    with pytest.raises(UserError, match="ids were made with another key"):
        evaluate(table, tiny_data, fitted_bundle, tmp_path / "root")


def test_a_table_of_which_few_studies_are_test_studies_is_warned_about(
    tiny_data: LoadedManifest, fitted_bundle: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"study_id": f"test-study-{i}" if i < 19 else f"stranger {i}", "Edema": i % 2} for i in range(40)]
    evaluate(write(tmp_path / "few.csv", rows), tiny_data, fitted_bundle, tmp_path / "root")
    err = capsys.readouterr().err
    assert "warning: 19 of 40 studies of the second truth are test studies" in err
    rows[19]["study_id"] = "test-study-19"
    evaluate(write(tmp_path / "half.csv", rows), tiny_data, fitted_bundle, tmp_path / "root")
    assert "second truth are test studies" not in capsys.readouterr().err
