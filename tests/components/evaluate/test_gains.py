"""What inputs add, against the formula and against inputs that add nothing."""

from __future__ import annotations

import numpy as np
import pytest

from components.cxr.delong import areas, p_value
from components.cxr.labels import BLANK
from components.cxr.report import Difference, Gain
from components.evaluate.config import EvaluateConfig
from components.evaluate.gains import COMPARED, gains_of
from components.evaluate.predictions import Rows

NAMES = ("Edema", "Fracture", "Pneumonia")
CONFIG = EvaluateConfig(num_bootstrap=200, headline=("Edema", "Pneumonia"))


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str], Gain]:
    """Text tells much of Edema and nothing of the rest; nobody has a Fracture; metadata are the films again."""
    rng = np.random.default_rng(0)
    states = (rng.random((240, 3)) < 0.4).astype(np.int8)
    states[:, 1] = BLANK
    films = rng.normal(size=(240, 3)) + states
    text = rng.normal(size=(240, 3)) + 2.0 * states * [1, 0, 0]
    scores = {"image": films, "image+meta": films + 3.0, "text": text, "all": films + text * [1, 0, 0]}
    rows = Rows(states, np.ones(240, bool), [f"p{i // 2}" for i in range(240)], [f"s{i}" for i in range(240)])
    gains = gains_of(scores, rows, pathologies=NAMES, config=CONFIG)
    assert [(gain.condition, gain.over) for gain in gains] == list(COMPARED)
    return {(gain.condition, gain.over): gain for gain in gains} | {"raw": (scores, states, rows)}  # type: ignore[dict-item]


def test_a_difference_is_paired_and_its_p_value_adjusted(found: dict) -> None:
    scores, states, rows = found["raw"]
    gain = found["all", "image"]
    assert (gain.num_studies, gain.num_patients) == (240, 120)
    two = areas(np.stack([scores["all"][:, 0], scores["image"][:, 0]]), states[:, 0] == 1, rows.patients)
    assert two is not None
    edema = gain.pathologies["Edema"]
    assert edema.difference == pytest.approx(two.difference(0, 1)[0])
    assert edema.ci is not None
    assert edema.ci.low > 0.05
    assert edema.p_value == pytest.approx(2 * p_value(*two.difference(0, 1))), "of the two that are defined"
    assert gain.pathologies["Pneumonia"] == Difference(difference=0.0, ci={"low": 0.0, "high": 0.0}, p_value=1.0)


def test_what_is_undefined_takes_no_part(found: dict) -> None:
    gain = found["all", "image"]
    assert gain.pathologies["Fracture"] == Difference(difference=None, ci=None, p_value=None)
    assert gain.mean.difference == pytest.approx(gain.pathologies["Edema"].difference / 2)
    assert gain.mean.ci is not None
    assert gain.mean.ci.low < gain.mean.difference < gain.mean.ci.high


def test_a_finding_of_the_headline_that_nobody_has_takes_no_part(found: dict) -> None:
    scores, _, rows = found["raw"]
    every = CONFIG.model_copy(update={"headline": NAMES})
    for gain in gains_of(scores, rows, pathologies=NAMES, config=every):
        assert gain.mean == found[gain.condition, gain.over].mean


def test_the_same_ranks_are_no_gain(found: dict) -> None:
    mean = found["image+meta", "image"].mean
    assert mean == Difference(difference=0.0, ci={"low": 0.0, "high": 0.0}, p_value=None)


def test_the_bootstrap_and_the_formula_agree(found: dict) -> None:
    """Of the mean of two pathologies of which one has no difference: half the width."""
    gain = found["all", "image"]
    edema, mean = gain.pathologies["Edema"].ci, gain.mean.ci
    assert (mean.high - mean.low) * 2 == pytest.approx(edema.high - edema.low, rel=0.2)


def test_every_p_value_is_that_of_its_own_finding(found: dict) -> None:
    """Whatever the order of the findings: the text tells much of Edema alone."""
    scores, states, rows = found["raw"]
    order = [2, 1, 0]
    turned = gains_of(
        {condition: score_SP[:, order] for condition, score_SP in scores.items()},
        Rows(states[:, order], rows.labeled_N, rows.patients, rows.studies),
        pathologies=[NAMES[p] for p in order],
        config=CONFIG,
    )
    for gain in turned:
        assert gain.pathologies == found[gain.condition, gain.over].pathologies
