from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.cxr.text.plain_text import has_escaped_breaks, plain_text, unescape_breaks
from components.cxr.text.text import (
    TextConfig,
    clean_sections,
    decode_report,
    parse_report,
    request_text,
    unescape_column,
)

LEAK = "OPACITY"


@pytest.mark.parametrize(
    "report",
    [
        r"INDICATION: cough\nFINDINGS: OPACITY\nIMPRESSION: OPACITY",
        r"Indication: cough\n\nFindings: OPACITY\n\nImpression: normal",
        r"INDICATION: cough\r\nFINDINGS: OPACITY",
        r"INDICATION: cough\\nFINDINGS: OPACITY",
        r"indication: cough\nfindings: OPACITY",
        "INDICATION: cough_x000D_FINDINGS: OPACITY_x000D_IMPRESSION: x",
        "INDICATION: cough_x000D_\nFindings: OPACITY",
        "INDICATION: cough&#10;Findings: OPACITY",
        "INDICATION: cough&#xA;&#13;Findings: OPACITY",
        "INDICATION: cough&amp;#10;Findings: OPACITY",
        r"INDICATION: cough\.br\Findings: OPACITY",
        "INDICATION: cough\x0bFindings: OPACITY",
        "INDICATION: cough\u2028Findings: OPACITY",
        "INDICATION: cough<br>FINDINGS: OPACITY",
        "INDICATION: cough<br/><b>Findings</b>: OPACITY",
        "<p><b>INDICATION:</b>&nbsp;cough</p><p><b>FINDINGS:</b>&nbsp;OPACITY</p>",
        "<table><tr><td>INDICATION</td><td>cough</td></tr><tr><td>FINDINGS</td><td>OPACITY</td></tr></table>",
        "&lt;p&gt;INDICATION: cough&lt;/p&gt;&lt;p&gt;Findings: OPACITY&lt;/p&gt;",
        "<report><INDICATION>cough</INDICATION><FINDINGS>OPACITY</FINDINGS></report>",
        r"{\rtf1\ansi{\fonttbl{\f0 Arial;}}\b INDICATION:\b0  cough\par \b FINDINGS:\b0  OPACITY\par}",
        "INDICATION: coughFINDINGS: OPACITY",
        "INDICATION: COUGHFINDINGS: OPACITY",
        "INDICATION: coughFindings: OPACITY",
        "INDICATION: cough_FINDINGS: OPACITY",
        "INDICATION: cough 2FINDINGS: OPACITY",
        "INDICATION：cough\nFINDINGS：OPACITY",
        "INDICATION\u00a0: cough\nFINDINGS\u00a0: OPACITY",
        "\ufeffINDICATION: cough\r\n\ufeffFINDINGS: OPACITY",
        "F\u200bINDINGS: OPACITY\nINDICATION: OPACITY",
        "INDICATION - cough\nFINDINGS - OPACITY",
        "INDICATION – cough\nImpression – OPACITY",
        "INDICATION\tcough\nFINDINGS\tOPACITY",
        "HX: cough\nFINDINGS: OPACITY",
        "Clinical Hx: cough\nFINDINGS: OPACITY",
        "Clinical details: cough\nReport: OPACITY",
        "Reason for referral: cough\nComment: OPACITY",
        "**Indication:** cough\n\n**Findings**\nOPACITY",
        "## Indication\ncough\n## Findings\nOPACITY",
        "[INDICATION] cough [FINDINGS] OPACITY",
        "1. INDICATION: cough 2. FINDINGS: OPACITY",
        "• Indication: cough\n• Findings: OPACITY",
        '{"indication": "cough", "findings": "OPACITY"}',
        "INDICATION: cough\nBefund: OPACITY\nBeurteilung: OPACITY",
        "Indication : cough. Résultats : OPACITY",
        "Indication : cough\nRe\u0301sultats : OPACITY",
        "INDICATION: cough\nÜBERSICHT: OPACITY",
        "INDICATION: cough. Chest findings: OPACITY",
        "INDICATION: cough. Findings today: OPACITY",
        "INDICATION: cough\nFINDINGS (PA and lateral): OPACITY",
        "INDICATION: cough\nFINDINGS [chest]: OPACITY",
        "INDICATION: cough\nFindings OPACITY",
        "INDICATION: cough. Impression OPACITY",
        "INDICATION: cough\nFINDINGS= OPACITY",
        "INDICATION: cough|FINDINGS: OPACITY",
        "INDICATION: cough~FINDINGS: OPACITY",
        "INDICATION: cough\nLungs: OPACITY",
        "INDICATION: cough. Lungs: OPACITY",
        "INDICATION: cough\n\nADDENDUM: OPACITY",
        "INDICATION: cough ADDENDUM: OPACITY",
        "INDICATION: cough\nAddendum by Dr. X: OPACITY",
    ],
)
def test_layouts_that_leaked(report: str) -> None:
    """Under every layout nothing but the indication's own words is pre-read, in a table as when pasted."""
    for text in (report, report.replace("\n", "\r\n"), f"\ufeff{report}"):
        for found in (parse_report(text).get("indication", ""), request_text(text, config=TextConfig())):
            assert LEAK not in found
            assert found.strip('",.|~-•*_ {}\\12') in ("cough", "COUGH", "")


@pytest.mark.parametrize(
    "header",
    [
        *(
            "HX:",
            "Hx:",
            "Clinical Hx:",
            "CLINICAL DETAILS:",
            "INDICATION -",
            "INDICATION：",
            "Indication :",
            "INDICATION=",
        ),
        *(
            "<b>INDICATION</b>:",
            "Indication&nbsp;:",
            "**INDICATION:**",
            "[Indication]",
            "INDICATION\t",
            "Reason:",
            "PMH:",
        ),
        *("Clinical information:", "Clinical history (from order):", "\ufeffINDICATION:", "1) INDICATION:"),
    ],
)
def test_headers_of_an_indication(header: str) -> None:
    assert parse_report(f"{header} cough\nFINDINGS: OPACITY")["indication"] == "cough"


def test_a_contraindication_is_no_indication() -> None:
    assert "indication" not in parse_report("CONTRAINDICATIONS: none. OPACITY")


@given(st.text("ab .,:;\n()/-0", max_size=80))
def test_plain_text_stays(text: str) -> None:
    assert plain_text(text) == text


@given(st.text("<>/&#10;brnN\\_x0D \n:{}", max_size=60))
def test_markup_is_gone_after_one_reading(text: str) -> None:
    once = plain_text(text)
    assert "<br>" not in once
    assert "_x000D_" not in once
    assert "\r" not in once


def test_what_is_no_markup_stays() -> None:
    assert plain_text("SpO2 < 90, <5 mm & stable > 3 <unknown>") == "SpO2 < 90, <5 mm & stable > 3 <unknown>"


def test_a_column_decides_as_a_whole_about_backslashes() -> None:
    escaped = [r"cough\nFindings: none", "fever", r"fall\r\n\r\npain"]
    assert unescape_column(escaped) == ["cough\nFindings: none", "fever", "fall\n\npain"]
    real = ["cough\nFindings: none", "fever\nx", r"see share\Name\nNotes"]
    assert unescape_column(real) == real
    assert unescape_column([r"C:\new\reports", "fever"]) == [r"C:\new\reports", "fever"]
    assert not has_escaped_breaks([])
    assert unescape_breaks(r"a\tb\nc") == "a\tb\nc"


def test_a_literal_break_never_hides_a_header_or_a_reading() -> None:
    """In a column that has real line breaks as well, `\\n` stays, and still nothing leaks."""
    assert LEAK not in parse_report("HISTORY: x\nINDICATION: cough\\nFindings: OPACITY").get("indication", "")
    assert "clear" not in parse_report("HISTORY: x\nINDICATION: cough\\nLungs are clear").get("indication", "")


def test_sections_in_columns_are_read_like_reports() -> None:
    columns = {"indication": "cough<br>CHEST 2 VIEWS: OPACITY\n", "findings": "clear"}
    assert clean_sections(columns)["indication"] == "cough"
    assert LEAK in clean_sections(columns)["other"]
    assert clean_sections({"indication": "cough\n\nOPACITY"})["indication"] == "cough"


def test_a_pasted_indication_ends_at_what_is_none() -> None:
    config = TextConfig()
    assert request_text("cough\n\nOPACITY", config=config) == "cough"
    assert request_text("cough\nCHEST 2 VIEWS: OPACITY", config=config) == "cough"
    assert request_text("cough\nLeft basilar opacity", config=config) == "cough"
    assert request_text(r"cough\nLeft basilar opacity", config=config) == "cough"
    assert request_text("cough<br>Left basilar opacity", config=config) == "cough"


def test_headers_with_umlauts_of_windows_files() -> None:
    assert parse_report(decode_report("Indication : toux\nRésultats : OPACITY".encode("cp1252")))["findings"] == LEAK
