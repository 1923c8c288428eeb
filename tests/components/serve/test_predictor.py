import copy
import dataclasses
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from components.cxr.bundle_info import describe
from components.cxr.errors import UserError
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.films.pixels import encode_png, read_film
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.predictor import answer, predict, shown
from components.cxr.operating_points import MODEL_CARD, OPERATING_POINTS, states_of, write_operating_points
from components.cxr.report import CONDITIONS, load_predictions, write_report
from components.cxr.seal import write_seal
from components.cxr.self_check import SELF_CHECK
from components.cxr.storage.storage import open_storage
from components.cxr.text.text import TextConfig
from components.serve import predictor as predictor_module
from components.serve.answers import model_reply
from components.serve.config import ServeConfig
from components.serve.errors import RequestError
from components.serve.predictor import ReadStudy, StudyPredictor


def test_a_shards_study_gets_evaluations_answer(predictor, study):
    found = predictor.predict(
        [encode_png(film) for film in study.films],
        text=study.text,
        age_years=study.age_years,
        sex=study.sex,
        view_positions=study.view_positions,
    )
    logits = predict(predictor.bundle, [study])
    expected = answer(predictor.bundle, logits, predictor.points, condition="all")
    assert found.condition == "all"
    assert list(found.answers) == list(expected)
    for name, value in expected.items():
        assert found.answers[name].probability == pytest.approx(value.probability, abs=1e-6)
        assert found.answers[name].uncertain == pytest.approx(value.uncertain, abs=1e-6)
        assert found.answers[name].state == value.state
        assert found.answers[name].threshold == value.threshold


def test_studies_in_one_pass_get_the_answers_that_each_gets_alone(predictor, evaluated):
    """Of all kinds of input and any number of films and words, side by side."""
    studies = StudyDataset(evaluated.manifest, splits=["test"], text=TextConfig())
    read = [ReadStudy(shown(studies[i], CONDITIONS[i % len(CONDITIONS)])) for i in range(min(24, len(studies)))]
    read = [one for one in read if one.study.films or one.study.text]
    together = predictor.answer(read)
    assert len({found.condition for found in together}) >= 3
    assert len({len(one.study.films) for one in read}) >= 3
    for one, found in zip(read, together, strict=True):
        (alone,) = predictor.answer([one])
        assert found.condition == alone.condition
        for name, expected in alone.answers.items():
            assert found.answers[name].probability == pytest.approx(expected.probability, abs=1e-6)
            assert found.answers[name].uncertain == pytest.approx(expected.uncertain, abs=1e-6)
            assert found.answers[name].threshold == expected.threshold


def test_a_model_that_answers_with_nan_is_not_served(evaluated, monkeypatch):
    """Were it of one pathology alone."""
    whole = predictor_module.predict

    def broken(*arguments, **settings):
        found = whole(*arguments, **settings)
        found.score_SP[:, 1] = math.nan
        return found

    monkeypatch.setattr(predictor_module, "predict", broken)
    with pytest.raises(UserError, match="model answers with NaN"):
        StudyPredictor(evaluated.bundle, evaluated.evaluation)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_test_study_is_answered_as_in_the_table_of_what_was_given(evaluated, predictor, tmp_path, condition):
    """Each study, cut down to the condition, from films as files; the third state at another threshold for each."""
    told = load_predictions(evaluated.evaluation).to_pylist()
    rows = {(row["study_id"], row["condition"]): row for row in told}
    points = predictor.points.model_copy(
        update={"conditions": {c: _with_open_answers(p, told, c) for c, p in predictor.points.conditions.items()}}
    )
    evaluation = open_storage(tmp_path)
    write_operating_points(evaluation, points)
    evaluation.write(MODEL_CARD, b"")
    evaluation.write(SELF_CHECK, evaluated.evaluation.read(SELF_CHECK).data)
    write_report(evaluation, evaluated.report.model_copy(update={"operating_points_hash": points.hash}))
    write_seal(evaluation, describe(evaluated.bundle).files)
    server = StudyPredictor(evaluated.bundle, evaluation)
    studies = StudyDataset(evaluated.manifest, splits=["test"], text=server.bundle.info.text)
    used, states = Counter(), Counter()
    for study_id, study in zip(studies.study_ids, (shown(s, condition) for s in studies), strict=True):
        if not study.films and not study.text:
            continue
        found = server.predict(
            [encode_png(film) for film in study.films],
            text=study.text,
            age_years=study.age_years,
            sex=study.sex,
            view_positions=study.view_positions,
        )
        used[found.condition] += 1
        row = rows[study_id, found.condition]
        for name, point in points.conditions[found.condition].items():
            score, uncertain = row[f"score/{name}"], row[f"uncertain/{name}"]
            assert found.answers[name].probability == pytest.approx(row[f"probability/{name}"], abs=1e-5)
            assert found.answers[name].state == states_of(score, row[f"probability/{name}"], uncertain, point)
            assert found.answers[name].threshold == point.threshold
            states[found.answers[name].state] += 1
    assert {"all": {"all": 30, "image+meta": 10}, "text": {"text": 30}, "meta": {}}.get(
        condition, {condition: 40}
    ) == used
    assert condition == "meta" or set(states) == {-1, 0, 1}


def _with_open_answers(points, told, condition):
    """The points with a threshold for uncertain that leaves a fifth of the answers open."""
    changed = {}
    for name, point in points.items():
        uncertain = [row[f"uncertain/{name}"] for row in told if row["condition"] == condition]
        changed[name] = point.model_copy(update={"uncertain_threshold": float(np.quantile(uncertain, 0.79))})
    return changed


@pytest.mark.parametrize(
    ("given", "condition"),
    [
        ({}, "image"),
        ({"view_positions": ["PA"]}, "image+meta"),
        ({"age_years": 0.0}, "image+meta"),
        ({"sex": "F"}, "image+meta"),
        ({"text": "cough"}, "all"),
        ({"text": "FINDINGS: Large effusion.", "sex": "M"}, "image+meta"),
    ],
)
def test_a_film_is_judged_by_what_comes_with_it(predictor, png, given, condition):
    found = predictor.predict([png], **given)
    assert found.condition == condition
    for name, point in predictor.points.conditions[condition].items():
        assert found.answers[name].threshold == point.threshold


def test_a_text_alone_is_answered_as_it_was_evaluated(predictor):
    """Text with age and sex and no film was not: the model does not see them."""
    found = predictor.predict([], text="cough fever", age_years=80.0, sex="F")
    assert (found.condition, found.study.age_years, found.study.sex) == ("text", None, None)
    assert found.answers == predictor.predict([], text="cough fever").answers


@pytest.mark.parametrize("preset", ["display", "mimic-jpg"])
def test_pixels_of_a_shard_come_back_unchanged(preset):
    pixels = np.random.default_rng(0).integers(3, 200, (32, 32), dtype=np.uint8)
    film = read_film(encode_png(pixels), preset=PixelPreset(name=preset, size=32))
    np.testing.assert_array_equal(film.pixels, pixels)


def test_without_a_film_the_texts_operating_points_count(predictor):
    found = predictor.predict([], text="cough fever")
    assert found.condition == "text"
    for name, point in predictor.points.conditions["text"].items():
        assert found.answers[name].threshold == point.threshold


def test_of_a_report_only_the_models_sections_are_read(predictor):
    report = "INDICATION: cough, edema\n\nFINDINGS: Large effusion.\n\nIMPRESSION: Effusion."
    found = predictor.predict([], text=report)
    assert found.study.text == "cough, edema"
    assert found.answers == predictor.predict([], text="cough, edema").answers


def test_a_pasted_report_is_read_as_the_training_data_was(predictor):
    as_mimic = copy.copy(predictor)
    info = predictor.bundle.info.model_copy(update={"section_reader": "mimic"})
    as_mimic.bundle = dataclasses.replace(predictor.bundle, info=info)
    report = " INDICATION: cough\n CHEST 2 VIEWS: effusion\n IMPRESSION: Effusion."
    assert predictor.predict([], text=report).study.text == "cough"
    assert as_mimic.predict([], text=report).study.text == "cough CHEST 2 VIEWS: effusion"
    assert model_reply(as_mimic, ServeConfig()).leaky
    assert model_reply(as_mimic, ServeConfig()).section_reader == "mimic"


def test_header_fills_in_what_the_form_leaves_out(predictor, dicom_bytes):
    stored = np.arange(40 * 40, dtype=np.uint16).reshape(40, 40)
    film = dicom_bytes(stored, bits_stored=12, PatientAge="063Y", PatientSex="F", ViewPosition="AP")
    study = predictor.predict([film]).study
    assert (study.age_years, study.sex, study.view_positions) == (63.0, "F", ["AP"])
    study = predictor.predict([film], age_years=0.0, sex="M", view_positions=["LATERAL"]).study
    assert (study.age_years, study.sex, study.view_positions) == (0.0, "M", ["LATERAL"])
    study = predictor.predict([film, film], view_positions=[None, "PA"]).study
    assert study.view_positions == ["AP", "PA"]


def test_the_second_films_header_counts_where_the_first_has_none(predictor, dicom_bytes, png):
    stored = np.arange(40 * 40, dtype=np.uint16).reshape(40, 40)
    film = dicom_bytes(stored, bits_stored=12, PatientAge="006M", PatientSex="M")
    study = predictor.predict([png, film]).study
    assert (study.age_years, study.sex) == (0.5, "M")


def test_metadata_changes_the_answer(predictor, png):
    probabilities = [
        found.answers["Edema"].probability
        for found in (
            predictor.predict([png]),
            predictor.predict([png], age_years=90.0),
            predictor.predict([png], sex="F"),
            predictor.predict([png], view_positions=["LATERAL"]),
        )
    ]
    assert len(set(probabilities)) == 4


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"files": []}, "nothing-to-read"),
        ({"files": [], "text": "  \n"}, "nothing-to-read"),
        ({"files": [], "text": "FINDINGS: Large effusion."}, "nothing-to-read"),
        ({"files": [], "age_years": 40.0, "sex": "F"}, "nothing-to-read"),
        ({"files": [], "text": "cough", "age_years": -1.0}, "bad-age"),
        ({"files": [], "text": "cough", "age_years": 131.0}, "bad-age"),
        ({"files": [], "text": "cough", "age_years": math.nan}, "bad-age"),
        ({"files": [], "text": "cough", "sex": "X"}, "bad-sex"),
        ({"files": [], "text": "cough", "view_positions": ["PA"]}, "bad-view-positions"),
        ({"files": [b"x"], "view_positions": ["PA", "AP"]}, "bad-view-positions"),
        ({"files": [b"x"], "view_positions": ["FRONT"]}, "bad-view-positions"),
        ({"files": [b""]}, "film-empty"),
        ({"files": [b"Jane Doe's film"]}, "film-unknown-format"),
    ],
)
def test_what_makes_no_sense_is_refused(predictor, arguments, code):
    with pytest.raises(RequestError) as caught:
        predictor.predict(**arguments)
    assert (caught.value.status, caught.value.code) == (422, code)
    assert "Jane" not in str(caught.value)
    assert "effusion" not in str(caught.value)


def test_a_bad_film_is_named_by_its_position(predictor, png):
    with pytest.raises(RequestError) as caught:
        predictor.predict([png, png[:40], png])
    assert caught.value.message.startswith("Film 2 of 3 cannot be used: ")


def test_a_bundle_without_operating_points_is_refused(fitted_bundle):
    with pytest.raises(UserError, match=r"no sealed operating points here.*name its folder with --evaluation"):
        StudyPredictor(fitted_bundle)


def test_operating_points_of_another_model_are_refused(untrained_bundle, evaluated):
    with pytest.raises(UserError, match="a file is not the one that was sealed"):
        StudyPredictor(untrained_bundle, evaluated.evaluation)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"Edema"', '"Oedema"', "all; found no Edema"),
        ('"image+meta"', '"image"', r"image\+meta; found no No Finding"),
        ('"slope": ', '"slope": -', r"slope.*greater than 0"),
        ('"threshold": 0.', '"threshold": 7.', r"threshold.*less than or equal to 1"),
    ],
)
def test_operating_points_that_make_no_sense_are_refused(world, old, new, message):
    """Even where the seal is renewed."""
    path = Path(world.evaluation.uri, OPERATING_POINTS)
    path.write_text(path.read_text().replace(old, new))
    write_seal(world.evaluation, describe(world.bundle).files)
    with pytest.raises(UserError, match=message):
        StudyPredictor(world.bundle, world.evaluation)


def test_the_model_answers_on_the_device_that_it_is_given(evaluated) -> None:
    with pytest.raises(RuntimeError, match="meta"):  # a device whose tensors hold nothing that could be answered
        StudyPredictor(evaluated.bundle, evaluated.evaluation, device="meta")
