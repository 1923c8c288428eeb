"""Reports: MIMIC's form, words that carry the state, and the reader's labels."""

import re

import numpy as np
import pytest

from components.cxr.labels import NEGATIVE, PATHOLOGIES, POSITIVE, SUPPORT_DEVICES, UNCERTAIN
from pipeline.synthetic import phrases
from pipeline.synthetic.dataset import draw_readings, read_labels
from pipeline.synthetic.indications import draw_indication
from pipeline.synthetic.places import place_finding
from pipeline.synthetic.rates import PUBLISHED, PUBLISHED_STUDIES
from pipeline.synthetic.reading import Mention, Reading, labels_of
from pipeline.synthetic.reports import expand, sentence, write_report

FINDINGS = [name for name in PATHOLOGIES if name != "No Finding"]


@pytest.fixture(scope="module")
def readings() -> list[Reading]:
    return [reading for patient in draw_readings(400, seed=7) for reading in patient]


@pytest.fixture(scope="module")
def reports(readings: list[Reading]) -> list[str]:
    return [write_report(reading) for reading in readings]


@pytest.mark.parametrize("bank", [phrases.POSITIVE, phrases.NEGATIVE, phrases.UNCERTAIN])
@pytest.mark.parametrize("pathology", FINDINGS)
def test_at_least_eight_phrasings(bank: dict[str, tuple[str, ...]], pathology: str) -> None:
    rng = np.random.default_rng(1)
    assert len({expand(template, rng) for _ in range(200) for template in bank[pathology]}) >= 8


@pytest.mark.parametrize("state", [POSITIVE, NEGATIVE, UNCERTAIN])
@pytest.mark.parametrize("pathology", [name for name in FINDINGS if name != SUPPORT_DEVICES])
def test_sentences_are_whole(pathology: str, state: int) -> None:
    rng = np.random.default_rng(2)
    for _ in range(60):
        seen = None if state == NEGATIVE else place_finding(rng, pathology, severity=rng.random(), before=())
        mention = Mention(pathology=pathology, state=state, finding=seen, prior=seen if rng.random() < 0.5 else None)
        text = sentence(mention, rng, short=bool(rng.random() < 0.3))
        assert re.fullmatch(r"[A-Z][^\[\]{}|]*[a-z]\.", text), text
        assert "  " not in text
        assert not re.search(r"\ba [aeio]|\b(\w+) \1\b", text), text


def test_reports_have_the_form_of_mimic(reports: list[str]) -> None:
    for report in reports:
        assert "FINAL REPORT\n" in report
        assert re.search(r"^ (INDICATION|HISTORY|REASON FOR EXAMINATION|CLINICAL HISTORY):  ___", report, re.MULTILINE)
        assert re.search(r"^ IMPRESSION: \n \n \S", report, re.MULTILINE)
        assert all(line.startswith(" ") and len(line) <= 80 for line in report.splitlines())
    with_findings = np.mean(["\n FINDINGS: \n" in report for report in reports])
    assert 0.7 < with_findings < 0.95
    assert any(report.startswith(" WET READ:") for report in reports)


def test_normal_reports_share_their_words(readings: list[Reading], reports: list[str]) -> None:
    impressions = [text.split("IMPRESSION: \n \n")[1] for text, r in zip(reports, readings, strict=True) if r.is_normal]
    assert len(set(impressions)) < 0.3 * len(impressions)


def test_the_comparison_follows_the_prior(readings: list[Reading], reports: list[str]) -> None:
    first = [text for text, r in zip(reports, readings, strict=True) if r.study.index == 0]
    later = [text for text, r in zip(reports, readings, strict=True) if r.study.index > 0]
    changed = re.compile(r"increased|decreased|improved|worse|unchanged|resolved|Again")
    assert np.mean([bool(changed.search(t)) for t in later]) > 0.2 + np.mean([bool(changed.search(t)) for t in first])


def test_the_indication_never_depends_on_the_reading(readings: list[Reading]) -> None:
    for reading in readings[:50]:
        blind = Reading(study=reading.study, mentions=())
        asked = " ".join(draw_indication(reading.study).text.split())
        assert asked in " ".join(write_report(reading).split())
        assert asked in " ".join(write_report(blind).split())


def test_labels_follow_the_mentions(readings: list[Reading]) -> None:
    for reading in readings:
        states = dict(zip(PATHOLOGIES, labels_of(reading), strict=True))
        said = {name: {m.state for m in reading.mentions if m.pathology == name} for name in PATHOLOGIES}
        if states["No Finding"] == POSITIVE:
            assert {name for name in FINDINGS if states[name] is not None} <= {SUPPORT_DEVICES}
            assert not any(said[name] & {POSITIVE, UNCERTAIN} for name in FINDINGS if name != SUPPORT_DEVICES)
            continue
        for name in FINDINGS:
            assert (states[name] is None) == (not said[name])
            assert states[name] is None or states[name] in said[name]


def test_the_reader_misses_and_hedges_but_mostly_sees(readings: list[Reading]) -> None:
    pairs = [(r.study.has(n), s) for r in readings for n, s in zip(PATHOLOGIES, labels_of(r), strict=True) if n in LOUD]
    present = [state for truth, state in pairs if truth]
    absent = [state for truth, state in pairs if not truth]
    assert 0.65 < np.mean([state == POSITIVE for state in present]) < 0.97
    assert np.mean([state == UNCERTAIN for state in present]) > 0.005
    assert np.mean([state == POSITIVE for state in absent]) < 0.02


LOUD = ("Pleural Effusion", "Cardiomegaly", "Support Devices", "Edema", "Pneumothorax")


def test_label_rates_are_those_published_or_raised() -> None:
    labels = list(read_labels(draw_readings(1000, seed=1)).values())
    for column, pathology in enumerate(PATHOLOGIES[1:], 1):
        rate = np.mean([row[column] == POSITIVE for row in labels])
        published = PUBLISHED[pathology].positive / PUBLISHED_STUDIES
        assert 0.9 * published < rate < max(1.8 * published, 0.15)
        assert rate > 0.04
