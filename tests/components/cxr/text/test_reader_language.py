from __future__ import annotations

from pathlib import Path

import pytest

from components.cxr.text.reader_language import is_reading, reading_starts
from components.cxr.text.text import TextConfig, parse_report, request_text
from tests.components.cxr.text.made_up_sentences import INDICATIONS, READINGS

FIELD = """\
Right lower lobe opacity concerning for pneumonia.
Bilateral pleural effusions, left greater than right.
ET tube 3 cm above carina.
Nondisplaced fracture of the left seventh rib.
Left basilar atelectasis.
No acute cardiopulmonary process.
Mild pulmonary vascular congestion.
Multifocal opacities bilaterally.
Tortuous aorta.
Left-sided pacemaker with leads in the right atrium and ventricle.
Diffuse interstitial markings.
Heart size normal.
There is a small right pleural effusion.
Elevated right hemidiaphragm.
Bibasilar opacities.
Lungs and pleural spaces are clear.
Perihilar haziness suggests edema.
Moderate hiatal hernia.
Compared to prior, there is increased opacity.
Low lung volumes with crowding.
""".splitlines()
LAYOUTS = ("INDICATION: cough. {}", "INDICATION: cough\n{}", "INDICATION: COUGH; FEVER. {}\nFINDINGS: x")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reading", FIELD)
def test_first_sentences_of_readings_of_the_field(reading: str, layout: str) -> None:
    kept = parse_report(layout.format(reading)).get("indication", "")
    assert kept.lower().rstrip(".") in ("cough", "cough; fever")


@pytest.mark.parametrize("layout", LAYOUTS[:2])
def test_made_up_readings_are_cut(layout: str) -> None:
    leaked = [text for text in READINGS if parse_report(layout.format(text))["indication"].rstrip(".") != "cough"]
    assert len(READINGS) >= 60
    assert len(leaked) <= 0.05 * len(READINGS), leaked


def test_made_up_readings_are_cut_in_capitals_too() -> None:
    leaked = [text for text in READINGS if reading_starts(f"COUGH. {text.upper()}") > 7]
    assert len(leaked) <= 0.05 * len(READINGS), leaked


def test_made_up_indications_come_through_whole() -> None:
    shortened = [text for text in INDICATIONS if request_text(text, config=TextConfig()) != text]
    assert len(INDICATIONS) >= 60
    assert len(shortened) <= 0.03 * len(INDICATIONS), shortened


@pytest.mark.parametrize("layout", LAYOUTS[:2])
def test_held_out_readings_are_cut(layout: str) -> None:
    readings = (Path(__file__).parent / "held_out_readings.txt").read_text().splitlines()
    leaked = [text for text in readings if parse_report(layout.format(text))["indication"].rstrip(".") != "cough"]
    assert len(readings) >= 60
    assert len(leaked) <= 0.1 * len(readings), leaked


def test_held_out_indications_come_through_whole() -> None:
    indications = (Path(__file__).parent / "held_out_indications.txt").read_text().splitlines()
    shortened = [text for text in indications if request_text(text, config=TextConfig()) != text]
    assert len(indications) >= 60
    assert len(shortened) <= 0.03 * len(indications), shortened


@pytest.mark.parametrize(
    ("sentence", "reading"),
    [
        ("Left effusion", True),
        ("eval for left effusion", False),
        ("r/o left effusion", False),
        ("left effusion?", False),
        ("? left effusion", False),
        ("left effusion, follow up", False),
        ("left effusion, recommend follow up", True),
        ("history of left effusion", False),
        ("h/o left effusion with new opacity", True),
        ("known left effusion", False),
        ("prior left effusion", False),
        ("left effusion unchanged from the prior exam", True),
        ("had a left effusion", False),
        ("left effusion 3 weeks ago", False),
        ("left effusion is new since 3 weeks ago", True),
        ("72 year old man with left effusion", False),
        ("left effusion in a 72 year old man", True),
        ("pneumonia", False),
        ("right lower lobe pneumonia", True),
        ("suspected pneumonia", False),
        ("probable atelectasis in the left lower lobe", True),
        ("worsening pneumonia", True),
        ("mass of 3 cm", True),
        ("Unchanged", True),
        ("heart failure", False),
        ("heart enlarged", True),
        ("PICC placement", False),
        ("PICC tip in the SVC", True),
        ("breath sounds are clear", False),
        ("lungs are clear", True),
        ("eval for effusion, lungs are clear", True),
        ("no fever", False),
        ("no effusion", True),
        ("leg edema", False),
        ("interstitial edema", True),
        ("Findings", True),
    ],
)
def test_a_finding_is_a_reading_unless_asked_about_known_or_past(sentence: str, reading: bool) -> None:
    assert (reading_starts(sentence) == 0) == reading
    if "?" not in sentence:
        assert is_reading(sentence) == reading


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("r/o pneumonia,\neffusion", "r/o pneumonia,\neffusion"),
        ("evaluate for\nPleural effusion", "evaluate for\nPleural effusion"),
        ("evaluate for pneumonia;\neffusion; edema", "evaluate for pneumonia;\neffusion; edema"),
        ("evaluate for pneumonia\nLeft effusion", "evaluate for pneumonia\n"),
        ("evaluate for pneumonia. Left effusion", "evaluate for pneumonia. "),
        ("pleural effusion // interval change", "pleural effusion // interval change"),
        ("cough.Left effusion", "cough."),
        ("cough - Left effusion", "cough - "),
        ("cough FINDINGS left effusion", "cough "),
        ("cough. Left effusion FINDINGS as before", "cough. "),
        ("COUGH, ABNORMAL FINDINGS ON CT?", "COUGH, ABNORMAL FINDINGS ON CT?"),
        ("1. cough\n2. Left effusion", "1. cough\n2. "),
        (r"cough\nLungs are clear", "cough "),
    ],
)
def test_a_question_goes_on_where_its_sentence_does(text: str, kept: str) -> None:
    assert text.replace(r"\n", " \n")[: reading_starts(text)].rstrip() == kept.rstrip()


def test_a_reading_deep_in_an_endless_sentence_is_cut() -> None:
    text = "cough and fever " * 90 + "small left pleural effusion"
    assert "effusion" not in text[: reading_starts(text)]
    assert reading_starts(text[: text.index("small")]) == text.index("small")
