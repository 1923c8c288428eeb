"""The first half of evaluation: what is there is not run again, and the patients of the training are recognized."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.cxr.bundle import load_bundle, save_bundle
from components.cxr.bundle_info import BUNDLE, describe
from components.cxr.labels import derive_no_finding
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.predictor import predict as answer_for
from components.cxr.operating_points import write_operating_points
from components.cxr.shards import LoadedManifest, label_states, read_shard
from components.cxr.storage.storage import Root, Storage, open_storage
from components.cxr.trained_on import trained_on
from components.evaluate import champion
from components.evaluate import predict as step
from components.evaluate.champion import compare
from components.evaluate.config import EvaluateConfig
from components.evaluate.predict import predict
from components.evaluate.predictions import PASSES, TRAITS, Pass, Predictions
from components.evaluate.promotion import decide
from components.evaluate.score import Assessment, score
from components.evaluate.subgroups import groups_of

CONFIG = EvaluateConfig(num_bootstrap=100, num_golden=2)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    return open_storage(tmp_path_factory.mktemp("predictions"))


@pytest.fixture(scope="module")
def predictions(tiny_data: LoadedManifest, untrained_bundle: Storage, storage: Storage) -> Predictions:
    return _predict(storage, untrained_bundle, tiny_data)


def test_scores_and_labels_are_those_of_the_study_that_they_name(
    predictions: Predictions, tiny_data: LoadedManifest, untrained_bundle: Storage
) -> None:
    """From the shards again: the labels of each study by its id, and the model's answer to that study alone."""
    bundle = load_bundle(untrained_bundle)
    names = bundle.info.pathologies
    for split, facts in (("test", predictions.test), ("validate", predictions.validation)):
        states: dict[str, Any] = {}
        for info in tiny_data.manifest.shards_of(split):
            table = read_shard(tiny_data.storage, info)
            states |= dict(zip(table["study_id"].to_pylist(), label_states(table, names), strict=True))
        expected = derive_no_finding(np.stack([states[study] for study in facts.rows.studies]), pathologies=names)
        assert np.array_equal(facts.rows.states_NP, expected)
        assert len(set(map(tuple, expected.tolist()))) > 5, "the studies differ"
        studies = StudyDataset(tiny_data, splits=[split], text=bundle.info.text)
        place = {study: s for s, study in enumerate(studies.study_ids)}
        for condition in ("all", "text"):
            said = predictions.scores[Pass(split, condition)]
            for row in (0, 7, 19):
                alone = answer_for(bundle, [studies[place[said.studies[row]]]], condition=condition)
                assert said.score_NP[row] == pytest.approx(alone.score_SP[0], abs=1e-5)


def test_what_is_there_is_not_run_again(
    predictions: Predictions,
    tiny_data: LoadedManifest,
    untrained_bundle: Storage,
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = []
    run_model = step.run_model

    def counted(bundle: Any, wanted: Any, **settings: Any) -> Any:
        jobs.extend(job.condition for job in wanted)
        return run_model(bundle, wanted, **settings)

    monkeypatch.setattr(step, "run_model", counted)
    again = _predict(storage, untrained_bundle, tiny_data)
    assert jobs == []
    assert all(np.array_equal(again.scores[job].score_NP, predictions.scores[job].score_NP) for job in PASSES)
    storage.delete("test/image+meta.parquet")
    storage.delete("studies/test.parquet")
    again = _predict(storage, untrained_bundle, tiny_data)
    assert jobs == ["image+meta"], "a run that was cut short goes on where it was"
    assert again.test.rows.studies == predictions.test.rows.studies


def test_what_is_known_of_a_study_is_kept(predictions: Predictions, tiny_data: LoadedManifest) -> None:
    expected: dict[str, tuple[Any, ...]] = {}
    for info in tiny_data.manifest.shards_of("test"):
        for row in read_shard(tiny_data.storage, info).to_pylist():
            expected.setdefault(row["study_id"], tuple(row[name] for name in ("age_years", "sex", "race", "insurance")))
    traits = predictions.test.traits
    assert set(traits) == set(TRAITS)
    found = zip(*(traits[name] for name in ("age_years", "sex", "race", "insurance")), strict=True)
    assert dict(zip(predictions.test.rows.studies, found, strict=True)) == expected
    assert {"PA", "AP"} & set(traits["view"])


def test_every_text_of_the_control_is_another_patients(
    predictions: Predictions, tiny_data: LoadedManifest, untrained_bundle: Storage
) -> None:
    bundle = load_bundle(untrained_bundle)
    studies = StudyDataset(tiny_data, splits=["test"], text=bundle.info.text)
    own, patients = studies.texts(), studies.patient_ids
    shuffled = step._with_other_texts(studies)
    assert sorted(study.text for study in shuffled) == sorted(own)
    writer: dict[str, set[str]] = {}
    for text, patient in zip(own, patients, strict=True):
        writer.setdefault(text, set()).add(patient)
    for study, before, patient in zip(shuffled, own, patients, strict=True):
        assert bool(study.text) == bool(before), "a study without a text stays without one"
        assert not before or writer[study.text] - {patient}
    said = predictions.scores[Pass("shuffled", "all")]
    s = next(s for s, text in enumerate(own) if text != shuffled[s].text)
    assert said.score_NP[s] == pytest.approx(answer_for(bundle, [shuffled[s]]).score_SP[0], abs=1e-5)
    assert [study.text for study in step._with_other_texts(studies)] == [study.text for study in shuffled]


def test_no_patient_of_its_own_test_split_was_trained_on(predictions: Predictions) -> None:
    assert not predictions.test.trained_on_S.any()
    assert predictions.validation.trained_on_S.all(), "the weights are selected on them"


@pytest.mark.parametrize("same_key", [True, False], ids=["same id key", "another id key"])
def test_a_model_trained_on_test_patients_is_never_promoted(
    same_key: bool, tiny_data: LoadedManifest, untrained_bundle: Storage, tmp_path: Path
) -> None:
    """Under another key the patients have other names and only their films can tell."""
    bundle = _knowing(tmp_path / "bundle", untrained_bundle, tiny_data, slice(0, 6), same_key=same_key)
    found = _score(open_storage(tmp_path / "p"), bundle, tiny_data)
    assert found.report.leaks == ("the model was trained or selected on 3 of the 20 test patients",)
    decision = decide(found.report, None, config=CONFIG.promotion)
    assert not decision.promoted
    assert "3 of the 20 test patients (LEAKY)" in decision.reason


def test_a_deployed_model_is_compared_on_the_patients_that_it_does_not_know(
    tiny_data: LoadedManifest, untrained_bundle: Storage, fitted_bundle: Storage, tmp_path: Path
) -> None:
    root = Root(tmp_path / "root")
    challenger = _score(open_storage(tmp_path / "challenger"), fitted_bundle, tiny_data)

    def against(known: slice, name: str) -> Any:
        bundle = _knowing(tmp_path / name, untrained_bundle, tiny_data, known, same_key=True)
        values = {"bundle": bundle.uri, "bundle_hash": describe(bundle).hash, "operating_points_hash": "0"}
        write_operating_points(bundle, challenger.points.model_copy(update={"bundle_hash": values["bundle_hash"]}))
        root.deployed().write("current.json", json.dumps(values).encode())
        return compare(
            CONFIG,
            root=root,
            manifest=tiny_data,
            model=describe(fitted_bundle),
            operating_points=challenger.points.hash,
            predictions=challenger.predictions,
        )

    fair, whole, none = against(slice(0, 20), "some"), against(slice(0, 0), "nobody"), against(slice(0, 40), "all")
    assert whole.left_out == ""
    assert fair.left_out == "without 10 of 20 test patients, on whom it was trained"
    assert fair.mean.difference != whole.mean.difference
    assert "without 10 of 20 test patients" in decide(challenger.report, fair, config=CONFIG.promotion).reason
    decision = decide(challenger.report, none, config=CONFIG.promotion)
    assert not decision.promoted
    assert "it was trained or selected on every test patient" in decision.reason


def test_two_models_are_compared_study_by_study_whoever_is_left_out(
    tiny_data: LoadedManifest, untrained_bundle: Storage, fitted_bundle: Storage, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What reaches the comparison: the same studies of both models, and of every subgroup its own."""
    root = Root(tmp_path / "root")
    challenger = _score(open_storage(tmp_path / "challenger"), fitted_bundle, tiny_data)
    bundle = _knowing(tmp_path / "champion", untrained_bundle, tiny_data, slice(0, 20), same_key=True)
    values = {"bundle": bundle.uri, "bundle_hash": describe(bundle).hash, "operating_points_hash": "0"}
    write_operating_points(bundle, challenger.points.model_copy(update={"bundle_hash": values["bundle_hash"]}))
    root.deployed().write("current.json", json.dumps(values).encode())
    seen: list[Any] = []
    compared = champion.compare_answers

    def watched(*arguments: Any, **settings: Any) -> Any:
        seen.append((arguments, settings))
        return compared(*arguments, **settings)

    monkeypatch.setattr(champion, "compare_answers", watched)
    turned = challenger.predictions.take(list(range(challenger.predictions.num_rows))[::-1])
    compare(
        CONFIG,
        root=root,
        manifest=tiny_data,
        model=describe(fitted_bundle),
        operating_points=challenger.points.hash,
        predictions=turned,
    )
    ((one, other, rows), keys) = seen[0]
    model, deployed = load_bundle(fitted_bundle), load_bundle(bundle)
    studies = StudyDataset(tiny_data, splits=["test"], text=model.info.text)
    place = {study: s for s, study in enumerate(studies.study_ids)}
    for row, study in list(enumerate(rows.studies))[::7]:
        shown = [studies[place[study]]]
        for answers, loaded in ((one, model), (other, deployed)):
            assert answers.score_SP[row] == pytest.approx(answer_for(loaded, shown).score_SP[0], abs=1e-5)
            films = answer_for(loaded, shown, condition="image")
            assert answers.film_SP[row] == pytest.approx(films.score_SP[0], abs=1e-5)
    facts = _predict(open_storage(tmp_path / "challenger"), fitted_bundle, tiny_data).test
    groups = groups_of(facts, pathologies=model.info.pathologies)
    assert len(rows.studies) == 20
    for attribute, of_attribute in groups.items():
        for name, inside_S in of_attribute.items():
            members = {study for study, inside in zip(facts.rows.studies, inside_S, strict=True) if inside}
            found = keys["groups"][f"{attribute}: {name}"]
            assert [study in members for study in rows.studies] == found.tolist()


def test_a_deployed_model_of_other_pixels_is_not_compared(
    tiny_data: LoadedManifest, untrained_bundle: Storage, fitted_bundle: Storage, tmp_path: Path
) -> None:
    root, bundle = Root(tmp_path / "root"), open_storage(tmp_path / "champion")
    bundle.upload_folder(Path(untrained_bundle.uri))
    larger = tiny_data.manifest.pixel_preset.model_copy(update={"size": 2 * tiny_data.manifest.pixel_preset.size})
    preset = {"pixel_preset": larger.model_dump(), "pixel_preset_hash": larger.hash}
    bundle.write(BUNDLE, json.dumps(json.loads(bundle.read(BUNDLE).data) | preset).encode())
    challenger = _score(open_storage(tmp_path / "challenger"), fitted_bundle, tiny_data)
    deployed = describe(bundle).hash
    write_operating_points(bundle, challenger.points.model_copy(update={"bundle_hash": deployed}))
    root.deployed().write("current.json", json.dumps({"bundle": bundle.uri, "bundle_hash": deployed}).encode())
    found = compare(
        CONFIG,
        root=root,
        manifest=tiny_data,
        model=describe(fitted_bundle),
        operating_points=challenger.points.hash,
        predictions=challenger.predictions,
    )
    assert found is not None
    assert "pixel" in str(found.problem)
    assert not decide(challenger.report, found, config=CONFIG.promotion).promoted


def _predict(storage: Storage, bundle: Storage, data: LoadedManifest) -> Predictions:
    return predict(CONFIG, storage=storage, bundle=bundle, model=describe(bundle), manifest=data)


def _score(storage: Storage, bundle: Storage, data: LoadedManifest) -> Assessment:
    found = _predict(storage, bundle, data)
    return score(CONFIG, describe(bundle), found, manifest_hash=data.hash, run_id=None)


def _knowing(folder: Path, like: Storage, data: LoadedManifest, known: slice, *, same_key: bool) -> Storage:
    """A bundle that was trained on some of the test studies, under this id key or another."""
    model, bundle = load_bundle(like), open_storage(folder)
    studies = StudyDataset(data, splits=["test"], text=model.info.text)
    patients = [name if same_key else f"other {name}" for name in studies.patient_ids[known]]
    films = [film for study in list(studies)[known] for film in study.films]
    seen = trained_on(patients, films, manifest_hash=model.info.manifest_hash)
    save_bundle(bundle, info=model.info, models=model.models, tokenizer=model.tokenizer, trained_on=[seen])
    if not same_key:
        values = json.loads(bundle.read(BUNDLE).data) | {"id_key_fingerprint": "0" * 16}
        bundle.write(BUNDLE, json.dumps(values).encode())
    return bundle
