"""The audit of text on a made-up Open-i set, through its command, and on the real reports where they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from components.cxr.cli import clean_errors
from components.cxr.ids import IdKey, hash_id
from components.preprocess.audit import audit, main
from components.preprocess.audit_report import AuditReport, wilson
from components.preprocess.config import OpeniData, PreprocessConfig
from tests.components.preprocess.openi_set import TinyOpeni

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(clean_errors(main))

SECRET = "Jonathan"


@pytest.fixture
def openi(tmp_path: Path) -> TinyOpeni:
    """Ten reports: 1 to 4 affirm an effusion in the indication, of which 1 to 3 are labeled with it."""
    made = TinyOpeni(tmp_path / "reports", tmp_path / "png")
    for i in range(1, 11):
        made.add(
            i,
            terms=["Pleural Effusion/left"] if i in (1, 2, 3, 9) else ["No Indexing"] if i == 10 else ["normal"],
            indication=f"Patient {SECRET} with effusion" if i <= 4 else "rule out pneumothorax, history of pneumonia",
            findings="The lungs are clear. No effusion." if i > 4 else f"Left effusion, {SECRET}.",
        )
    return made


def run(config: Path, *arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["--config", str(config), *(str(argument) for argument in arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def config(openi: TinyOpeni, tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(openi.values(image_dir=None)))
    return path


def test_command_writes_table_and_json(config: Path, tmp_path: Path) -> None:
    code, out, err = run(config, "--json", tmp_path / "audit.json")
    assert code == 0
    text = (tmp_path / "audit.json").read_text()
    assert SECRET not in out + err + text
    assert "CXR1" not in out + err + text
    report = AuditReport.parse(json.loads(text), where="audit")
    assert (report.adapter, report.section_reader, report.num_studies) == ("openi", "strict", 10)
    indication = report.sections["indication"]
    assert (indication.studies.count, indication.affirmed.count, indication.affirmed.share) == (10, 4, 0.4)
    assert indication.terms == {"effusion": 4}
    effusion = indication.pathologies["Pleural Effusion"]
    assert (effusion.affirmed, effusion.positive.count, effusion.positive.total) == (4, 3, 4)
    assert (effusion.base_rate.count, effusion.base_rate.total) == (4, 9)
    assert indication.pathologies["Pneumothorax"].uncertain == 6
    assert indication.pathologies["Pneumonia"].history + indication.pathologies["Pneumonia"].uncertain == 6
    studies = {hash_id("study", f"CXR{i}", IdKey(None)) for i in range(1, 5)}
    assert len(indication.examples) == 3
    assert {example.study_id for example in indication.examples} <= studies
    assert report.sections["findings"].kind == "control"
    assert report.sections["findings"].affirmed.count == 10
    assert report.sections["findings"].pathologies["Pleural Effusion"].negated == 6
    assert report.sections["technique"].affirmed.share is None
    lines = [line.split() for line in out.splitlines()]
    assert ["indication", "10", "4", "40.0%", "16.8%–68.7%", "effusion", "4"] in lines
    assert ["Pleural", "Effusion", "4", "3", "of", "4", "75.0%", "30.1%–95.4%", "44.4%"] in [
        line[:-1] for line in lines
    ]
    assert {line[-1] for line in lines if line[:2] == ["Pleural", "Effusion"]} <= studies


def test_sample_is_fixed_by_the_key_and_the_reader_is_named(config: Path, tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        setting = "preprocess.section_reader=mimic"
        assert run(config, "--max-studies", 5, "--set", setting, "--json", tmp_path / "a.json")[0] == 0
        found.append((tmp_path / "a.json").read_bytes())
    assert found[0] == found[1]
    report = json.loads(found[0])
    assert (report["num_studies"], report["num_sampled_from"], report["section_reader"]) == (5, 10, "mimic")


def test_source_without_reports(tmp_path: Path) -> None:
    made = TinyOpeni(tmp_path / "reports", tmp_path / "png")
    made.add(1)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(made.values(image_dir=None)))
    code, _, err = run(path)
    assert code == 2
    assert err.splitlines()[-1].startswith("error: source has no reports: ")


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (41, 1974, 0.0153, 0.0280), (5, 10, 0.2366, 0.7634)],
)
def test_wilson(count: int, total: int, low: float, high: float) -> None:
    """Values of Wilson's formula worked out by hand or with statsmodels' proportion_confint."""
    found = wilson(count, total)
    assert found.low == pytest.approx(low, abs=5e-4)
    assert found.high == pytest.approx(high, abs=5e-4)
    assert wilson(0, 0).share is None


def test_real_reports(real_data: Path) -> None:
    """Few indications affirm a finding; findings and impression do, which shows that the terms are found."""
    data = OpeniData(reports=str(real_data / "openi-reports" / "ecgen-radiology-half.tgz"))
    sections = audit(data, PreprocessConfig()).sections
    assert share(sections["indication"]) < 0.04
    assert share(sections["comparison"]) < 0.01
    assert share(sections["findings"]) > 0.5
    assert share(sections["impression"]) > 0.5
    devices = sections["impression"].pathologies["Cardiomegaly"]
    assert devices.positive.share is not None
    assert devices.positive.share > 0.9


def share(section: Any) -> float:
    assert section.affirmed.share is not None
    return float(section.affirmed.share)
