"""Writes a reading down as MIMIC-CXR prints its reports: sections, masked names and dates, lines of 79 columns."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

import numpy as np

from components.cxr.labels import NEGATIVE, POSITIVE, SUPPORT_DEVICES, UNCERTAIN
from pipeline.synthetic import phrases
from pipeline.synthetic.indications import draw_indication
from pipeline.synthetic.keys import Stream, generator
from pipeline.synthetic.places import Finding
from pipeline.synthetic.reading import Mention, Reading

__all__ = ["expand", "sentence", "write_report"]

_ORDER = (
    "Support Devices", "Lung Opacity", "Consolidation", "Pneumonia", "Atelectasis", "Edema", "Lung Lesion",
    "Pleural Effusion", "Pneumothorax", "Pleural Other", "Cardiomegaly", "Enlarged Cardiomediastinum", "Fracture",
)  # fmt: skip
_LOBES = {"upper": "upper lobe", "middle": "mid lung", "lower": "lower lobe"}
_DEVICES = {
    "et tube": "an endotracheal tube",
    "ng tube": "an enteric tube",
    "central line": "a {side} internal jugular central venous catheter",
    "picc": "a {side} PICC",
    "pacemaker": "a {side}-sided pacemaker",
    "port": "a {side} chest wall port",
    "chest tube": "a {side} chest tube",
}
_SIZES = ("small", "small to moderate", "moderate", "large")
_GRADES = dict.fromkeys(("Pleural Effusion", "Pneumothorax", "Lung Lesion", "Lung Opacity", "Consolidation"), _SIZES)
_CHOICE = re.compile(r"\[([^\[\]]*)\]")


def expand(template: str, rng: np.random.Generator) -> str:
    """Replace each `[a|b|c]` by one of its parts, the innermost first."""
    while match := _CHOICE.search(template):
        parts = match.group(1).split("|")
        template = template[: match.start()] + parts[int(rng.integers(len(parts)))] + template[match.end() :]
    return template


def sentence(mention: Mention, rng: np.random.Generator, *, short: bool = False) -> str:
    """One sentence about a pathology in the mention's state; `short` gives the impression's noun phrase."""
    if short and mention.state == POSITIVE:
        bank: Sequence[str] = (phrases.SHORT[mention.pathology] + ".",)
    else:
        banks = {POSITIVE: phrases.POSITIVE, NEGATIVE: phrases.NEGATIVE, UNCERTAIN: phrases.UNCERTAIN}
        bank = banks[mention.state][mention.pathology]
    template = expand(bank[int(rng.integers(len(bank)))], rng)
    if mention.finding is not None:
        template = template.format(**_slots(mention, mention.finding, rng))
    text = re.sub(r"\s+([.,])", r"\1", re.sub(r"\s{2,}", " ", template)).strip()
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
    return text[0].upper() + text[1:]


def _slots(mention: Mention, finding: Finding, rng: np.random.Generator) -> dict[str, str]:
    both = finding.side == "bilateral"
    severity = float(np.clip(finding.severity + 0.12 * rng.normal(), 0, 1))
    grades = _GRADES.get(finding.pathology, ("mild", "mild to moderate", "moderate", "severe"))
    size = grades[min(int(4 * severity), 3)]
    lobar = f"{finding.side} {_LOBES[finding.zone]}"
    verb = "are" if both else "is"
    see = ("There {}", "Note is made of")
    if mention.prior is not None:
        see = ("Again seen {}", "Again noted {}")
    device = _DEVICES.get(finding.kind, "a catheter").format(side=finding.side)
    slots = {
        "a": "" if both else "a ",
        "s": "s" if both else "",
        "ies": "ies" if both else "y",
        "is": verb,
        "see": see[int(rng.integers(len(see)))].format(verb),
        "see_one": see[int(rng.integers(len(see)))].format("is"),
        "side": finding.side,
        "one_side": "right" if both else finding.side,
        "zone": {"upper": "upper lung", "middle": "mid lung", "lower": "basilar"}[finding.zone],
        "base": "bases" if both else "base",
        "lobe": lobar + "s" if both and finding.zone != "middle" else lobar,
        "lobar": lobar,
        "size": size,
        "adverb": ("mildly", "mildly", "moderately", "severely")[min(int(4 * severity), 3)],
        "bone": "clavicle" if finding.kind == "clavicle" else "rib",
        "device": device,
        "change": _change(mention, finding, rng),
    }
    return slots | {name.capitalize(): value[:1].upper() + value[1:] for name, value in slots.items()}


def _change(mention: Mention, finding: Finding, rng: np.random.Generator) -> str:
    """How the finding compares with the previous report."""
    if mention.prior is None:
        words = ("noted", "seen", "present") if mention.finding is not None else ("absent",)
    elif mention.pathology == SUPPORT_DEVICES:
        words = ("unchanged in position", "unchanged", "in stable position")
    else:
        gain = finding.severity - mention.prior.severity
        words = ("unchanged", "stable", "similar to prior")
        if abs(gain) > 0.15:
            words = ("increased", "worse", "more pronounced")
        if gain < -0.15:
            words = ("decreased", "improved", "less conspicuous")
    return words[int(rng.integers(len(words)))]


def write_report(reading: Reading) -> str:
    """The whole text of a report, as the file holds it.

    Every section but findings and impression is written from the indication and the order alone.
    """
    study = reading.study
    rng = generator(study.patient.seed, Stream.WORDS, study.patient.index, study.index)
    findings, impression = _body(reading, rng)
    examination = study.procedure
    indication = draw_indication(study).text
    compared = str(rng.choice(["___", "Chest radiograph ___.", "___ and ___.", "Prior chest radiograph from ___"]))
    comparison = compared if study.index else str(rng.choice(["None.", "None available.", "No prior.", "___"]))
    technique = "Chest PA and lateral" if examination == "CHEST (PA AND LAT)" else "Single frontal view of the chest"
    style = rng.choice(5, p=[0.52, 0.2, 0.13, 0.1, 0.05])
    sections: list[tuple[str, str]] = []
    if style == 0:
        sections = [("EXAMINATION", examination), ("INDICATION", indication), ("TECHNIQUE", technique)]
        sections += [("COMPARISON", comparison), ("FINDINGS", findings), ("IMPRESSION", impression)]
    elif style == 1:
        sections = [("HISTORY", indication), ("COMPARISON", comparison), ("TECHNIQUE", technique)]
        sections += [("FINDINGS", findings), ("IMPRESSION", impression)]
    elif style == 2:
        sections = [("REASON FOR EXAMINATION", indication), ("COMPARISON", comparison)]
        sections += [("IMPRESSION", f"{findings}  {impression}")]
    elif style == 3:
        sections = [("CLINICAL HISTORY", indication), ("FINDINGS", findings), ("IMPRESSION", impression)]
    else:
        sections = [("INDICATION", indication), ("COMPARISON", comparison), ("IMPRESSION", impression)]
    head = " " * 33 + "FINAL REPORT\n"
    if rng.random() < 0.04:
        time = f"{int(rng.integers(1, 12))}:{int(rng.integers(10, 60))} PM"
        head = f" WET READ: ___ ___ ___ {time}\n{_wrap(impression)}\n {'_' * 78}\n{head}"
    if style == 3:
        head += f" {examination} PERFORMED ON ___\n \n"
    return head + " \n".join(_section(name, text) for name, text in sections)


def _section(name: str, text: str) -> str:
    if name in ("FINDINGS", "IMPRESSION"):
        return f" {name}: \n \n{_wrap(text)}\n"
    return f"{_wrap(f'{name}:  {text}')}\n"


def _wrap(text: str) -> str:
    """Lines of at most 79 columns behind one space; single line breaks are kept."""
    lines = []
    for paragraph in text.split("\n"):
        lines += textwrap.wrap(
            paragraph, 79, initial_indent=" ", subsequent_indent=" ", break_on_hyphens=False, break_long_words=False
        )
    return "\n".join(lines)


def _body(reading: Reading, rng: np.random.Generator) -> tuple[str, str]:
    """The findings and the impression."""
    if reading.is_vague:
        return "As compared to the previous radiograph, there is no relevant change.", "No relevant change."
    ordered = sorted(reading.mentions, key=lambda mention: _ORDER.index(mention.pathology))
    stated = [m for m in ordered if m.state != NEGATIVE]
    spoken = [sentence(mention, rng) for mention in stated]
    if reading.is_normal:
        normal = phrases.NORMAL_FINDINGS[int(rng.integers(len(phrases.NORMAL_FINDINGS)))]
        spoken.append(re.sub(r"\s+", " ", expand(normal, rng)).strip())
        close = phrases.NORMAL_IMPRESSIONS[int(rng.integers(len(phrases.NORMAL_IMPRESSIONS)))]
        return " ".join(spoken), expand(close, rng)
    spoken += [_denial(mention, rng) for mention in ordered if mention.state == NEGATIVE]
    lead = [m for m in stated if m.pathology != SUPPORT_DEVICES] or stated
    lead = sorted(lead, key=lambda m: -(m.finding.severity if m.finding else 0))[:4]
    items = [sentence(mention, rng, short=True) for mention in lead]
    if len(items) > 1 and rng.random() < 0.5:
        return " ".join(spoken), "\n".join(f"{number}. {item}" for number, item in enumerate(items, 1))
    return " ".join(spoken), "  ".join(items)


def _denial(mention: Mention, rng: np.random.Generator) -> str:
    """A negative sentence; what the previous report held may be said to have gone."""
    gone = mention.prior is not None and mention.pathology not in (SUPPORT_DEVICES, "Fracture", "Cardiomegaly")
    if gone and mention.pathology != "Enlarged Cardiomediastinum" and rng.random() < 0.5:
        return expand(f"[The previously|Previously] seen {mention.pathology.lower()} has [resolved|cleared].", rng)
    return sentence(mention, rng)
