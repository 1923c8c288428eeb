"""The latent truth: rates, correlations, hierarchy, and how it unfolds over time."""

import numpy as np
import pytest

from components.cxr.labels import PATHOLOGIES
from pipeline.synthetic.dataset import draw_data
from pipeline.synthetic.patients import draw_patient
from pipeline.synthetic.presets import Settings
from pipeline.synthetic.reports.reading import Reading
from pipeline.synthetic.studies import CHILDREN_OF_OPACITY, LATENT, Study, draw_studies


@pytest.fixture(scope="module")
def readings() -> list[tuple[Reading, ...]]:
    return draw_data(1000, settings=Settings()).readings


@pytest.fixture(scope="module")
def studies(readings: list[tuple[Reading, ...]]) -> list[Study]:
    return [reading.study for patient in readings for reading in patient]


def _truth(studies: list[Study], pathology: str) -> np.ndarray:
    return np.array([study.has(pathology) for study in studies])


def test_loadings_leave_variance_for_the_finding_itself() -> None:
    for loadings, lasting in LATENT.values():
        assert sum(weight**2 for weight in loadings) < 0.9
        assert 0 <= lasting <= 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Edema", "Pleural Effusion"),
        ("Edema", "Cardiomegaly"),
        ("Atelectasis", "Pleural Effusion"),
        ("Consolidation", "Pneumonia"),
        ("Fracture", "Pneumothorax"),
    ],
)
def test_related_findings_come_together(studies: list[Study], one: str, other: str) -> None:
    assert np.corrcoef(_truth(studies, one), _truth(studies, other))[0, 1] > 0.12


def test_opacity_is_the_parent_and_no_finding_excludes_all_but_devices(studies: list[Study]) -> None:
    for study in studies:
        assert study.has("Lung Opacity") or not any(study.has(child) for child in CHILDREN_OF_OPACITY)
        assert study.has("No Finding") != any(study.has(name) for name in PATHOLOGIES[1:-1])


def test_the_sick_are_filmed_ap_and_carry_devices(studies: list[Study]) -> None:
    portable = np.array([study.is_portable for study in studies])
    ill = np.array([study.acuity > 0.8 for study in studies])
    assert portable[ill].mean() > portable[~ill].mean() + 0.2
    devices = _truth(studies, "Support Devices")
    assert devices[portable].mean() > devices[~portable].mean() + 0.2
    assert {len(study.views) for study in studies} == {1, 2, 3}


def test_a_study_depends_on_those_before_it_alone() -> None:
    patient = next(
        patient for i in range(99) if (patient := draw_patient(i, settings=Settings(seed=1))).num_studies >= 4
    )
    assert draw_studies(patient, 2) == draw_studies(patient, 4)[:2]


def test_findings_keep_their_place_over_time(studies: list[Study]) -> None:
    last: dict[tuple[int, str], tuple[int, str]] = {}
    kept = 0
    for study in studies:
        for finding in study.findings:
            if finding.pathology == "Support Devices":
                continue
            key = (study.patient.index, finding.pathology)
            if key in last and last[key][0] == study.index - 1:
                assert finding.side == last[key][1]
                kept += 1
            last[key] = (study.index, finding.side)
    assert kept > 100
