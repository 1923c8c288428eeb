"""What the reader tells of the truth, and what the labeler makes of the reader's words."""

import numpy as np
import pytest

from components.cxr.labels import NEGATIVE, PATHOLOGIES, POSITIVE, SUPPORT_DEVICES, UNCERTAIN
from pipeline.synthetic.dataset import Drawn, draw_data
from pipeline.synthetic.presets import PRESETS, PresetName, Settings
from pipeline.synthetic.rates import PUBLISHED, PUBLISHED_STUDIES
from pipeline.synthetic.reports.indications import SYMPTOMS, draw_indication
from pipeline.synthetic.reports.reading import Reading
from pipeline.synthetic.tables.labeler import label_report


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return draw_data(1000, settings=Settings(seed=1))


def _readings(drawn: Drawn) -> list[Reading]:
    return [reading for patient in drawn.readings for reading in patient]


def _labels(impression: str) -> dict[str, int]:
    row = label_report(f" INDICATION:  ___F with pneumonia.\n \n IMPRESSION: \n \n {impression}\n")
    return {name: state for name, state in zip(PATHOLOGIES, row, strict=True) if state is not None}


@pytest.mark.parametrize(
    ("impression", "labels"),
    [
        ("Small left pleural effusion.", {"Pleural Effusion": 1}),
        ("No pleural effusion or pneumothorax.", {"Pleural Effusion": 0, "Pneumothorax": 0, "No Finding": 1}),
        ("Pneumonia cannot be excluded.", {"Pneumonia": -1}),
        ("No change in the right pneumothorax.", {"Pneumothorax": 1}),
        ("No edema.  Mild pulmonary edema.", {"Edema": 1}),
        ("The heart is not enlarged.", {"Cardiomegaly": 0, "No Finding": 1}),
        ("The previously seen edema has cleared.", {"Edema": 0, "No Finding": 1}),
        ("No acute cardiopulmonary process.", {"No Finding": 1}),
        ("A right PICC in place.", {"Support Devices": 1, "No Finding": 1}),
        ("Blunting of the left costophrenic angle.", {"No Finding": 1}),
        ("1. Patchy opacity,\n may represent pneumonia.\n 2. No fracture.",
         {"Lung Opacity": -1, "Pneumonia": -1, "Fracture": 0}),
    ],
)  # fmt: skip
def test_the_labeler_reads_words(impression: str, labels: dict[str, int]) -> None:
    assert _labels(impression) == labels


def test_the_labeler_reads_the_impression_before_the_findings_and_never_the_request() -> None:
    text = " INDICATION:  Pneumothorax?\n \n FINDINGS: \n \n Edema.\n"
    assert dict(zip(PATHOLOGIES, label_report(text), strict=True))["Edema"] == 1
    both = dict(zip(PATHOLOGIES, label_report(f"{text} \n IMPRESSION: \n \n Consolidation.\n"), strict=True))
    assert {name for name, state in both.items() if state == 1} == {"Consolidation"}
    assert label_report(" INDICATION:  Pneumothorax?\n") == (None,) * len(PATHOLOGIES)


def test_labels_come_from_the_text_alone(drawn: Drawn) -> None:
    assert drawn.labels == {key: label_report(drawn.reports[key]) for key in drawn.labels}


def test_the_labeler_mostly_repeats_the_reader_and_errs(drawn: Drawn) -> None:
    agreed = []
    for reading in _readings(drawn):
        row = drawn.labels.get((reading.study.patient.subject_id, reading.study.study_id))
        if row is not None:
            agreed += [(state == POSITIVE) == bool(said) for state, said in zip(row, reading.called, strict=True)]
    assert 0.95 < np.mean(agreed) < 0.999


def test_label_rates_are_near_those_published(drawn: Drawn) -> None:
    rows = list(drawn.labels.values())
    for column, pathology in enumerate(PATHOLOGIES):
        for state, published in zip((POSITIVE, NEGATIVE, UNCERTAIN), PUBLISHED[pathology], strict=True):
            rate = np.mean([row[column] == state for row in rows])
            assert abs(rate - published / PUBLISHED_STUDIES) < 0.08, (pathology, state)
    blank = np.mean([state is None for row in rows for state in row])
    assert 0.7 < blank < 0.85


@pytest.mark.parametrize("preset", list(PRESETS))
def test_reports_leave_out_and_get_wrong_what_the_preset_says(preset: PresetName) -> None:
    readings = _readings(draw_data(800, settings=Settings(seed=2, preset=preset)))
    present, unreported, mentions, wrong = 0, 0, 0, 0
    for reading in readings:
        for name in PATHOLOGIES[1:]:
            mine = [f for f in reading.study.findings if f.pathology == name]
            said = [m.state for m in reading.mentions if m.pathology == name]
            present += bool(mine)
            unreported += bool(mine) and not any(state != NEGATIVE for state in said) and not reading.is_vague
            if name != "Lung Opacity":  # a reader may call any of its children so
                mentions += bool(said)
                wrong += bool(said) and (said[0] == NEGATIVE if mine else said[0] == POSITIVE)
    rules = PRESETS[preset]
    assert abs(unreported / present - rules.unreported) < 0.03
    assert abs(wrong / mentions - rules.wrong) < 0.02


def test_the_indication_names_no_label(drawn: Drawn) -> None:
    words = " ".join(word for symptom in SYMPTOMS.values() for word in (*symptom.words, *symptom.questions)).lower()
    stems = (
        "pneumon effus edema atelec consolid pneumoth ptx fractur opaci infiltr nodul mass lesion cardiomeg enlarge"
        " mediast pleural tubes catheter line intubat picc pna"
    )
    assert not [stem for stem in stems.split() if stem in words]
    for reading in _readings(drawn)[:200]:
        text = draw_indication(reading.study).text
        row = label_report(f" IMPRESSION: \n \n {text}\n")
        assert not any(state is not None for state in row[1:]), text


LOUD = ("Pleural Effusion", "Cardiomegaly", "Support Devices", "Edema", "Pneumothorax")


def test_labels_are_noisy_and_blanks_are_missing_not_at_random(drawn: Drawn) -> None:
    truth, states = [], []
    for reading in _readings(drawn):
        row = drawn.labels.get((reading.study.patient.subject_id, reading.study.study_id))
        for name in LOUD if row is not None else ():
            truth.append(reading.study.has(name))
            states.append(row[PATHOLOGIES.index(name)] if row else None)
    present = [state for truly, state in zip(truth, states, strict=True) if truly]
    absent = [state for truly, state in zip(truth, states, strict=True) if not truly]
    assert 0.6 < np.mean([state == POSITIVE for state in present]) < 0.9
    assert np.mean([state == UNCERTAIN for state in present]) > 0.005
    assert 0 < np.mean([state == POSITIVE for state in absent]) < 0.02
    assert np.mean([state is None for state in absent]) > np.mean([state is None for state in present]) + 0.3
    assert SUPPORT_DEVICES in LOUD
