from __future__ import annotations

import re
import tarfile
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.cxr.text.reader_language import reading_starts
from components.cxr.text.text import (
    PRE_READ,
    SECTIONS,
    SectionReader,
    TextConfig,
    parse_report,
    request_text,
    select_text,
    unescape_column,
)

LEAK = "OPACITY"

REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PORTABLE AP)

 INDICATION:  ___ year old woman with cough  // eval for
 pneumonia

 TECHNIQUE:  Portable AP.

 COMPARISON:  ___

 FINDINGS:

 Lungs are clear.

 No effusion.

 IMPRESSION:

 1. No OPACITY.
"""


def test_usual_report() -> None:
    assert parse_report(REPORT) == {
        "examination": "CHEST (PORTABLE AP)",
        "indication": "___ year old woman with cough // eval for pneumonia",
        "technique": "Portable AP.",
        "comparison": "___",
        "findings": "Lungs are clear. No effusion.",
        "impression": "1. No OPACITY.",
    }


@pytest.mark.parametrize(
    ("report", "indication"),
    [
        ("INDICATION: cough\nCHEST 2 VIEWS: OPACITY", "cough"),
        ("INDICATION: cough\nCHEST (PORTABLE AP): OPACITY", "cough"),
        ("INDICATION: cough\n CHEST, PA AND LATERAL: OPACITY", "cough"),
        ("INDICATION: cough\nPA and lateral chest: OPACITY", "cough"),
        ("INDICATION: cough CHEST 2 VIEWS: OPACITY", "cough"),
        ("INDICATION: cough\nFINDINGS AND IMPRESSION: OPACITY", "cough"),
        ("INDICATION: cough\nFindings/Impression: OPACITY", "cough"),
        ("INDICATION: cough. findings: OPACITY", "cough."),
        ("INDICATION: cough\nFINDINGS\nOPACITY", "cough"),
        ("INDICATION: cough\n\nOPACITY", "cough"),
        ("INDICATION: cough\n________\nOPACITY", "cough"),
        ("INDICATION: cough\r\n \t\r\nOPACITY", "cough"),
        ("INDICATION: cough\rFINDINGS: OPACITY", "cough"),
        ("INDICATION: cough\nWET READ: ___ OPACITY", "cough"),
        ("INDICATION: cough\nwet read by resident, OPACITY", "cough"),
        ("INDICATION: cough\nPROVISIONAL FINDINGS IMPRESSION (PFI): OPACITY", "cough"),
        ("PROVISIONAL FINDINGS IMPRESSION (PFI): OPACITY\n\nINDICATION: cough", "cough"),
        ("INDICATION: cough\n1. FINDINGS: OPACITY", "cough"),
        ("INDICATION: cough\n**FINDINGS:** OPACITY", "cough"),
        ("INDICATION: cough\nADDENDUM OPACITY", "cough"),
        ("INDICATION: cough\nwet read by resident at 8:14", "cough"),
        ("Indication - cough\nTechnique - as before", "cough"),
        ("EXAMINATION: CHEST INDICATION - cough FINDINGS - OPACITY", "cough"),
        ("[INDICATION] cough\n[FINDINGS] OPACITY", "cough"),
        ("INDICATION: cough. Bottom line : as before", "cough."),
        ("INDICATION: cough, findings on the lateral film: as before", "cough,"),
        ("INDICATION: cough\nCONTRAINDICATION: pacemaker", "cough"),
        ("indication: cough\nimpression: OPACITY", "cough"),
        ("Reason for Exam: cough\nComparison: OPACITY", "cough"),
        ("CLINICAL HISTORY: cough\nRECOMMENDATION(S): OPACITY", "cough"),
        ("REASON FOR\n EXAM: cough", "cough"),
        ("HISTORY: cough\nINDICATION: fever", "cough fever"),
        ("INDICATION: History: 80M with cough", "80M with cough"),
        ("INDICATION: fall at 10:30, pain", "fall at 10:30, pain"),
        ("PFI: OPACITY\nHISTORY: cough", "cough"),
        ("WET READ: ___ 8:14 PM\n OPACITY\n\nFINAL REPORT\n INDICATION: cough", "cough"),
        ("OPACITY before any header\nINDICATION: cough", "cough"),
        ("EXAMINATION: CHEST INDICATION: cough FINDINGS: OPACITY", "cough"),
        ("COMPARISON: None. Clinical\nINDICATION: cough", "cough"),
        ("INDICATION:\n\nOPACITY", None),
        ("FINDINGS: OPACITY\nINDICATION: OPACITY of a second study", None),
        ("INDICATION: cough\nIMPRESSION: OPACITY\n\nEXAMINATION: KNEE\nHISTORY: fall, OPACITY", "cough"),
        ("FINDINGS: OPACITY\nINDICATION: fever", None),
        ("INDICATION: cough\nIMPRESSION: OPACITY\n\nEXAMINATION: KNEE\nHISTORY: fall", "cough"),
        ("FINDINGS:\n\nINDICATION: cough\nOPACITY: yes", "cough"),
        ("HISTORY:\nINDICATION: \nFINDINGS: OPACITY", None),
        ("Addendum: OPACITY\n\nFINAL REPORT\nClinical Indication: cough", "cough"),
        ("\u0130ND\u0130CAT\u0130ON: cough\nF\u0130ND\u0130NGS: OPACITY", "cough"),
        ("\u0131ndication: cough\nf\u0131nd\u0131ngs: OPACITY", "cough"),
        ("Indication\u017f: cough\nFindings: OPACITY", "cough"),
        ("IMPRESSION: OPACITY given history: OPACITY", None),
        ("no header, OPACITY", None),
        ("", None),
    ],
)
def test_indication_holds_only_what_was_written_before_the_reading(report: str, indication: str | None) -> None:
    assert parse_report(report).get("indication") == indication


@pytest.mark.parametrize("name", ["INDICATION", "Reason for exam", "EXAMINATION", "TECHNIQUE", "COMPARISON"])
@pytest.mark.parametrize("colon", [":", ""])
def test_a_section_may_stand_behind_a_blank_line_where_findings_have_a_header(name: str, colon: str) -> None:
    rest = f"\n\n \n cough\n\nand fever\n\nTECHNIQUE{colon}\n\nFINDINGS{colon}\n\nOPACITY\n\nIMPRESSION: OPACITY"
    assert parse_report(f"{name}{colon}{rest}") == {
        next(iter(parse_report(f"{name}: x"))): "cough",
        "findings": "OPACITY",
        "impression": "OPACITY",
        "other": "and fever",
    }


@pytest.mark.parametrize(
    "report",
    [
        "INDICATION:\n\ncough",
        "INDICATION:\n\ncough\n\nIMPRESSION: x",
        "INDICATION:\n\ncough\n\nIMPRESSION: x\n\nFINDINGS: y",
        "INDICATION:\n\ncough and more findings: x",
        "INDICATION:\n\nTECHNIQUE: x\n\ncough\n\nFINDINGS: y",
        "INDICATION:\n\ncough\n\nCHEST 2 VIEWS: x\n\nFINDINGS: y",
        "INDICATION:\n____\ncough\n\nFINDINGS: y",
        "FINDINGS: x\n\nINDICATION:\n\ncough\n\nFINDINGS: y",
    ],
)
def test_what_may_be_a_reading_behind_an_empty_indication_is_none(report: str) -> None:
    assert parse_report(report).get("indication") is None


@pytest.mark.parametrize(
    ("report", "section"),
    [
        ("no header", "other"),
        ("WET READ: x", "other"),
        ("ADDENDUM\nx", "other"),
        ("FINDINGS AND IMPRESSION: x", "other"),
        ("CHEST 2 VIEWS: x", "other"),
        ("preamble\nFINDINGS: x", "findings"),
        ("FINDINGS:\n\nx\n\ny", "findings"),
        ("FINDINGS:\n LUNGS: x\n HEART: y", "findings"),
        ("CONCLUSION: x", "impression"),
        ("FINDINGS: x. Impression: y", "impression"),
    ],
)
def test_section_of_the_rest(report: str, section: str) -> None:
    assert parse_report(report)[section]


@pytest.mark.parametrize(
    ("paragraph", "indication"),
    [
        ("cough. The lungs are clear, no OPACITY.", "cough."),
        ("cough\nLungs are clear, no OPACITY.", "cough"),
        ("cough\n lungs are clear", "cough"),
        ("___F with cough. There is no OPACITY.", "___F with cough."),
        ("cough. No focal consolidation, no OPACITY.", "cough."),
        ("cough. Heart size normal. OPACITY.", "cough."),
        ("cough. PA and lateral views of the chest were obtained. OPACITY", "cough."),
        ("cough. FINDINGS the OPACITY", "cough."),
        ("cough. In comparison to the prior film OPACITY", "cough."),
        ("cough. Moderate right pleural effusion, OPACITY", "cough."),
        ("lungs are clear of OPACITY, cough", ""),
        ("cough // There is OPACITY", "cough //"),
        # Of people, not of films: kept.
        ("rule out pneumonia. Heart failure, lung cancer.", "rule out pneumonia. Heart failure, lung cancer."),
        ("There is concern for pneumonia. No fever.", "There is concern for pneumonia. No fever."),
        ("No acute distress, chest pain", "No acute distress, chest pain"),
        ("aorta repair, evaluate lungs; effusion?", "aorta repair, evaluate lungs; effusion?"),
    ],
)
def test_indication_ends_where_a_reading_starts(paragraph: str, indication: str) -> None:
    sections = parse_report(f"INDICATION: {paragraph}\n\nIMPRESSION: x")
    assert sections.get("indication", "") == indication.strip()
    assert "OPACITY" not in sections.get("indication", "")
    assert " ".join([sections.get("indication", ""), sections.get("other", "")]).split() == paragraph.split()


def test_what_turns_out_to_be_a_header_keeps_its_words() -> None:
    assert parse_report("INDICATION: wet read by resident, OPACITY") == {"other": "wet read by resident, OPACITY"}


@settings(max_examples=50)
@given(st.text("IMPRESSIONimpressionFINDGCLTORYe:\n\r ./()0_", max_size=200), st.text(max_size=20))
def test_no_word_is_invented(report: str, more: str) -> None:
    sections = parse_report(report + more)
    assert set(sections) <= set(SECTIONS)
    words = (report + more).split()
    assert sum(len(text) for text in sections.values()) <= sum(map(len, words)) + len(words) + len(SECTIONS)


_PIECES = st.sampled_from(
    [
        *(
            "INDICATION:",
            "History:",
            "history:",
            "FINDINGS:",
            "findings",
            "Findings",
            "IMPRESSION",
            "Reason for",
            "exam:",
        ),
        *(
            "CHEST 2 VIEWS:",
            "COMPARISON:",
            "comparison:",
            "wet read",
            "FINAL REPORT",
            "final",
            "report",
            "PFI",
            "study",
        ),
        *(
            "cough",
            "Lungs are clear.",
            "There is no fracture.",
            "\n",
            "\n\n",
            "\n \n",
            "\r\n",
            "____",
            "- ",
            "(",
            ")",
            "1. ",
            ":",
            "12:30",
            "/",
        ),
    ]
)


@settings(max_examples=300)
@given(st.lists(_PIECES, max_size=25), st.sampled_from(["\n", " ", "\n\n"]))
def test_every_word_outside_headers_is_in_exactly_one_section(pieces: list[str], joint: str) -> None:
    report = joint.join(f"{piece} w{i}a" for i, piece in enumerate(pieces))
    words = [word for text in parse_report(report).values() for word in re.findall(r"w\d+a", text)]
    assert sorted(words) == sorted(re.findall(r"w\d+a", report))


@settings(max_examples=150)
@given(st.lists(_PIECES, max_size=25))
def test_what_is_pre_read_stays_so_when_it_is_read_again(pieces: list[str]) -> None:
    for name, text in parse_report(" ".join(pieces)).items():
        if name in PRE_READ:
            assert parse_report(f"{name}: {text}") == {name: text}


@settings(max_examples=150)
@given(st.lists(_PIECES, max_size=25), st.booleans())
def test_an_indication_from_a_shard_comes_back_unchanged(pieces: list[str], spaced: bool) -> None:
    config = TextConfig()
    selected = select_text(parse_report((" " if spaced else "").join(pieces)), config=config)
    assert request_text(selected, config=config) == selected


@settings(max_examples=150)
@given(st.lists(_PIECES, max_size=12), st.sampled_from(["FINDINGS:", "IMPRESSION:", "WET READ:", "CHEST 2 VIEWS:"]))
def test_text_after_a_post_read_header_never_reaches_the_model(pieces: list[str], header: str) -> None:
    report = "INDICATION: cough " + " ".join(pieces) + f"\n{header} {LEAK}"
    assert LEAK not in request_text(report, config=TextConfig())


@pytest.mark.parametrize("reader", ["strict", "mimic"])
@pytest.mark.parametrize(
    "piece",
    [
        *("A", "A ", "- ", " ", "\n", "reason ", "____ ", "INDICATION: ", "FINDINGS:\n", "\n HISTORY: x", "the "),
        *("The lungs are clear. ", "two pa and lateral views ", "no evidence of ", REPORT),
        *(r"\n", "\\", ";", ".", r"-{\*reason "),
    ],
)
def test_a_long_report_takes_time_in_proportion(piece: str, reader: SectionReader) -> None:
    """A quarter of the length bounds the whole; a second passes only where the machine stalls."""
    times = []
    for length in (50_000, 200_000):
        text = "INDICATION: " + piece * (length // len(piece))
        started = time.process_time()
        parse_report(text, reader=reader)
        unescape_column([text])
        times.append(time.process_time() - started)
    assert times[1] < 8 * times[0] + 1


@pytest.mark.parametrize("joint", ["\n\n", "\n", " "])
def test_real_reports(real_data: Path, joint: str) -> None:
    """Open-i keeps sections apart; joined into one text they come apart again, and nothing joins the indication."""
    same = shorter = 0
    with tarfile.open(real_data / "openi-reports" / "ecgen-radiology-half.tgz") as archive:
        for member in archive.getmembers()[::4]:
            if not member.name.endswith(".xml") or (file := archive.extractfile(member)) is None:
                continue
            labels = {
                element.get("Label"): element.text or "" for element in ElementTree.parse(file).iter("AbstractText")
            }
            report = joint.join(f"{label}: {text}" for label, text in labels.items() if text.strip())
            wanted = " ".join(labels.get("INDICATION", "").split())
            found = parse_report(report).get("indication", "")
            assert found == wanted or len(found) < len(wanted), member.name
            same, shorter = same + (found == wanted), shorter + (found != wanted)
    assert same > 480
    assert shorter <= 0.03 * same


def test_real_indications_are_kept_and_real_readings_cut(real_data: Path) -> None:
    """Findings dictated right behind an indication: the words before the cut would leak."""
    indications = kept = num_words = leaked = 0
    with tarfile.open(real_data / "openi-reports" / "ecgen-radiology-half.tgz") as archive:
        for member in archive:
            if not member.name.endswith(".xml") or (file := archive.extractfile(member)) is None:
                continue
            labels = {part.get("Label"): part.text or "" for part in ElementTree.parse(file).iter("AbstractText")}
            indication, findings = labels.get("INDICATION", ""), labels.get("FINDINGS", "")
            if indication.strip():
                indications += 1
                kept += reading_starts(indication) == len(indication)
            num_words += len(findings.split())
            leaked += len(findings[: max(0, reading_starts(f"cough. {findings}") - 7)].split())
    assert kept >= 0.98 * indications
    assert leaked < 0.04 * num_words
