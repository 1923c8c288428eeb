"""Reports: MIMIC's form, words that carry the state, phrasings kept for test, headers that trip parsers."""

import re
from collections import Counter

import numpy as np
import pytest

from components.cxr.labels import NEGATIVE, PATHOLOGIES, POSITIVE, SUPPORT_DEVICES, UNCERTAIN
from pipeline.synthetic.dataset import Drawn, draw_data
from pipeline.synthetic.places import place_finding
from pipeline.synthetic.presets import Settings
from pipeline.synthetic.reports import phrases
from pipeline.synthetic.reports.indications import draw_indication
from pipeline.synthetic.reports.reading import Mention, Reading
from pipeline.synthetic.reports.reports import TRAPS, write_report
from pipeline.synthetic.reports.wording import BANKS, Bank, phrasings, sentence
from pipeline.synthetic.tables.labeler import answer_section

FINDINGS = [name for name in PATHOLOGIES if name != "No Finding"]


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return draw_data(600, settings=Settings())


@pytest.fixture(scope="module")
def readings(drawn: Drawn) -> list[Reading]:
    return [reading for patient in drawn.readings for reading in patient]


def _bank(bank: Bank, pathology: str, *, held_out: bool) -> set[str]:
    return {text for group in phrasings(bank, pathology, held_out=held_out) for text in group}


@pytest.mark.parametrize("pathology", FINDINGS)
def test_at_least_40_phrasings_of_a_finding(pathology: str) -> None:
    every = _bank("positive", pathology, held_out=False) | _bank("positive", pathology, held_out=True)
    assert len(every) >= 40
    assert len({re.sub(r"\\W+", " ", text.lower()) for text in every}) == len(every)


@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("pathology", FINDINGS)
def test_phrasings_of_the_test_split_are_its_own(bank: Bank, pathology: str) -> None:
    kept, trained = (_bank(bank, pathology, held_out=held_out) for held_out in (True, False))
    assert not kept & trained
    assert len(kept) >= 2
    assert 2 * len(kept) <= len(trained)


def test_no_sentence_on_a_finding_in_a_test_report_is_in_a_training_report() -> None:
    """Whole sentences with their places and sizes, over all findings, states and banks."""
    said: dict[bool, set[str]] = {True: set(), False: set()}
    for held_out in said:
        rng = np.random.default_rng(4)
        for pathology in FINDINGS:
            for _ in range(150):
                state = (POSITIVE, NEGATIVE, UNCERTAIN)[int(rng.integers(3))]
                mention = _mention(rng, pathology, state)
                said[held_out].add(sentence(mention, rng, short=bool(rng.random() < 0.5), held_out=held_out))
    assert min(map(len, said.values())) > 500
    shared = said[True] & said[False]
    assert not shared


def test_splits_write_with_their_own_phrasings(drawn: Drawn, readings: list[Reading]) -> None:
    for reading in readings:
        key = (reading.study.patient.subject_id, reading.study.study_id)
        if key in drawn.reports:
            held_out = drawn.split_of[key[0]] == "test"
            assert drawn.reports[key] == write_report(reading, held_out=held_out)
            if reading.mentions and not reading.is_normal:
                assert drawn.reports[key] != write_report(reading, held_out=not held_out)


def _mention(rng: np.random.Generator, pathology: str, state: int) -> Mention:
    if pathology == SUPPORT_DEVICES:
        seen = None if state != POSITIVE else _DEVICE
    else:
        seen = None if state == NEGATIVE else place_finding(rng, pathology, severity=rng.random(), before=())
    return Mention(pathology=pathology, state=state, finding=seen, prior=seen if rng.random() < 0.5 else None)


@pytest.mark.parametrize("state", [POSITIVE, NEGATIVE, UNCERTAIN])
@pytest.mark.parametrize("pathology", FINDINGS)
def test_sentences_are_whole(pathology: str, state: int) -> None:
    rng = np.random.default_rng(2)
    for _ in range(60):
        mention = _mention(rng, pathology, state)
        text = sentence(mention, rng, short=bool(rng.random() < 0.3), held_out=bool(rng.random() < 0.3))
        assert re.fullmatch(r"[A-Z][^\[\]{}|]*[A-Za-z]\.", text), text
        assert "  " not in text
        assert not re.search(r"\ba [aeio]|\b(\w+) \1\b", text), text


def test_reports_have_the_form_of_mimic(drawn: Drawn) -> None:
    reports = list(drawn.reports.values())
    for report in reports:
        assert "FINAL REPORT\n" in report
        assert all(len(line) <= 80 for line in report.splitlines())
    pattern = r"^ (INDICATION|HISTORY|REASON FOR EXAMINATION|CLINICAL HISTORY):  ___"
    asked = [bool(re.search(pattern, text, re.MULTILINE)) for text in reports]
    assert 0.9 < np.mean(asked) < 0.99
    assert 0.65 < np.mean(["\n FINDINGS: \n" in report for report in reports]) < 0.95


def test_headers_trip_parsers_at_the_stated_rates() -> None:
    reports = list(draw_data(2000, settings=Settings(seed=5)).reports.values())
    patterns = {
        "wet read": r"\A WET READ",
        "addendum": r"^ ADDENDUM:",
        "view header": r"^ (CHEST 2 VIEWS|PORTABLE CHEST 1 VIEW):",
        "mixed case": r"^ Impression:",
        "no margin": r"^(INDICATION|HISTORY|REASON FOR EXAMINATION|CLINICAL HISTORY):",
        "one header": r"^ FINDINGS AND IMPRESSION:",
        "provisional": r"^ PROVISIONAL FINDINGS IMPRESSION \(PFI\):",
    }
    for trap, pattern in patterns.items():
        rate = np.mean([bool(re.search(pattern, text, re.MULTILINE)) for text in reports])
        assert 0.4 * TRAPS[trap] < rate < 1.6 * TRAPS[trap], trap


def test_normal_reports_share_ten_impressions_in_every_split(drawn: Drawn, readings: list[Reading]) -> None:
    stock = {text for text, _ in phrases.NORMAL_IMPRESSIONS}
    assert len(stock) == 10
    shared: dict[str, list[bool]] = {"train": [], "test": []}
    for reading in readings:
        key = (reading.study.patient.subject_id, reading.study.study_id)
        if reading.is_normal and not reading.is_vague and not reading.mentions and key in drawn.reports:
            last = " ".join(answer_section(drawn.reports[key]).split())
            shared.setdefault(drawn.split_of[key[0]], []).append(last in stock)
    assert min(np.mean(shared[name]) for name in ("train", "test")) >= 0.3


def test_the_comparison_follows_the_prior(drawn: Drawn, readings: list[Reading]) -> None:
    texts: dict[bool, list[str]] = {True: [], False: []}
    for r in readings:
        texts[r.study.index > 0].append(drawn.reports.get((r.study.patient.subject_id, r.study.study_id), ""))
    changed = re.compile(r"increased|decreased|improved|worse|unchanged|resolved|Again")
    first, later = (np.mean([bool(changed.search(text)) for text in texts[is_later]]) for is_later in (False, True))
    assert later > 0.2 + first


def test_the_indication_never_depends_on_the_reading(readings: list[Reading]) -> None:
    for reading in readings[:50]:
        blind = Reading(study=reading.study, mentions=())
        asked = " ".join(draw_indication(reading.study).text.split())
        assert asked in " ".join(write_report(reading).split())
        assert asked in " ".join(write_report(blind).split())


def test_the_vague_say_nothing(readings: list[Reading]) -> None:
    vague = Counter(reading.is_vague for reading in readings)
    assert 0 < vague[True] < 0.03 * len(readings)


_DEVICE = next(
    finding
    for patient in draw_data(20, settings=Settings()).readings
    for reading in patient
    for finding in reading.study.findings
    if finding.pathology == SUPPORT_DEVICES
)
