"""Films show what they should, and nothing else moves when a finding is added."""

from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
import pytest

from components.cxr.labels import PATHOLOGIES
from pipeline.synthetic.films.films import render_film
from pipeline.synthetic.patients import draw_patient
from pipeline.synthetic.places import Finding, place_finding
from pipeline.synthetic.presets import Settings
from pipeline.synthetic.studies import Study, View, draw_studies

DRAWN = [name for name in PATHOLOGIES if name not in ("No Finding", "Support Devices")]
EASY = Settings(seed=11, preset="easy")
# every finding shows on every view where it can
DEVICES = ["et tube", "ng tube", "central line", "picc", "pacemaker", "port", "chest tube"]


def _study(view: View, *, patient: int = 0) -> Study:
    return replace(draw_studies(draw_patient(patient, settings=EASY), 1)[0], views=(view,))


def _place(rng: np.random.Generator, pathology: str, *, severity: float) -> Finding:
    """Place a finding that shows on all views."""
    return replace(place_finding(rng, pathology, severity=severity, before=()), shows_on="both")


@lru_cache
def _bare(study: Study) -> np.ndarray:
    return render_film(study, 0, size=128, findings=()).pixels.astype(int)


def _changed(study: Study, finding: Finding) -> float:
    """Share of pixels that the finding moves by more than 1 % of the range."""
    before = _bare(study)
    after = render_film(study, 0, size=128, findings=(finding,)).pixels.astype(int)
    return float((np.abs(after - before) > 41).mean())


def _device(kind: str) -> Finding:
    return Finding(pathology="Support Devices", severity=0.5, side="left", zone="upper", kind=kind, shape_seed=1)


@pytest.mark.parametrize("view", ["PA", "AP"])
@pytest.mark.parametrize("pathology", DRAWN)
def test_every_finding_shows_on_a_frontal_film(pathology: str, view: View) -> None:
    rng = np.random.default_rng(5)
    shares = [_changed(_study(view, patient=patient), _place(rng, pathology, severity=0.6)) for patient in range(2)]
    assert min(shares) > 0.001
    assert max(shares) < 0.7


@pytest.mark.parametrize("kind", DEVICES)
@pytest.mark.parametrize("view", ["PA", "LATERAL"])
def test_every_device_shows(kind: str, view: View) -> None:
    assert 0.001 < _changed(_study(view), _device(kind)) < 0.2


@pytest.mark.parametrize("pathology", ["Cardiomegaly", "Pleural Effusion", "Consolidation", "Edema", "Atelectasis"])
def test_findings_show_on_a_lateral_film(pathology: str) -> None:
    finding = _place(np.random.default_rng(5), pathology, severity=0.7)
    assert _changed(_study("LATERAL"), finding) > 0.003


@pytest.mark.parametrize("pathology", ["Pleural Effusion", "Consolidation", "Pneumothorax"])
@pytest.mark.parametrize(("side", "left_half"), [("right", True), ("left", False)])
def test_the_right_of_the_patient_is_the_left_of_the_film(pathology: str, side: str, left_half: bool) -> None:
    finding = replace(_place(np.random.default_rng(5), pathology, severity=0.8), side=side)
    study = _study("PA")
    moved = np.abs(
        render_film(study, 0, size=128, findings=(finding,)).pixels.astype(float)
        - render_film(study, 0, size=128, findings=()).pixels
    )
    middle = moved.shape[1] // 2
    left, right = moved[:, :middle].sum(), moved[:, middle:].sum()
    assert (left > 3 * right) if left_half else (right > 3 * left)


def test_more_severe_is_more_visible() -> None:
    rng = np.random.default_rng(5)
    mild = _place(rng, "Pleural Effusion", severity=0.1)
    assert _changed(_study("PA"), replace(mild, severity=0.9)) > 2 * _changed(_study("PA"), mild)


def test_cardiomegaly_widens_the_heart() -> None:
    study, width = _study("PA"), []
    for findings in ((), (_place(np.random.default_rng(5), "Cardiomegaly", severity=0.9),)):
        pixels = render_film(study, 0, size=256, findings=findings).pixels.astype(np.float32)
        row = cv2.GaussianBlur(pixels, (0, 0), 2)[int(0.58 * 256)]
        middle = slice(len(row) // 5, -len(row) // 5)
        width.append(float((row[middle] > (row.max() + row.min()) / 2).mean()))
    assert width[1] > 1.15 * width[0]


def test_anatomy_stays_the_patients_own() -> None:
    """Films of one patient match better, after the best shift, than films of two."""

    def film(patient: int, study: int) -> np.ndarray:
        drawn = replace(draw_studies(draw_patient(patient, settings=EASY), study + 1)[study], views=("PA",))
        pixels = render_film(drawn, 0, size=128, findings=()).pixels.astype(np.float32)
        return cv2.resize(pixels, (96, 96), interpolation=cv2.INTER_AREA)

    patients = [i for i in range(40) if draw_patient(i, settings=EASY).num_studies >= 2][:6]
    first, second = ({i: film(i, study) for i in patients} for study in (0, 1))

    def match(i: int, j: int) -> float:
        return float(cv2.matchTemplate(first[i], second[j][16:-16, 16:-16], cv2.TM_CCOEFF_NORMED).max())

    same = np.mean([match(i, i) for i in patients])
    other = np.mean([match(i, j) for i in patients for j in patients if i != j])
    assert same > other + 0.02, (same, other)


def test_size_scales_the_film_and_not_the_anatomy() -> None:
    study = _study("PA")
    small, large = (render_film(study, 0, size=size).pixels for size in (128, 256))
    assert (max(small.shape), max(large.shape)) == (128, 256)
    shrunk = cv2.resize(large, small.shape[::-1], interpolation=cv2.INTER_AREA)
    assert np.corrcoef(shrunk.ravel(), small.ravel())[0, 1] > 0.98
