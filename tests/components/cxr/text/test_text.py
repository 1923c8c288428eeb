from __future__ import annotations

import pytest

from components.cxr.errors import UserError
from components.cxr.text.text import (
    SECTIONS,
    SectionReader,
    TextConfig,
    clean_sections,
    decode_report,
    is_leaky,
    parse_report,
    request_text,
    select_text,
)

REPORT = "FINAL REPORT\n INDICATION: cough\n\n CHEST 2 VIEWS: OPACITY\n\n IMPRESSION: none\n"


def test_request_takes_a_bare_text_as_the_indication() -> None:
    assert request_text("  cough,\n fever ", config=TextConfig()) == "cough, fever"
    assert request_text(REPORT, config=TextConfig()) == "cough"
    assert request_text("FINDINGS: OPACITY", config=TextConfig()) == ""
    assert request_text("cough", config=TextConfig(sections=())) == ""


def test_of_a_bare_text_that_is_a_reading_nothing_is_read() -> None:
    for reading in ("Small left effusion.", "The lungs are clear.", "No focal consolidation, cough."):
        assert request_text(reading, config=TextConfig()) == ""
        assert clean_sections({"indication": reading}) == {"other": reading}


def test_sections_are_joined_in_the_configured_order() -> None:
    config = TextConfig(sections=("comparison", "indication", "technique"))
    assert (
        select_text({"indication": "cough", "comparison": " none \n", "technique": None}, config=config) == "none cough"
    )
    behind = TextConfig(sections=("indication", "comparison"))
    assert select_text({"comparison": "none", "indication": "cough"}, config=behind) == "cough none"


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
    assert decode_report(b"Patient\x92s cough \x96 2 days") == "Patient’s cough – 2 days"
    assert decode_report(b"\x81") == "\x81"
    assert decode_report("INDICATION: café".encode("utf-16")) == "INDICATION: café"
    assert decode_report(b"\xef\xbb\xbfcaf\xe9") == "café"


def test_request_is_read_as_the_training_data_was() -> None:
    assert request_text(REPORT, config=TextConfig(), reader="mimic") == "cough CHEST 2 VIEWS: OPACITY"
    assert request_text("cough. The lungs are clear.", config=TextConfig()) == "cough."
    assert request_text("cough. The lungs are clear.", config=TextConfig(), reader="mimic").endswith("clear.")


@pytest.mark.parametrize("reader", ["strict", "mimic"])
def test_a_leaky_text_from_a_shard_comes_back_unchanged(reader: SectionReader) -> None:
    config = TextConfig(sections=("indication", "findings"), allow_leaky_sections=True)
    text = "cough. The lungs are clear."
    assert request_text(text, config=config, reader=reader) == text


def test_sections_in_columns_of_their_own_are_cut_too() -> None:
    columns = {"indication": "cough.  The lungs are clear.", "findings": " clear \n", "technique": " "}
    assert clean_sections(columns) == {"indication": "cough.", "findings": "clear", "other": "The lungs are clear."}
    assert clean_sections(columns, reader="mimic") == {"indication": "cough. The lungs are clear.", "findings": "clear"}


def test_text_of_the_reader_mimic_is_leaky() -> None:
    assert is_leaky(TextConfig(), reader="mimic")
    assert not is_leaky(TextConfig(), reader="strict")
    assert not is_leaky(TextConfig(sections=()), reader="mimic")


def test_both_readers_name_the_same_sections() -> None:
    for reader in ("strict", "mimic"):
        assert set(parse_report(REPORT, reader=reader)) <= set(SECTIONS)
