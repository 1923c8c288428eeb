from __future__ import annotations

import tarfile
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.cxr.errors import UserError
from components.cxr.text import SECTIONS, TextConfig, decode_report, parse_report, request_text, select_text

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
        ("INDICATION: cough\n1. FINDINGS: OPACITY", "cough"),
        ("INDICATION: cough\n**FINDINGS:** OPACITY", "cough"),
        ("INDICATION: cough\nADDENDUM OPACITY", "cough"),
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
        ("IMPRESSION: OPACITY given history: OPACITY", None),
        ("no header, OPACITY", None),
        ("", None),
    ],
)
def test_indication_holds_only_what_was_written_before_the_reading(report: str, indication: str | None) -> None:
    assert parse_report(report).get("indication") == indication


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
        *("cough", "Lungs clear.", "\n", "\n\n", "\n \n", "\r\n", "____", "- ", "(", ")", "1. ", ":", "12:30", "/"),
    ]
)


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


def test_request_takes_a_bare_text_as_the_indication() -> None:
    assert request_text("  cough,\n fever ", config=TextConfig()) == "cough, fever"
    assert request_text(REPORT, config=TextConfig()) == "___ year old woman with cough // eval for pneumonia"
    assert request_text("FINDINGS: OPACITY", config=TextConfig()) == ""
    assert request_text("cough", config=TextConfig(sections=())) == ""


def test_sections_are_joined_in_the_configured_order() -> None:
    config = TextConfig(sections=("comparison", "indication", "technique"))
    assert (
        select_text({"indication": "cough", "comparison": " none \n", "technique": None}, config=config) == "none cough"
    )


@pytest.mark.parametrize("section", ["findings", "impression", "other"])
def test_leaky_sections_are_refused_unless_allowed(section: str) -> None:
    with pytest.raises(UserError, match=f"train.text.*{section}.*allow_leaky_sections"):
        TextConfig.parse({"sections": ["indication", section]}, where="train.text")
    allowed = TextConfig.parse({"sections": [section], "allow_leaky_sections": True}, where="train.text")
    assert allowed.leaky
    assert not TextConfig(allow_leaky_sections=True).leaky


def test_config_refuses_a_section_twice_or_unknown() -> None:
    with pytest.raises(UserError, match="at most once"):
        TextConfig.parse({"sections": ["indication", "indication"]}, where="text")
    with pytest.raises(UserError, match=r"text.sections.0.*'history'"):
        TextConfig.parse({"sections": ["history"]}, where="text")


def test_decoding() -> None:
    assert decode_report("\ufeffé".encode()) == "é"
    assert decode_report(b"caf\xe9") == "café"
    assert decode_report(b"\xef\xbb\xbfcaf\xe9") == "café"


@pytest.mark.parametrize("piece", ["A", "A ", "- ", " ", "\n", "reason ", "____ "])
def test_time_grows_with_the_length_alone(piece: str) -> None:
    started = time.perf_counter()
    parse_report(piece * (40_000 // len(piece)))
    assert time.perf_counter() - started < 4


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
    assert same > 500
    assert shorter <= 0.005 * same
