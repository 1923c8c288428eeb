"""Subgroups by hand, what is unknown or too small, and gaps that are there or not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from components.cxr.labels import BLANK, UNCERTAIN
from components.cxr.operating_points import Calibration, OperatingPoint
from components.cxr.report import GroupValue, Report, Subgroup
from components.evaluate.config import EvaluateConfig
from components.evaluate.predictions import Rows, Studies
from components.evaluate.subgroup_section import subgroup_section
from components.evaluate.subgroups import groups_of, subgroups_of
from components.evaluate.table import subgroup_line

NAMES = ("No Finding", "Edema", "Fracture", "Support Devices")
CONFIG = EvaluateConfig(num_bootstrap=200)
POINTS = {
    name: OperatingPoint(threshold=0.6 - 0.05 * p, calibration=Calibration(slope=2.0, intercept=0.5 * p - 0.5))
    for p, name in enumerate(NAMES)
}
COUNT = 600


@pytest.fixture(scope="module")
def test_set() -> tuple[Studies, np.ndarray]:
    """Women's films are read well and men's by chance; who is old differs in nothing; nobody has a Fracture."""
    rng = np.random.default_rng(0)
    states = np.where(rng.random((COUNT, 4)) < 0.4, 1, BLANK).astype(np.int8)
    states[:, 2] = BLANK
    states[::7, 1] = UNCERTAIN
    states[:, 0] = np.where((states[:, 1:3] == 1).any(axis=1), 0, 1)
    patients = [f"p{s // 2}" for s in range(COUNT)]
    women_S = np.arange(COUNT) // 2 % 2 == 0
    score_SP = rng.normal(size=(COUNT, 4)) + 2.0 * (states == 1) * women_S[:, None]
    rows = Rows(states, np.ones(COUNT, bool), patients, [f"s{s}" for s in range(COUNT)])
    traits = {
        "age_years": [None if s < 20 else 30.0 if s % 3 else 85.0 for s in range(COUNT)],
        "sex": ["F" if woman else "M" for woman in women_S],
        "race": [["A", "B"][s // 2 % 2] if s >= 12 else "rare" for s in range(COUNT)],
        "insurance": [None] * COUNT,
        "view": ["PA" if s < 560 else "AP" for s in range(COUNT)],
    }
    numbers = np.ones(COUNT, dtype=np.int64)
    images_S = np.where(np.arange(COUNT) < 300, 1, 3 + np.arange(COUNT) % 2)
    yes = np.ones(COUNT, bool)
    test = Studies(
        rows=rows, shards=["s"] * COUNT, first_row_S=numbers, num_images_S=images_S,
        has_text_S=yes, has_age_S=yes, complete_S=yes, trained_on_S=~yes, traits=traits,
    )  # fmt: skip
    return test, score_SP


@pytest.fixture(scope="module")
def found(test_set: tuple[Studies, np.ndarray]) -> dict[tuple[str, str], Subgroup]:
    test, score_SP = test_set
    groups = subgroups_of(score_SP, test, POINTS, pathologies=NAMES, config=CONFIG)
    return {(group.attribute, group.group): group for group in groups}


def test_groups_are_those_that_the_data_have(found: dict[tuple[str, str], Subgroup]) -> None:
    assert list(found) == [
        ("sex", "female"), ("sex", "male"), ("age", "20 to 39"), ("age", "80 and over"),
        ("race", "A"), ("race", "B"), ("race", "other"), ("view", "AP"), ("view", "PA"),
        ("images", "1"), ("images", "3 or more"), ("support devices", "none"), ("support devices", "present"),
    ]  # fmt: skip
    assert found["age", "20 to 39"].studies + found["age", "80 and over"].studies == COUNT - 20, (
        "unknown ages count not"
    )
    assert (found["race", "other"].studies, found["race", "other"].patients) == (12, 6)


def test_the_numbers_of_a_group_by_hand(
    found: dict[tuple[str, str], Subgroup], test_set: tuple[Studies, np.ndarray]
) -> None:
    test, score_SP = test_set
    women = found["sex", "female"]
    inside_S = np.array([sex == "F" for sex in test.traits["sex"]])
    states = test.rows.states_NP
    assert women.pathologies == ("No Finding", "Edema", "Support Devices")
    aurocs, tprs, fprs = [], [], []
    for p in (0, 1, 3):
        positive, score = states[inside_S, p] == 1, score_SP[inside_S, p]
        answer = 1 / (1 + np.exp(-(2.0 * score + 0.5 * p - 0.5))) >= 0.6 - 0.05 * p
        aurocs.append(roc_auc_score(positive, score))
        tprs.append(answer[positive].mean())
        fprs.append(answer[~positive].mean())
    assert women.auroc.value == pytest.approx(np.mean(aurocs))
    assert women.tpr.value == pytest.approx(np.mean(tprs))
    assert women.fpr.value == pytest.approx(np.mean(fprs))
    ill_S = inside_S & ((states[:, 1] == 1) | (states[:, 2] == 1))
    said_healthy_S = 1 / (1 + np.exp(-(2.0 * score_SP[:, 0] - 0.5))) >= 0.6
    assert women.underdiagnosis.value == pytest.approx(said_healthy_S[ill_S].mean())


def test_gaps_have_signs_and_intervals(found: dict[tuple[str, str], Subgroup]) -> None:
    women, men = found["sex", "female"], found["sex", "male"]
    for key in ("auroc", "tpr", "fpr", "underdiagnosis"):
        one, other = getattr(women, key), getattr(men, key)
        assert one.gap == pytest.approx(one.value - other.value)
        assert other.gap == pytest.approx(-one.gap)
        assert (other.gap_ci.low, other.gap_ci.high) == pytest.approx((-one.gap_ci.high, -one.gap_ci.low))
    assert men.auroc.gap_ci.high < -0.2
    old = found["age", "80 and over"].auroc
    assert old.gap == pytest.approx(-found["age", "20 to 39"].auroc.gap), "who has no age is on neither side"
    assert old.gap_ci.low < 0 < old.gap_ci.high


def test_small_groups_have_counts_alone(found: dict[tuple[str, str], Subgroup]) -> None:
    small = found["view", "AP"]
    assert (small.studies, small.too_small, small.pathologies) == (40, True, ())
    assert small.auroc == small.underdiagnosis == GroupValue()
    large = found["view", "PA"]
    assert large.auroc.value is not None
    assert large.auroc.gap is None, "nothing large enough to compare with"


def test_a_finding_that_only_one_side_has_counts_on_neither(test_set: tuple[Studies, np.ndarray]) -> None:
    test, score_SP = test_set
    women_S = np.array([sex == "F" for sex in test.traits["sex"]])
    states = test.rows.states_NP.copy()
    states[:, 2] = np.where(women_S & (np.arange(COUNT) % 3 == 0), 1, BLANK)
    rows = replace(test.rows, states_NP=states)
    groups = subgroups_of(score_SP, replace(test, rows=rows), POINTS, pathologies=NAMES, config=CONFIG)
    sexes = {group.group: group.pathologies for group in groups if group.attribute == "sex"}
    assert "Fracture" not in sexes["female"]
    assert sexes["female"] == sexes["male"]


def test_intervals_are_over_patients(test_set: tuple[Studies, np.ndarray]) -> None:
    test, score_SP = test_set
    twice_SP = np.repeat(score_SP[::2], 2, axis=0)
    rows = test.rows.select(np.repeat(np.arange(0, COUNT, 2), 2))
    same = replace(test, rows=replace(rows, studies=test.rows.studies))
    apart = replace(same, rows=replace(same.rows, patients=test.rows.studies))

    def width(studies: Studies) -> float:
        first = subgroups_of(twice_SP, studies, POINTS, pathologies=NAMES, config=CONFIG)[0]
        return first.auroc.ci.high - first.auroc.ci.low

    assert width(same) > 1.25 * width(apart)


def test_what_is_unknown_is_in_no_group(test_set: tuple[Studies, np.ndarray]) -> None:
    test, _ = test_set
    groups = groups_of(replace(test, traits={}), pathologies=("Edema",))
    assert set(groups) == {"images"}


def test_card_and_sentence_name_who_is_read_worse(report: Report, found: dict[tuple[str, str], Subgroup]) -> None:
    told = report.model_copy(update={"subgroups": tuple(found.values())})
    line = subgroup_line(told)
    assert line.startswith("Of 10 subgroups 2 score lower than the rest, in mean AUROC: sex male -0.")
    assert "race B" in line
    section = subgroup_section(told)
    assert "| view: AP | 40 | 20 | too small |  |  |  |" in section
    assert "| sex: male | 300 | 150 | 0." in section
    assert subgroup_line(report) == subgroup_section(report) == ""
