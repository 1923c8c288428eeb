"""A model on another data set: its own thresholds, that one's labels, and no patient whom its training saw."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from components.cxr.bundle import load_bundle
from components.cxr.errors import UserError
from components.cxr.film_check import FILM_CHECK, FilmCheck
from components.cxr.model.dataset import StudyDataset
from components.cxr.operating_points import load_operating_points, write_operating_points
from components.cxr.report import load_predictions, load_report
from components.cxr.shard_writer import ImageRow, write_shard
from components.cxr.shards import LoadedManifest, SplitCounts, load_manifest, write_manifest
from components.cxr.storage.pointers import write_pointer
from components.cxr.storage.storage import Root, Storage, open_storage
from components.evaluate.config import EvaluateConfig
from components.evaluate.evaluate import run
from components.evaluate.external import evaluate_external, external, mapped_states
from components.evaluate.scored_file import read_scored
from tests.components.conftest import COUNTS, NAMES, _study

CONFIG = EvaluateConfig(num_bootstrap=100)
THEIRS = ("Oedema", "Effusion left", "Effusion right", "Mass")
LABELS = [("Oedema", "Edema"), ("Effusion left", "Pleural Effusion"), ("Effusion right", "Pleural Effusion")]


class Evaluated(NamedTuple):
    """A root with an evaluated model."""

    root: Root
    bundle: Storage
    storage: Storage


@pytest.fixture(scope="module")
def evaluated(tiny_data: LoadedManifest, fitted_bundle: Storage, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    root = Root(tmp_path_factory.mktemp("external") / "root")
    bundle = root.bundle("tiny")
    bundle.upload_folder(Path(fitted_bundle.uri))
    found = run(CONFIG, root=root, manifest=tiny_data, bundle=bundle)
    write_pointer(root, "bundle", bundle.uri)
    return Evaluated(root, bundle, found.storage)


@pytest.fixture(scope="module")
def elsewhere(tiny_data: LoadedManifest, tmp_path_factory: pytest.TempPathFactory) -> LoadedManifest:
    """The same studies under other names, all in one split: effusions by side, and masses that nobody else knows."""
    return _elsewhere(tiny_data, tmp_path_factory.mktemp("elsewhere"), negative=False)


@pytest.fixture(scope="module")
def strangers(tiny_data: LoadedManifest, tmp_path_factory: pytest.TempPathFactory) -> LoadedManifest:
    """Other films of other people who have the same ids."""
    return _elsewhere(tiny_data, tmp_path_factory.mktemp("strangers"), negative=True)


@pytest.fixture(scope="module")
def textless(tiny_data: LoadedManifest, tmp_path_factory: pytest.TempPathFactory) -> LoadedManifest:
    """The same without any text, as most public sets of films are."""
    return _elsewhere(tiny_data, tmp_path_factory.mktemp("textless"), negative=False, texts=False)


def _elsewhere(
    tiny_data: LoadedManifest, folder: Path, *, negative: bool, texts: bool = True, new_ids: bool = False
) -> LoadedManifest:
    rng = np.random.default_rng(7)
    rows = []
    for split, count in COUNTS.items():
        for s in range(count):
            rows += [_renamed(row, s) for row in _study(rng, split, s)]
    if not texts:
        rows = [replace(row, text={}) for row in rows]
    if new_ids:
        rows = [replace(row, patient_id=f"{row.patient_id[:-1]}x") for row in rows]
    if negative:
        rows = [replace(row, pixels=255 - row.pixels) for row in rows]
    manifest = tiny_data.manifest
    shard = write_shard(
        folder / "test-0.parquet", rows, pathologies=THEIRS, preset=manifest.pixel_preset, name="test-0.parquet"
    )
    studies = {row.study_id: row for row in rows}
    counts = SplitCounts(
        patients=len({row.patient_id for row in rows}),
        studies=len(studies),
        images=len(rows),
        labeled_studies=sum(row.labeled for row in studies.values()),
        labels={},
    )
    changed = {"pathologies": THEIRS, "shards": (shard,), "counts": {"test": counts}, "source_hash": "e" * 16}
    write_manifest(open_storage(folder), manifest.model_copy(update=changed))
    return load_manifest(open_storage(folder))


def _renamed(row: ImageRow, s: int) -> ImageRow:
    labels: dict[str, int | None] = {}
    if row.labels:
        sides = {"Effusion left": row.labels["Pleural Effusion"], "Effusion right": row.labels["Pleural Effusion"]}
        if row.labels["Pleural Effusion"] in (1, -1):  # one side is enough
            sides[("Effusion left", "Effusion right")[s % 2]] = 0
        labels = {"Oedema": row.labels["Edema"], **sides, "Mass": 1}
    return replace(row, split="test", labels=labels)


def test_a_study_has_evaluations_scores_and_the_labels_that_mean_the_same(
    evaluated: Evaluated, elsewhere: LoadedManifest
) -> None:
    found = evaluate_external(
        CONFIG, manifest=elsewhere, bundle=evaluated.bundle, evaluation=evaluated.storage, labels=LABELS
    )
    assert found.compared == ("Edema", "Pleural Effusion")
    assert found.condition == "all"
    assert found.left_out == COUNTS["train"] + COUNTS["validate"]
    told = {
        (row["study_id"], row["condition"]): row
        for row in load_predictions(evaluated.storage).to_pylist()
        if row["labeled"]
    }
    rows = found.predictions.to_pylist()
    assert {(row["study_id"], row["condition"]) for row in rows} == told.keys()
    for row in rows:
        evaluation = told[row["study_id"], row["condition"]]
        assert row["patient_id"] == evaluation["patient_id"]
        for name in NAMES:
            assert row[f"probability/{name}"] == pytest.approx(evaluation[f"probability/{name}"], abs=1e-6)
        for name in found.compared:
            assert row[f"label/{name}"] == evaluation[f"label/{name}"]
    assert not {"label/No Finding", "label/Fracture", "label/Mass"} & set(found.predictions.column_names)


def test_the_command_leaves_a_table_to_score_with_the_models_own_thresholds(
    evaluated: Evaluated, elsewhere: LoadedManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"root": evaluated.root.uri, "evaluate": {"num_bootstrap": 100}}))
    before = evaluated.root.storage.sizes()
    labels = [f"{theirs}={ours}" for theirs, ours in LABELS]
    out = tmp_path / "out"
    external(output=str(out), config=config, manifest=elsewhere.storage.uri, overrides=[], label=labels)
    assert evaluated.root.storage.sizes() == before, "nothing is decided or registered"
    printed = capsys.readouterr().out
    assert f"left out {COUNTS['train'] + COUNTS['validate']} studies" in printed
    assert "Mean of 2" in printed
    points = load_operating_points(evaluated.storage, bundle_hash=None)
    read = read_scored(str(out / "predictions.parquet"), condition="image")
    assert read.findings == ("Edema", "Pleural Effusion")
    assert read.threshold_P == tuple(points.conditions["image"][name].threshold for name in read.findings)
    scores = json.loads((out / "scores.json").read_text())
    headline = load_report(evaluated.storage).headline.pathologies
    for name, found in scores["findings"].items():
        for metric in ("auroc", "ece", "recall", "threshold"):
            assert found[metric] == pytest.approx(getattr(headline[name], metric), abs=1e-6)
    labeled = {row["study_id"] for row in load_predictions(evaluated.storage).to_pylist() if row["labeled"]}
    assert scores["rows"] == len(labeled)
    assert pq.read_metadata(out / "predictions.parquet").num_rows == 5 * len(labeled)


def test_a_split_that_is_named_twice_counts_once(evaluated: Evaluated, elsewhere: LoadedManifest) -> None:
    arguments: dict[str, Any] = {"manifest": elsewhere, "bundle": evaluated.bundle, "evaluation": evaluated.storage}
    once, twice = (evaluate_external(CONFIG, **arguments, labels=LABELS, splits=["test"] * n) for n in (1, 2))
    assert twice.predictions.equals(once.predictions)
    assert twice.left_out == once.left_out


def test_the_command_writes_into_a_bucket(
    evaluated: Evaluated, elsewhere: LoadedManifest, gcs_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"root": evaluated.root.uri, "evaluate": {"num_bootstrap": 100}}))
    labels = [f"{theirs}={ours}" for theirs, ours in LABELS]
    external(output=f"{gcs_bucket}/out", config=config, manifest=elsewhere.storage.uri, overrides=[], label=labels)
    assert set(open_storage(f"{gcs_bucket}/out").sizes()) == {
        "operating_points.json", "predictions.parquet", "scores.json",
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"], "nothing in a folder gs:"


def test_films_without_texts_are_scored_as_they_would_be_served(
    evaluated: Evaluated, textless: LoadedManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"root": evaluated.root.uri, "evaluate": {"num_bootstrap": 100}}))
    out, labels = tmp_path / "out", [f"{theirs}={ours}" for theirs, ours in LABELS]
    external(output=str(out), config=config, manifest=textless.storage.uri, overrides=[], label=labels)
    assert "by films and metadata, which most of the studies have" in capsys.readouterr().out
    points = load_operating_points(evaluated.storage, bundle_hash=None).conditions["image+meta"]
    for name, found in json.loads((out / "scores.json").read_text())["findings"].items():
        assert found["threshold"] == pytest.approx(points[name].threshold)


def test_films_that_a_server_would_refuse_are_counted_and_scored(
    evaluated: Evaluated, elsewhere: LoadedManifest, film_check: FilmCheck, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with_check = open_storage(tmp_path / "evaluation")
    with_check.upload_folder(Path(evaluated.storage.uri))
    arguments: dict[str, Any] = {"manifest": elsewhere, "bundle": evaluated.bundle, "labels": LABELS}
    with_check.delete(FILM_CHECK)
    plain = evaluate_external(CONFIG, evaluation=with_check, **arguments)
    assert plain.refused is None
    studies = StudyDataset(elsewhere, splits=["test"], text=load_bundle(evaluated.bundle).info.text)
    scored = set(plain.predictions["study_id"].to_pylist())
    worst = {name: film_check.score(studies[s].films).max(initial=-np.inf) for s, name in enumerate(studies.study_ids)}
    limit = float(np.quantile([worst[name] for name in scored], 0.75, method="lower"))
    stricter = replace(film_check, intercept=film_check.intercept - limit)
    with_check.write(FILM_CHECK, stricter.save())
    found = evaluate_external(CONFIG, evaluation=with_check, **arguments)
    assert found.refused == sum(worst[name] > limit + 1e-9 for name in scored)
    assert 0 < found.refused < len(scored) / 3
    assert found.predictions.equals(plain.predictions)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"root": evaluated.root.uri, "evaluate": {"num_bootstrap": 100}}))
    external(
        output=str(tmp_path / "out"), config=config, manifest=elsewhere.storage.uri, overrides=[],
        evaluation=with_check.uri, label=[f"{theirs}={ours}" for theirs, ours in LABELS],
    )  # fmt: skip
    line = f"{found.refused} of {len(scored)} studies have a film that a server takes for no chest film"
    assert line in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"labels": [("Edema", "Edema")]}, "the data set has no such label"),
        ({"labels": [("Oedema", "Oedema")]}, "the model has no such label"),
        ({"labels": []}, "no label in common"),
        ({"labels": LABELS, "splits": ["all"]}, "no such split"),
        ({"labels": LABELS, "splits": ["train"]}, "nothing to evaluate on"),
    ],
)
def test_what_cannot_be_compared_is_one_error(
    arguments: dict[str, Any], match: str, evaluated: Evaluated, elsewhere: LoadedManifest
) -> None:
    with pytest.raises(UserError, match=match):
        evaluate_external(
            CONFIG, manifest=elsewhere, bundle=evaluated.bundle, evaluation=evaluated.storage, **arguments
        )


def test_films_of_another_preset_are_not_scored(evaluated: Evaluated, elsewhere: LoadedManifest) -> None:
    other = elsewhere._replace(manifest=elsewhere.manifest.model_copy(update={"pixel_preset_hash": "0" * 16}))
    with pytest.raises(UserError, match="pixels"):
        evaluate_external(CONFIG, manifest=other, bundle=evaluated.bundle, evaluation=evaluated.storage, labels=LABELS)


def test_operating_points_of_another_model_judge_nothing(
    evaluated: Evaluated, elsewhere: LoadedManifest, tmp_path: Path
) -> None:
    other = open_storage(tmp_path)
    points = load_operating_points(evaluated.storage, bundle_hash=None)
    write_operating_points(other, points.model_copy(update={"bundle_hash": "0" * 64}))
    with pytest.raises(UserError, match="operating points are of another model"):
        evaluate_external(CONFIG, manifest=elsewhere, bundle=evaluated.bundle, evaluation=other, labels=LABELS)


def test_equal_ids_are_one_person_only_where_that_is_said(evaluated: Evaluated, strangers: LoadedManifest) -> None:
    arguments: dict[str, Any] = {
        "manifest": strangers,
        "bundle": evaluated.bundle,
        "evaluation": evaluated.storage,
        "labels": LABELS,
    }
    assert evaluate_external(CONFIG, **arguments).left_out == 0
    found = evaluate_external(CONFIG, **arguments, same_patients=True)
    assert found.left_out == COUNTS["train"] + COUNTS["validate"]
    other_key = strangers.manifest.model_copy(update={"id_key_fingerprint": "k" * 16})
    arguments["manifest"] = strangers._replace(manifest=other_key)
    with pytest.raises(UserError, match="ids were hashed under another key"):
        evaluate_external(CONFIG, **arguments, same_patients=True)


def test_a_known_film_under_another_id_is_left_out_whatever_is_said_of_ids(
    evaluated: Evaluated, tiny_data: LoadedManifest, tmp_path: Path
) -> None:
    manifest = _elsewhere(tiny_data, tmp_path, negative=False, new_ids=True)
    arguments: dict[str, Any] = {"manifest": manifest, "bundle": evaluated.bundle, "evaluation": evaluated.storage}
    for same in (False, True):
        found = evaluate_external(CONFIG, **arguments, labels=LABELS, same_patients=same)
        assert found.left_out == COUNTS["train"] + COUNTS["validate"]


def test_a_label_that_is_no_pair_is_one_error(evaluated: Evaluated, elsewhere: LoadedManifest, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"root": evaluated.root.uri}))
    for text in ("Oedema", "Oedema=", "=Edema"):
        with pytest.raises(UserError, match="no pair of labels"):
            external(
                output=str(tmp_path / "out"), config=config, manifest=elsewhere.storage.uri, overrides=[], label=[text]
            )
    assert not (tmp_path / "out").exists()


def test_no_finding_is_denied_by_a_finding_under_another_name() -> None:
    state_ST = np.array([[-2, 1], [1, 0], [-2, 0]], dtype=np.int8)
    sources = {"No Finding": ["Normal"], "Edema": ["Oedema"]}
    state_SP = mapped_states(state_ST, names=["Normal", "Oedema"], sources=sources, pathologies=["No Finding", "Edema"])
    assert state_SP.tolist() == [[0, 1], [1, 0], [-2, 0]]


def test_of_two_labels_of_one_pathology_the_most_alarming_counts() -> None:
    pairs = [(1, -1), (-1, 1), (-1, 0), (0, -1), (-1, -2), (0, 0), (0, -2)]
    sources = {"Lung Lesion": ["Mass", "Nodule"]}
    state_SP = mapped_states(
        np.array(pairs, dtype=np.int8), names=["Mass", "Nodule"], sources=sources, pathologies=["Lung Lesion"]
    )
    assert state_SP[:, 0].tolist() == [1, 1, -1, -1, -1, 0, -2]
