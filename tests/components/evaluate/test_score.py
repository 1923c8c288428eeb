"""The second half of evaluation on scores made up here: 40 patients of 12 studies each, who resemble themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pytest

from components.cxr.bundle_info import Description, describe
from components.cxr.labels import BLANK, UNCERTAIN, truth_of
from components.cxr.operating_points import Calibration
from components.cxr.report import CONDITIONS, Interval, ThresholdRule
from components.cxr.storage.storage import Storage
from components.evaluate.bootstrap import auroc_resamples, interval, mean_resamples
from components.evaluate.calibration import calibrate, operating_points
from components.evaluate.champion import Answers, compare_answers
from components.evaluate.config import EvaluateConfig, SecondTruthConfig
from components.evaluate.gains import gains_of
from components.evaluate.predictions import PASSES, TRAITS, Pass, Predictions, Rows, Scores, Studies, Trait
from components.evaluate.score import Assessment, leaks_of, score
from components.evaluate.subgroups import subgroups_of
from components.evaluate.truth_table import SecondTruth
from components.evaluate.uncertain import uncertain_scores

NAMES = ("No Finding", "Edema", "Pleural Effusion", "Fracture")
NUM_PATIENTS, PER_PATIENT = 40, 12
CONFIG = EvaluateConfig(
    num_bootstrap=300, num_golden=12, second_truth=SecondTruthConfig(name="reader", table="unused.csv")
)


@pytest.fixture(scope="module")
def model(untrained_bundle: Storage) -> Description:
    return describe(untrained_bundle)


@pytest.fixture(scope="module")
def predictions() -> Predictions:
    rng = np.random.default_rng(5)
    test, validation = _studies(rng, "t"), _studies(rng, "v")
    scores = {}
    for i, job in enumerate(PASSES):
        studies = validation if job.rows == "validate" else test
        shift = float(i) if job.rows == "validate" else 0.0  # another calibration and threshold for every condition
        scores[job] = _scores(rng, studies, films=job.rows == "films", shift=shift)
    return Predictions(test, validation, scores)


@pytest.fixture(scope="module")
def truth(predictions: Predictions) -> SecondTruth:
    rows = predictions.test.rows
    rng = np.random.default_rng(6)
    flip = rng.random(rows.states_NP.shape) < 0.03
    states = np.where(flip, 1 - (rows.states_NP == 1), rows.states_NP == 1)
    by_study = {study: tuple(map(int, state)) for study, state in zip(rows.studies[60:], states[60:], strict=True)}
    return SecondTruth("here", NAMES, (), "0" * 64, by_study, num_studies=len(by_study), id_shape="99")


@pytest.fixture(scope="module")
def found(model: Description, predictions: Predictions, truth: SecondTruth) -> Assessment:
    return score(CONFIG, model, predictions, manifest_hash="m", truth=truth, run_id=None)


def test_every_table_is_resampled_by_patient(found: Assessment, predictions: Predictions, truth: SecondTruth) -> None:
    """Studies of one patient resemble each other: drawing studies would give intervals half as wide."""
    assert len({(s.condition, s.protocol, s.unit, s.subset) for s in found.report.scores}) == 5 * 2 * 2 + 1 + 5
    for table in found.report.scores:
        score_NP, rows = _of_table(table, predictions, truth)
        protocol = "B" if table.protocol == "B" else "A"
        truth_NP = truth_of(rows.states_NP, rows.labeled_N, protocol=protocol, pathologies=NAMES)
        by_row_RP = auroc_resamples(
            score_NP, truth_NP, [str(n) for n in range(len(rows.patients))], num_resamples=300, seed=0
        )
        for p, name in enumerate(NAMES):
            reported, narrow = table.pathologies[name].intervals["auroc"], interval(by_row_RP[:, p])
            assert _width(reported) > 1.5 * _width(narrow), (table.condition, table.protocol, table.unit, name)
        assert _width(table.mean.intervals["auroc"]) > 1.5 * _width(interval(mean_resamples(by_row_RP)))
        assert table.num_patients == NUM_PATIENTS - (5 if table.protocol == "truth" else 0)


def test_agreement_and_the_comparison_are_resampled_by_patient(found: Assessment, predictions: Predictions) -> None:
    agreement = found.report.second_truth.agreement["Edema"]
    assert agreement.kappa_ci.low < agreement.kappa < agreement.kappa_ci.high
    rows = predictions.test.rows
    challenger, champion = _two_models(predictions)
    keys = {"pathologies": NAMES, "config": CONFIG, "champion_bundle": "c"}
    whole = compare_answers(challenger, champion, rows, **keys)
    narrow = compare_answers(challenger, champion, replace(rows, patients=rows.studies), **keys)
    assert whole.mean.difference == narrow.mean.difference
    assert _width(whole.mean.ci) > 1.5 * _width(narrow.mean.ci)
    assert _width(whole.pathologies["Edema"].ci) > 1.5 * _width(narrow.pathologies["Edema"].ci)


def test_the_comparison_is_over_the_headline_alone(predictions: Predictions) -> None:
    challenger, champion = _two_models(predictions)
    keys = {"pathologies": NAMES, "champion_bundle": "c"}
    config = CONFIG.model_copy(update={"headline": ("Edema",)})
    found = compare_answers(challenger, champion, predictions.test.rows, config=config, **keys)
    every = compare_answers(challenger, champion, predictions.test.rows, config=CONFIG, **keys)
    assert found.mean.difference == every.pathologies["Edema"].difference != every.mean.difference
    assert found.films.difference == pytest.approx(0.0)
    truth_S = truth_of(predictions.test.rows.states_NP, predictions.test.rows.labeled_N, protocol="A")[:, 1]
    one, other = (_calibration_error(model.probability_SP[:, 1], truth_S) for model in (challenger, champion))
    assert found.ece.difference == pytest.approx(one - other)


def test_a_subgroup_is_compared_by_what_enough_of_its_patients_have(predictions: Predictions) -> None:
    """Of the first half of the patients three have a fracture: their mean is over the other findings."""
    rows = predictions.test.rows
    inside_S = np.arange(len(rows.studies)) < len(rows.studies) // 2
    states_NP = rows.states_NP.copy()
    states_NP[inside_S, 3] = np.arange(int(inside_S.sum())) < 3 * PER_PATIENT
    rows = replace(rows, states_NP=states_NP)
    challenger, champion = _two_models(predictions)
    keys = {"pathologies": NAMES, "champion_bundle": "c", "groups": {"half": inside_S}}
    found = compare_answers(challenger, champion, rows, config=CONFIG, **keys)
    config = CONFIG.model_copy(update={"headline": NAMES[:3]})
    assert found.subgroups == compare_answers(challenger, champion, rows, config=config, **keys).subgroups
    assert "Fracture" in found.pathologies, "of all patients enough have one"


def test_kappa_is_resampled_by_patient(model: Description, predictions: Predictions, truth: SecondTruth) -> None:
    """A reader who disagrees by patient, all of a patient's studies alike."""
    rows = predictions.test.rows
    wrong = {patient for i, patient in enumerate(dict.fromkeys(rows.patients)) if i % 4 == 0}
    states = {
        study: tuple(int((state == 1) != (patient in wrong)) for state in row)
        for study, patient, row in zip(rows.studies, rows.patients, rows.states_NP, strict=True)
    }
    one = score(CONFIG, model, predictions, manifest_hash="m", truth=replace(truth, states=states), run_id=None)
    apart = replace(predictions, test=replace(predictions.test, rows=replace(rows, patients=rows.studies)))
    other = score(CONFIG, model, apart, manifest_hash="m", truth=replace(truth, states=states), run_id=None)
    for name in NAMES:
        by_patient, by_study = (a.report.second_truth.agreement[name] for a in (one, other))
        assert by_patient.kappa == by_study.kappa
        assert _width(by_patient.kappa_ci) > 1.5 * _width(by_study.kappa_ci)


def test_operating_points_are_validations_under_the_same_condition(found: Assessment, predictions: Predictions) -> None:
    rows = predictions.validation.rows
    truth_SP = truth_of(rows.states_NP, rows.labeled_N, protocol="A")
    for condition in CONDITIONS:
        score_SP = predictions.scores[Pass("validate", condition)].score_NP
        expected = operating_points(score_SP, truth_SP, pathologies=NAMES, rule=ThresholdRule())
        assert found.points.conditions[condition] == expected
        for protocol in ("A", "B"):
            pathologies = found.report.score(condition, protocol=protocol).pathologies
            assert [pathologies[n].threshold for n in NAMES] == [expected[n].threshold for n in NAMES]
    thresholds = {found.points.conditions[c]["Edema"].calibration.intercept for c in CONDITIONS}
    assert len(thresholds) == len(CONDITIONS), "the conditions differ in what this test tells apart"
    films = found.report.score("image", unit="image").pathologies["Edema"]
    assert films.threshold == found.points.conditions["image"]["Edema"].threshold


def test_tables_hold_the_metrics_of_calibrated_probabilities(found: Assessment, predictions: Predictions) -> None:
    rows = predictions.test.rows
    positive = rows.states_NP[:, 1] == 1
    for condition in CONDITIONS:
        point = found.points.conditions[condition]["Edema"]
        said = calibrate(predictions.scores[Pass("test", condition)].score_NP[:, 1], point.calibration)
        edema = found.report.score(condition).pathologies["Edema"]
        assert edema.brier == pytest.approx(((said - positive) ** 2).mean())
        assert edema.recall == pytest.approx((said[positive] >= point.threshold).mean())
        assert edema.intervals["brier"].low < edema.brier < edema.intervals["brier"].high


def test_reliability_is_told_before_and_after_calibration(found: Assessment, predictions: Predictions) -> None:
    positive = predictions.test.rows.states_NP[:, 1] == 1
    raw = calibrate(predictions.scores[Pass("test", "all")].score_NP[:, 1], Calibration())
    before, after = found.report.uncalibrated["Edema"], found.report.headline.pathologies["Edema"]
    assert before.brier == pytest.approx(((raw - positive) ** 2).mean())
    assert before.brier_ci.low < before.brier < before.brier_ci.high
    assert before.brier != pytest.approx(after.brier)
    assert (before.ece_ci, set(found.report.uncalibrated)) != (None, set())


def test_points_say_what_they_were_chosen_on(model: Description, predictions: Predictions) -> None:
    """Of validation, where nobody labeled the first patient."""
    rows = predictions.validation.rows
    rows = replace(rows, labeled_N=np.arange(len(rows.studies)) >= PER_PATIENT)
    predictions = replace(predictions, validation=replace(predictions.validation, rows=rows))
    config = CONFIG.model_copy(update={"second_truth": None, "num_bootstrap": 100})
    points = score(config, model, predictions, manifest_hash="m", run_id=None).points
    assert (points.protocol, points.threshold_rule) == ("A", ThresholdRule())
    known = len(rows.studies) - PER_PATIENT
    assert (points.validation_studies, points.validation_patients) == (known, NUM_PATIENTS - 1)
    for p, name in enumerate(NAMES):
        positives = int((rows.states_NP[PER_PATIENT:, p] == 1).sum())
        for condition in CONDITIONS:
            point = points.conditions[condition][name]
            assert (point.positives, point.negatives) == (positives, known - positives)
            assert point.uncertain_threshold is None


def test_predictive_values_are_for_the_stated_prevalence(model: Description, predictions: Predictions) -> None:
    config = CONFIG.model_copy(update={"second_truth": None, "prevalence": {"Edema": 0.01}})
    rng, job = np.random.default_rng(7), Pass("validate", "all")
    alike = _scores(rng, predictions.validation, films=False, shift=0.0)
    predictions = replace(predictions, scores=predictions.scores | {job: alike})
    stated = score(config, model, predictions, manifest_hash="m", run_id=None).report.headline.pathologies
    edema, fracture = stated["Edema"], stated["Fracture"]
    said_yes = edema.recall * 0.01 + (1 - edema.specificity) * 0.99
    assert (edema.prevalence, edema.ppv) == (0.01, pytest.approx(edema.recall * 0.01 / said_yes))
    assert edema.ppv < edema.precision
    assert fracture.ppv == fracture.precision
    assert fracture.prevalence == fracture.positives / (fracture.positives + fracture.negatives)


def test_probabilities_are_calibrated_by_their_own_condition(found: Assessment, predictions: Predictions) -> None:
    for condition in CONDITIONS:
        table = found.predictions.filter(pc.equal(found.predictions["condition"], condition))
        raw = predictions.scores[Pass("test", condition)].score_NP[:, 1]
        point = found.points.conditions[condition]["Edema"]
        assert table["probability/Edema"].to_numpy() == pytest.approx(calibrate(raw, point.calibration))


def test_subgroups_and_the_third_state_are_by_the_points_of_all_inputs(
    model: Description, predictions: Predictions
) -> None:
    rng, test, said = np.random.default_rng(8), predictions.test, predictions.scores[Pass("test", "all")]
    alike = {
        Pass("validate", condition): _scores(rng, predictions.validation, films=False, shift=shift)
        for condition, shift in (("all", 0.0), ("image", 0.7))
    }
    config = CONFIG.model_copy(update={"second_truth": None})
    scored = replace(predictions, scores=predictions.scores | alike)
    found = score(config, model, scored, manifest_hash="m", run_id=None)
    assert {group.attribute for group in found.report.subgroups} == {"indication"}
    for condition in ("all", "image"):
        points = found.points.conditions[condition]
        groups = subgroups_of(said.score_NP, test, points, pathologies=NAMES, config=config)
        thirds = uncertain_scores(said, test.rows, points, config=config)
        assert (groups == found.report.subgroups) is (condition == "all")
        assert (thirds == found.report.uncertain) is (condition == "all")


def test_gains_are_on_the_studies_that_have_every_input(found: Assessment, predictions: Predictions) -> None:
    test, scores = predictions.test, {c: predictions.scores[Pass("test", c)].score_NP for c in CONDITIONS}
    common = {condition: score_NP[test.complete_S] for condition, score_NP in scores.items()}
    rows = test.rows.select(test.complete_S)
    assert found.report.gains == gains_of(common, rows, pathologies=NAMES, config=CONFIG)
    assert {gain.num_studies for gain in found.report.gains} == {int(test.complete_S.sum())}
    assert found.report.score("all", subset="common").num_studies == int(test.complete_S.sum()) < len(test)


def test_golden_answers_are_calibrated_by_what_their_study_has(found: Assessment, predictions: Predictions) -> None:
    test, used = predictions.test, set()
    for golden in found.report.golden:
        s = list(zip(test.shards, test.first_row_S, strict=True)).index((golden.shard, golden.row))
        raw = predictions.scores[Pass("test", "all")].score_NP[s]
        condition = "all" if test.has_text_S[s] else "image+meta" if test.has_age_S[s] else "image"
        used.add(condition)
        for p, name in enumerate(NAMES):
            calibration = found.points.conditions[condition][name].calibration
            assert golden.probabilities[name] == pytest.approx(float(calibrate(raw[p], calibration)))
    assert used == {"all", "image+meta", "image"}


@pytest.mark.parametrize("trait", ["sex", "view"])
def test_a_sex_or_a_view_is_metadata_of_a_golden_study(
    trait: Trait, model: Description, predictions: Predictions
) -> None:
    count = len(predictions.test)
    nothing: dict[Trait, list[object]] = {name: [None] * count for name in TRAITS}
    known = {"sex": "F", "view": "PA"}[trait]
    traits = nothing | {trait: [known if s % 2 else None for s in range(count)]}
    none_S = np.zeros(count, bool)
    test = replace(predictions.test, traits=traits, has_age_S=none_S, has_text_S=none_S)
    config = CONFIG.model_copy(update={"second_truth": None})
    found = score(config, model, replace(predictions, test=test), manifest_hash="m", run_id=None)
    used = set()
    for golden in found.report.golden:
        s = test.first_row_S.tolist().index(golden.row)
        raw, condition = predictions.scores[Pass("test", "all")].score_NP[s, 1], "image+meta" if s % 2 else "image"
        calibration = found.points.conditions[condition]["Edema"].calibration
        assert golden.probabilities["Edema"] == pytest.approx(float(calibrate(raw, calibration)))
        used.add(condition)
    assert used == {"image", "image+meta"}


def test_films_count_with_the_labels_of_their_own_study(found: Assessment, predictions: Predictions) -> None:
    """By hand, from the study that each film names."""
    said, rows = predictions.scores[Pass("films", "image")], predictions.test.rows
    states = dict(zip(rows.studies, rows.states_NP[:, 1], strict=True))
    pairs = [(states[study] == 1, value) for study, value in zip(said.studies, said.score_NP[:, 1], strict=True)]
    positives, negatives = ([v for is_one, v in pairs if is_one == wanted] for wanted in (True, False))
    pairs_won = np.subtract.outer(np.array(positives), np.array(negatives))
    expected = float((pairs_won > 0).mean() + (pairs_won == 0).mean() / 2)
    assert found.report.score("image", unit="image").pathologies["Edema"].auroc == pytest.approx(expected)


def test_scores_in_another_order_than_the_labels_are_refused(predictions: Predictions) -> None:
    job = Pass("test", "text")
    mixed = predictions.scores[job]._replace(studies=predictions.test.rows.studies[::-1])
    with pytest.raises(ValueError, match="in another order: test/text"):
        Predictions(predictions.test, predictions.validation, predictions.scores | {job: mixed})


@pytest.mark.parametrize("edit", [{}, {"section_reader": "mimic"}])
def test_a_model_that_knows_test_patients_is_leaky(
    edit: dict[str, str], model: Description, predictions: Predictions
) -> None:
    model = model._replace(info=model.info.model_copy(update=edit))
    seen_S = np.array([patient in ("t0", "t7") for patient in predictions.test.rows.patients])
    leaky = replace(predictions, test=replace(predictions.test, trained_on_S=seen_S))
    said = "the model was trained or selected on 2 of the 40 test patients"
    assert leaks_of(model, leaky.test)[-1] == said
    assert len(leaks_of(model, predictions.test)) == len(edit)
    report = score(
        CONFIG.model_copy(update={"second_truth": None}), model, leaky, manifest_hash="m", run_id=None
    ).report
    assert report.leaky
    assert said in report.leaks


def _studies(rng: np.random.Generator, prefix: str) -> Studies:
    """A patient is ill or not; one label in thirty is another, one in twenty uncertain, one blank."""
    ill_GP = rng.random((NUM_PATIENTS, len(NAMES))) < 0.5
    count = NUM_PATIENTS * PER_PATIENT
    patient_S = np.arange(count) // PER_PATIENT
    state_SP = (ill_GP[patient_S] ^ (rng.random((count, len(NAMES))) < 0.03)).astype(np.int8)
    state_SP[rng.random(state_SP.shape) < 0.05] = UNCERTAIN
    state_SP[rng.random(state_SP.shape) < 0.05] = BLANK
    rows = Rows(
        state_SP, np.ones(count, bool), [f"{prefix}{g}" for g in patient_S], [f"{prefix}-{s}" for s in range(count)]
    )
    some = rng.random((2, count)) < 0.8
    return Studies(
        rows=rows,
        shards=["shard"] * count,
        first_row_S=2 * np.arange(count),
        num_images_S=np.full(count, 2),
        has_text_S=some[0],
        has_age_S=some[1],
        complete_S=some[0] & some[1],
        trained_on_S=np.zeros(count, bool),
    )


def _scores(rng: np.random.Generator, studies: Studies, *, films: bool, shift: float) -> Scores:
    """A patient's studies are read alike, rightly or wrongly."""
    patients = list(dict.fromkeys(studies.rows.patients))
    mood_GP = rng.normal(scale=2.0, size=(len(patients), len(NAMES)))
    place = {patient: g for g, patient in enumerate(patients)}
    source = np.repeat(np.arange(len(studies)), 2 if films else 1)
    patient = np.array([place[studies.rows.patients[s]] for s in source])
    raw = (
        (studies.rows.states_NP[source] == 1) + mood_GP[patient] + rng.normal(scale=0.3, size=(len(source), 4)) + shift
    )
    uncertain = rng.random(raw.shape).astype(np.float32)
    return Scores([studies.rows.studies[s] for s in source], raw.astype(np.float32), uncertain)


def _two_models(predictions: Predictions) -> tuple[Answers, Answers]:
    """With every input one knows what the other's text tells; of films they say the same."""
    all_SP, text_SP, image_SP = (predictions.scores[Pass("test", c)].score_NP for c in ("all", "text", "image"))
    one, other = (Answers(score_SP, image_SP, calibrate(score_SP, Calibration())) for score_SP in (all_SP, text_SP))
    return one, other


def _calibration_error(probability_S: npt.NDArray[np.float64], truth_S: npt.NDArray[np.int8]) -> float:
    """By hand, over ten bins."""
    place_S = np.minimum((probability_S * 10).astype(int), 9)
    gaps = [abs((probability_S - truth_S)[place_S == place].sum()) for place in range(10)]
    return float(sum(gaps) / len(truth_S))


def _of_table(table: object, predictions: Predictions, truth: SecondTruth) -> tuple[npt.NDArray[np.float32], Rows]:
    """The scores and labels that a table should have counted."""
    test = predictions.test
    if table.unit == "image":
        said = predictions.scores[Pass("films", "image")]
        return said.score_NP, test.rows.select(np.repeat(np.arange(len(test)), 2))
    score_NP = predictions.scores[Pass("test", table.condition)].score_NP
    if table.subset == "common":
        return score_NP[test.complete_S], test.rows.select(test.complete_S)
    if table.protocol == "truth":
        states_SP, known_S = truth.states_of(test.rows.studies)
        rows = test.rows.select(known_S)
        return score_NP[known_S], replace(rows, states_NP=states_SP[known_S])
    return score_NP, test.rows


def _width(found: Interval | None) -> float:
    assert found is not None
    return found.high - found.low
