"""The best score from the indication alone, computed from the generator."""

import numpy as np
import pytest

from components.cxr.labels import PATHOLOGIES
from pipeline.synthetic.bayes import bayes_auroc, symptom_chances
from pipeline.synthetic.dataset import draw_data
from pipeline.synthetic.presets import Prevalence, Settings
from pipeline.synthetic.reports.indications import draw_indication


@pytest.mark.parametrize("prevalence", ["mimic", "floor"])
def test_the_indication_tells_a_little(prevalence: Prevalence) -> None:
    score = bayes_auroc(2500, settings=Settings(prevalence=prevalence))
    assert 0.60 < score.low < score.mean < score.high < 0.68
    assert score.high - score.low < 0.05
    assert score.auroc_P.shape == (len(PATHOLOGIES),)
    assert score.auroc_P.min() > 0.5


def test_chances_of_the_written_symptoms_are_those_of_the_generator() -> None:
    """Summed to one, and equal to what is drawn: how many studies name one, two or three symptoms."""
    drawn = draw_data(1500, settings=Settings(seed=9))
    studies = [reading.study for patient in drawn.readings for reading in patient]
    chances = symptom_chances(np.array([study.truth for study in studies]))
    assert np.allclose(chances.sum(axis=1), 1)
    named = np.array([len(draw_indication(study).symptoms) for study in studies])
    sizes = np.array([0] + [1] * 12 + [2] * 66 + [3] * 220)
    for size in range(4):
        assert abs(chances[:, sizes == size].sum(axis=1).mean() - (named == size).mean()) < 0.04
