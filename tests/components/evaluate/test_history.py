"""A model that reads films, one that guesses from the text, and texts that say too much."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from components.cxr.labels import BLANK
from components.cxr.operating_points import Calibration, OperatingPoint
from components.cxr.report import CONDITIONS, History, Report
from components.evaluate.bootstrap import draw
from components.evaluate.config import EvaluateConfig
from components.evaluate.history import history_of, stratified_auroc
from components.evaluate.history_section import history_section
from components.evaluate.predictions import Pass, Predictions, Rows, Scores, Studies
from components.evaluate.table import history_lines

NAMES = ("Edema", "Fracture")
CONFIG = EvaluateConfig(num_bootstrap=100)
COUNT = 1600
POINTS = {
    condition: dict.fromkeys(
        NAMES, OperatingPoint(threshold=0.5, calibration=Calibration(slope=0.001 if condition == "meta" else 1.0))
    )
    for condition in CONDITIONS
}
PLAIN = {"image": 1.0, "image+meta": 1.0, "text": 0.0, "meta": 0.0, "all": 1.0}


def _world(
    films: dict[str, float], text: dict[str, float], *, seed: int = 0, prior: float = 2.0, shuffled: bool = True
) -> Predictions:
    """Labels hang on a prior that the text tells; each condition reads the label and the prior with some weight."""
    rng = np.random.default_rng(seed)
    studies, scores = {}, {}
    for split in ("test", "validate"):
        prior_SP = prior * rng.normal(size=(COUNT, 2))
        label_SP = (rng.random((COUNT, 2)) < 1 / (1 + np.exp(1.0 - prior_SP))).astype(np.int8)
        rows = Rows(
            label_SP,
            np.ones(COUNT, bool),
            [f"{split}{s // 2}" for s in range(COUNT)],
            [f"{split}-{s}" for s in range(COUNT)],
        )
        yes, numbers = np.ones(COUNT, bool), np.ones(COUNT, dtype=np.int64)
        studies[split] = Studies(rows, ["s"] * COUNT, numbers, numbers, yes, yes, yes, ~yes)
        jobs = [Pass(split, condition) for condition in CONDITIONS]
        jobs += [Pass("shuffled", "all")] if split == "test" and shuffled else []
        for job in jobs:
            told_SP = films[job.condition] * 1.5 * label_SP + rng.normal(size=(COUNT, 2))
            if job.rows != "shuffled":
                told_SP = told_SP + text[job.condition] * prior_SP
            scores[job] = Scores(rows.studies, told_SP.astype(np.float32), np.zeros((COUNT, 2), np.float32))
    return Predictions(studies["test"], studies["validate"], scores)


def _history(films: dict[str, float], text: dict[str, float], **settings: float) -> History:
    found = history_of(
        _world(PLAIN | films, dict.fromkeys(CONDITIONS, 0.0) | text, **settings),
        POINTS,
        pathologies=NAMES,
        config=CONFIG,
    )
    assert found is not None
    return found


@pytest.fixture(scope="module")
def reader() -> History:
    return _history({}, {"text": 3.0, "all": 1.0})


def test_a_guess_from_the_text_is_worth_nothing_among_equal_histories() -> None:
    """Films alone that show who was sent, and not what he has."""
    guess = _history(dict.fromkeys(CONDITIONS, 0.0), {"text": 30.0, "all": 3.0, "image": 3.0, "image+meta": 3.0})
    for condition in ("image", "all"):
        assert guess.plain[condition].value > 0.75
        assert guess.balanced[condition].value == pytest.approx(0.5, abs=0.07)
    assert guess.films_over_context.ci.low < 0, "films do not add"
    assert guess.context.value > 0.75
    assert guess.context_balanced.value == pytest.approx(0.5, abs=0.07)


def test_a_reader_of_films_keeps_its_score(reader: History) -> None:
    assert reader.balanced["image"].ci.low > 0.7
    assert reader.films_over_context.ci.low > 0.1
    assert reader.balanced["image"].value == pytest.approx(reader.plain["image"].value, abs=0.03)
    assert reader.balanced["all"].value < reader.plain["all"].value - 0.01, "a part of it is the prior"
    assert set(reader.films) == set(NAMES)
    assert (reader.num_studies, reader.num_patients, reader.pathologies) == (COUNT, COUNT // 2, NAMES)


def test_controls(reader: History) -> None:
    assert reader.meta.ci.low < 0.5 < reader.meta.ci.high
    assert reader.own_over_shuffled.ci.low > 0, "its own text helps"
    assert reader.shuffled.value == pytest.approx(reader.plain["image"].value, abs=0.03)
    without = history_of(
        _world(PLAIN, dict.fromkeys(CONDITIONS, 0.0), shuffled=False), POINTS, pathologies=NAMES, config=CONFIG
    )
    assert (without.shuffled, without.own_over_shuffled) == (None, None)


@pytest.mark.parametrize(
    ("text", "films", "alarms"),
    [
        (1.2, 1.5, ["above 0.9"]),
        (0.7, 0.4, ["better than films"]),
        (2.0, 1.0, ["above 0.9", "better than films"]),
        (0.7, 1.0, []),
    ],
)
def test_texts_that_say_too_much_alarm(text: float, films: float, alarms: list[str]) -> None:
    found = _history({"text": text, "image": films}, {}, prior=0.5)
    assert len(found.alarms) == len(alarms)
    assert all(part in alarm for part, alarm in zip(alarms, found.alarms, strict=True))


def test_without_complete_studies_there_is_nothing_to_tell() -> None:
    world = _world(PLAIN, dict.fromkeys(CONDITIONS, 0.0))
    world.test.complete_S[:] = False
    assert history_of(world, POINTS, pathologies=NAMES, config=CONFIG) is None


def test_one_stratum_is_the_auroc_and_many_are_its_pairs() -> None:
    rng = np.random.default_rng(1)
    truth_S = (rng.random(90) < 0.4).astype(np.int8)
    truth_S[:5] = BLANK
    score_S, stratum_S = rng.normal(size=90) + truth_S, rng.integers(0, 4, size=90)
    draws = draw([f"p{s // 3}" for s in range(90)], num_resamples=20, seed=0)
    known_S = truth_S != BLANK
    assert stratified_auroc(score_S, truth_S, None, draws)[0] == pytest.approx(
        roc_auc_score(truth_S[known_S], score_S[known_S])
    )
    found_R = stratified_auroc(score_S, truth_S, stratum_S, draws)
    for place, weight_G in [(0, np.ones(30)), (7, draws.drawn_GR[:, 6])]:
        rows = np.repeat(np.arange(90), weight_G[draws.patient_N].astype(int))
        won = pairs = 0.0
        for i in rows[truth_S[rows] == 1]:
            for j in rows[truth_S[rows] == 0]:
                if stratum_S[i] == stratum_S[j]:
                    pairs += 1
                    won += (score_S[i] > score_S[j]) + 0.5 * (score_S[i] == score_S[j])
        assert found_R[place] == pytest.approx(won / pairs)
    assert np.isnan(stratified_auroc(score_S, np.ones(90, np.int8), stratum_S, draws)).all()


def test_what_a_person_reads(report: Report, reader: History) -> None:
    told = report.model_copy(update={"history": reader})
    (line,) = history_lines(told)
    assert line.startswith("Among studies of which indication and metadata predict about the same: films alone 0.")
    assert line.endswith("films add to the history.")
    section = history_section(told)
    assert "| what indication and metadata predict | 0." in section
    assert "| everything, with the indications of other patients | 0." in section
    alarmed = report.model_copy(update={"history": reader.model_copy(update={"alarms": ("it says too much",)})})
    assert history_lines(alarmed)[1] == "warning: it says too much"
    assert "**Warning: it says too much**" in history_section(alarmed)
    assert history_lines(report) == []
    assert history_section(report) == ""
