"""Real reports laid out as other hospitals do: how much of the findings each section reader lets into the indication.

`docs/reports.md` quotes these figures.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from components.cxr.films.pixels import encode_png
from components.cxr.ids import IdKey
from components.cxr.labels import PATHOLOGIES
from components.cxr.text.text import SectionReader, parse_report
from components.preprocess.adapters.openi import read_openi
from components.preprocess.audit import audit
from components.preprocess.config import CsvData, OpeniData, PreprocessConfig, parse_data
from components.preprocess.records import SourceStudy

Layout = Callable[[dict[str, str]], str]


def header_with_a_digit(sections: dict[str, str]) -> str:
    parts = {
        "COMPARISON": sections.get("comparison", ""),
        "INDICATION": sections["indication"],
        "CHEST 2 VIEWS": sections["findings"],
        "IMPRESSION": sections.get("impression", ""),
    }
    return "FINAL REPORT\n" + "".join(f" {name}:  {text}\n\n" for name, text in parts.items())


def same_paragraph(sections: dict[str, str]) -> str:
    indication = sections["indication"].rstrip(".; ")
    return f"FINAL REPORT\n INDICATION:  {indication}.  {sections['findings']}\n\n IMPRESSION:  x\n"


@pytest.fixture(scope="module")
def studies(real_data: Path) -> list[tuple[SourceStudy, dict[str, str]]]:
    """Open-i's reports that have an indication and findings."""
    data = OpeniData(reports=str(real_data / "openi-reports" / "ecgen-radiology-half.tgz"))
    read = [
        (study, parse_report(study.report_text or "", reader="mimic"))
        for study in read_openi(data, key=IdKey(None)).studies
    ]
    return [(study, sections) for study, sections in read if sections.keys() >= {"indication", "findings"}]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "reader", "low", "high"),
    [
        (header_with_a_digit, "strict", 0.01, 0.025),
        (header_with_a_digit, "mimic", 0.55, 0.60),
        (same_paragraph, "strict", 0.01, 0.025),
        (same_paragraph, "mimic", 0.55, 0.60),
    ],
)
def test_share_of_indications_that_affirm_a_finding(
    studies: list[tuple[SourceStudy, dict[str, str]]],
    tmp_path: Path,
    layout: Layout,
    reader: SectionReader,
    low: float,
    high: float,
) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "x.png").write_bytes(encode_png(np.zeros((8, 8), np.uint8)))
    with (tmp_path / "table.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "patient_id", "report", *PATHOLOGIES])
        for study, sections in studies:
            states = ["" if state is None else state for state in study.labels]
            table.writerow([study.study_id, study.patient_id, layout(sections), *states])
    source = {"table": str(tmp_path / "table.csv"), "image_dir": str(tmp_path / "films")}
    data = parse_data({"adapter": "csv", **source, "columns": {"report": "report"}})
    assert isinstance(data, CsvData)
    report = audit(data, PreprocessConfig(section_reader=reader))
    found = report.sections["indication"].affirmed
    assert report.num_studies == 1747
    assert found.share is not None
    assert low < found.share < high
