"""The published conventions as docs describe them, on made-up reports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.cxr.text.mimic_sections import read_mimic
from components.cxr.text.text import parse_report

CASES = [
    (" INDICATION:  cough\n\n FINDINGS:  clear\n", {"indication": "cough", "findings": "clear"}),
    ("\n INDICATION: cough\n\n CHEST 2 VIEWS: opacity\n", {"indication": "cough", "other": "CHEST 2 VIEWS: opacity"}),
    (
        " INDICATION: cough\n CHEST 2 VIEWS: opacity\n IMPRESSION: x",
        {"indication": "cough CHEST 2 VIEWS: opacity", "impression": "x"},
    ),
    (" PFI: opacity\n IMPRESSION: x", {"indication": "opacity", "impression": "x"}),
    (" HISTORY: cough\n INDICATION: fever\n FINDINGS: x", {"indication": "cough fever", "findings": "x"}),
    ("INDICATION: cough\nFINDINGS: x", {"other": "INDICATION: cough FINDINGS: x"}),
    (" Indication: cough\n FINDINGS: x", {"other": "Indication: cough", "findings": "x"}),
    ("WET READ: opacity\n\n INDICATION: cough\n IMPRESSION: ", {"other": "WET READ: opacity", "indication": "cough"}),
    (" INDICATION: cough\n\n opacity\n\n none", {"indication": "cough", "other": "opacity none"}),
    (" INDICATION:\n\n opacity", {"indication": "opacity"}),
    (" INDICATION: cough\n\n opacity\n FINDINGS: x", {"indication": "cough opacity", "findings": "x"}),
    (" INDICATION: cough\n\n opacity\n FINDINGS: \n", {"indication": "cough opacity"}),
    (" NDICATION: cough\n FINDINGS: x", {"findings": "x", "impression": "cough"}),
    (" FINDINGS AND IMPRESSION: x", {"findings": "x"}),
    (" CHEST, PA AND LATERAL: x\n IMPRESSION: y", {"other": "x", "impression": "y"}),
    (" INDICATION: cough\r\n FINDINGS: x", {"indication": "cough", "findings": "x"}),
    ("no header", {"other": "no header"}),
    ("", {}),
]  # fmt: skip


@pytest.mark.parametrize(("report", "sections"), CASES)
def test_convention(report: str, sections: dict[str, str]) -> None:
    assert parse_report(report, reader="mimic") == sections


@given(st.lists(st.sampled_from(["\n INDICATION: ", "\n PFI: ", "\n FINDINGS: ", "\n\n", "cough", " ", "\n A: "])))
def test_no_word_is_lost_or_doubled(pieces: list[str]) -> None:
    words = [f"w{i}" for i in range(len(pieces))]
    report = "".join(f"{piece} {word} " for piece, word in zip(pieces, words, strict=True))
    found = " ".join(read_mimic(report).sections.values()).split()
    assert sorted(word for word in found if word in words) == sorted(words)
