"""Made-up sentences: what is affirmed, denied, doubted or recalled."""

from __future__ import annotations

import time

import pytest

from components.cxr.labels import PATHOLOGIES
from components.preprocess.finding_language import State, mentions
from components.preprocess.finding_terms import TERMS


def states(text: str) -> dict[str, State]:
    """State by pathology; each is mentioned once in these sentences."""
    found = list(mentions(text))
    assert len({mention.pathology for mention in found}) == len(found)
    return {mention.pathology: mention.state for mention in found}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Left pleural effusion.", {"Pleural Effusion": "affirmed"}),
        ("There is mild cardiomegaly but no effusion.", {"Cardiomegaly": "affirmed", "Pleural Effusion": "negated"}),
        ("No pneumothorax or effusion.", {"Pneumothorax": "negated", "Pleural Effusion": "negated"}),
        ("Negative for pneumonia. Atelectasis.", {"Pneumonia": "negated", "Atelectasis": "affirmed"}),
        ("No pneumonia is suspected.", {"Pneumonia": "negated"}),
        ("A pneumothorax is not seen.", {"Pneumothorax": "negated"}),
        ("Pneumonia cannot be excluded.", {"Pneumonia": "uncertain"}),
        ("Pneumonia has been ruled out.", {"Pneumonia": "negated"}),
        ("rule out pneumonia", {"Pneumonia": "uncertain"}),
        ("r/o PNA", {"Pneumonia": "uncertain"}),
        ("?pneumonia", {"Pneumonia": "uncertain"}),
        ("pneumonia?", {"Pneumonia": "uncertain"}),
        ("cough // eval for pneumothorax", {"Pneumothorax": "uncertain"}),
        ("Opacity may represent pneumonia.", {"Lung Opacity": "affirmed", "Pneumonia": "uncertain"}),
        ("history of lung cancer", {"Lung Lesion": "history"}),
        ("s/p pacemaker", {"Support Devices": "history"}),
        ("History of asthma, now with pneumothorax", {"Pneumothorax": "affirmed"}),
        ("pneumonia follow-up", {"Pneumonia": "history"}),
        ("No change in the right effusion.", {"Pleural Effusion": "affirmed"}),
        ("no interval change of the nodule", {"Lung Lesion": "affirmed"}),
        ("The NG tube has been removed.", {"Support Devices": "negated"}),
        ("No acute cardiopulmonary process.", {"No Finding": "affirmed"}),
        ("pulmonary\n edema", {"Edema": "affirmed"}),
        ("leg edema, hip fracture, ICD 10 code, pericardial effusion, body mass index", {}),
        ("enlarged heart; healed rib fractures", {"Cardiomegaly": "affirmed", "Fracture": "history"}),
        ("cough and fever", {}),
        ("", {}),
    ],
)  # fmt: skip
def test_state(text: str, expected: dict[str, State]) -> None:
    assert states(text) == expected


def test_every_pathology_has_terms_in_its_own_name() -> None:
    assert tuple(TERMS) == PATHOLOGIES
    own = {
        "No Finding": "lungs are clear",
        "Enlarged Cardiomediastinum": "mediastinal widening",
        "Lung Opacity": "opacity",
        "Pleural Effusion": "effusion",
        "Lung Lesion": "mass",
        "Edema": "pulmonary edema",
        "Pleural Other": "pleural thickening",
        "Support Devices": "endotracheal tube",
    }
    for name, pattern in TERMS.items():
        assert pattern.fullmatch(own.get(name, name)), name


def test_a_term_is_given_as_written_without_its_surroundings() -> None:
    (mention,) = mentions("Jane Doe has Bilateral  PLEURAL\n Effusions")
    assert mention.term == "effusions"


def test_a_long_text_takes_time_in_proportion() -> None:
    times = []
    for count in (1_000, 4_000):
        text = "no possible history of effusion with pneumonia " * count
        started = time.process_time()
        assert len(list(mentions(text[: 25_000 * (count // 1_000)]))) > count // 2
        times.append(time.process_time() - started)
    assert times[1] < 8 * times[0] + 1
