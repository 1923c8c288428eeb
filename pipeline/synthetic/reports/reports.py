"""Writes a reading down as MIMIC-CXR prints its reports: sections, masked names and dates, lines of 79 columns."""

from __future__ import annotations

import re
import textwrap

import numpy as np

from components.cxr.labels import NEGATIVE, SUPPORT_DEVICES
from pipeline.synthetic.keys import Stream, generator
from pipeline.synthetic.reports import phrases
from pipeline.synthetic.reports.indications import draw_indication
from pipeline.synthetic.reports.reading import Mention, Reading
from pipeline.synthetic.reports.wording import expand, sentence

__all__ = ["TRAPS", "write_report"]

_ORDER = (
    "Support Devices", "Lung Opacity", "Consolidation", "Pneumonia", "Atelectasis", "Edema", "Lung Lesion",
    "Pleural Effusion", "Pneumothorax", "Pleural Other", "Cardiomegaly", "Enlarged Cardiomediastinum", "Fracture",
)  # fmt: skip

TRAPS: dict[str, float] = {
    "wet read": 0.04,
    "addendum": 0.012,
    "view header": 0.03,
    "mixed case": 0.015,
    "no margin": 0.012,
    "one header": 0.012,
    "under comparison": 0.008,
    "provisional": 0.008,
    "no header": 0.006,
    "typo": 0.004,
}
"""Shares of reports whose headers are not what a parser hopes for; at most one of them a report, wet reads aside.

`view header`: `CHEST 2 VIEWS:` in place of FINDINGS. `no margin`: headers without the leading space. `one header`:
FINDINGS AND IMPRESSION. `under comparison`: everything the reader saw stands there. `provisional`: PFI first.
"""


def write_report(reading: Reading, *, held_out: bool = False) -> str:
    """The whole text of a report, as the file holds it; `held_out` takes the phrasings kept for the test split.

    Every section but findings and impression is written from the indication and the order alone.
    """
    study = reading.study
    rng = generator(study.patient.seed, Stream.WORDS, study.patient.index, study.index)
    findings, impression = _body(reading, rng, held_out=held_out)
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
    trap = _draw_trap(rng)
    if rng.random() < TRAPS["wet read"]:
        time = f"{int(rng.integers(1, 12))}:{int(rng.integers(10, 60))} PM"
        head = f" WET READ: ___ ___ ___ {time}\n{_wrap(impression)}\n {'_' * 78}\n{head}"
    if style == 3:
        head += f" {examination} PERFORMED ON ___\n \n"
    return _sprung(trap, head, sections, two_views=examination == "CHEST (PA AND LAT)")


def _draw_trap(rng: np.random.Generator) -> str:
    """The name of the report's trap, mostly none."""
    draw = rng.random()
    for name, share in TRAPS.items():
        if name != "wet read" and (draw := draw - share) < 0:
            return name
    return ""


def _sprung(trap: str, head: str, sections: list[tuple[str, str]], *, two_views: bool) -> str:
    """The report with its trap: headers renamed, merged, misspelled, or gone."""
    names = dict(sections)
    said = "  ".join(names.pop(name) for name in ("FINDINGS", "IMPRESSION") if name in names)
    asked = list(names.items())
    match trap:
        case "view header":
            sections = [("CHEST 2 VIEWS" if two_views else "PORTABLE CHEST 1 VIEW", text) if name == "FINDINGS"
                        else (name, text) for name, text in sections]  # fmt: skip
        case "mixed case":
            sections = [(name.capitalize(), text) for name, text in sections]
        case "one header":
            sections = [*asked, ("FINDINGS AND IMPRESSION", said)]
        case "under comparison":
            sections = [
                *((name, text) for name, text in asked if name != "COMPARISON"),
                ("COMPARISON", f"___.  {said}"),
            ]
        case "provisional":
            head += f" PROVISIONAL FINDINGS IMPRESSION (PFI):  ___ ___ ___\n{_wrap(said)}\n \n"
        case "addendum":
            head = f" ADDENDUM:  Findings were discussed with Dr. ___ by telephone at ___.\n \n{head}"
        case "typo":
            sections = [({"INDICATION": "NDICATION", "FINDINGS": "FINIDNGS"}.get(name, name), text)
                        for name, text in sections]  # fmt: skip
        case "no header":
            return head + " \n".join(f"{_wrap(text)}\n" for text in [*(text for _, text in asked), said])
        case _:
            pass
    text = head + " \n".join(_section(name, text) for name, text in sections)
    return re.sub(r"^ (?=[A-Z][A-Z ]+:)", "", text, flags=re.MULTILINE) if trap == "no margin" else text


def _section(name: str, text: str) -> str:
    if name.upper() in ("FINDINGS", "IMPRESSION"):
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


def _body(reading: Reading, rng: np.random.Generator, *, held_out: bool) -> tuple[str, str]:
    """The findings and the impression."""
    if reading.is_vague:
        return "As compared to the previous radiograph, there is no relevant change.", "No relevant change."
    ordered = sorted(reading.mentions, key=lambda mention: _ORDER.index(mention.pathology))
    stated = [m for m in ordered if m.state != NEGATIVE]
    spoken = [sentence(mention, rng, held_out=held_out) for mention in stated]
    if reading.is_normal:
        normal = phrases.NORMAL_FINDINGS[int(rng.integers(len(phrases.NORMAL_FINDINGS)))]
        spoken.append(re.sub(r"\s+", " ", expand(normal, rng)).strip())
        devices = [sentence(m, rng, short=True, held_out=held_out) for m in stated if m.in_impression]
        return " ".join(spoken), "  ".join([*devices, _normal_impression(rng)])
    spoken += [_denial(mention, rng, held_out=held_out) for mention in ordered if mention.state == NEGATIVE]
    lead = [m for m in stated if m.in_impression] or stated
    lead = sorted(lead, key=lambda m: (m.pathology == SUPPORT_DEVICES, -(m.finding.severity if m.finding else 0)))
    items = [sentence(mention, rng, short=True, held_out=held_out) for mention in lead]
    items += [_denial(m, rng, held_out=held_out) for m in ordered if m.state == NEGATIVE and m.in_impression]
    if len(items) > 1 and rng.random() < 0.5:
        return " ".join(spoken), "\n".join(f"{number}. {item}" for number, item in enumerate(items, 1))
    return " ".join(spoken), "  ".join(items)


def _normal_impression(rng: np.random.Generator) -> str:
    """One of the ten that most normal reports share, or words of its own."""
    draw = rng.random()
    for text, share in phrases.NORMAL_IMPRESSIONS:
        if (draw := draw - share) < 0:
            return text
    return re.sub(r"\s+", " ", expand(phrases.OTHER_NORMAL_IMPRESSION, rng))


def _denial(mention: Mention, rng: np.random.Generator, *, held_out: bool) -> str:
    """A negative sentence; what the previous report held may be said to have gone."""
    gone = mention.prior is not None and mention.pathology not in (SUPPORT_DEVICES, "Fracture", "Cardiomegaly")
    if gone and mention.pathology != "Enlarged Cardiomediastinum" and rng.random() < 0.5:
        went = ("has resolved", "has cleared") if not held_out else ("is no longer seen", "has since resolved")
        return f"The previously seen {mention.pathology.lower()} {went[int(rng.integers(2))]}."
    return sentence(mention, rng, held_out=held_out)
