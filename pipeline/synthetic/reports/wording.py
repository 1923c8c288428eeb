"""Picks phrasings and fills them: a sentence about a mention; training and test reports draw from disjoint banks."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Literal

import numpy as np

from components.cxr.labels import NEGATIVE, POSITIVE, SUPPORT_DEVICES, UNCERTAIN
from pipeline.synthetic.places import Finding
from pipeline.synthetic.reports import phrases
from pipeline.synthetic.reports.reading import Mention

__all__ = ["BANKS", "Bank", "expand", "phrasings", "sentence"]

Bank = Literal["positive", "negative", "uncertain", "short"]
BANKS = {
    "positive": phrases.POSITIVE, "negative": phrases.NEGATIVE, "uncertain": phrases.UNCERTAIN, "short": phrases.SHORT,
}  # fmt: skip
_BANK_OF: dict[int, Bank] = {POSITIVE: "positive", NEGATIVE: "negative", UNCERTAIN: "uncertain"}
_HELD_OUT = 4
"""One phrasing in four is for test reports alone."""

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


@lru_cache(maxsize=512)
def _expansions(template: str) -> tuple[str, ...]:
    match = _CHOICE.search(template)
    if match is None:
        return (template,)
    parts = match.group(1).split("|")
    found = (_expansions(template[: match.start()] + part + template[match.end() :]) for part in parts)
    return tuple(dict.fromkeys(text for texts in found for text in texts))


def expand(template: str, rng: np.random.Generator) -> str:
    """Replace each `[a|b|c]` by one of its parts."""
    texts = _expansions(template)
    return texts[int(rng.integers(len(texts)))]


@lru_cache(maxsize=256)
def phrasings(bank: Bank, pathology: str, *, held_out: bool) -> tuple[tuple[str, ...], ...]:
    """The phrasings of each template, `{slots}` unfilled; those held out are for test reports and no others.

    Phrasings are dealt by their rank under a hash, so one added or removed moves few others between the two.
    """
    templates = BANKS[bank][pathology]
    every = sorted(
        {text for template in templates for text in _expansions(template)},
        key=lambda text: hashlib.sha256(text.encode()).digest(),
    )
    mine = {text for rank, text in enumerate(every) if (rank % _HELD_OUT == 0) == held_out}
    groups = (tuple(text for text in _expansions(template) if text in mine) for template in templates)
    return tuple(group for group in groups if group)


def sentence(mention: Mention, rng: np.random.Generator, *, short: bool = False, held_out: bool = False) -> str:
    """One sentence about a pathology in the mention's state; `short` gives the impression's noun phrase."""
    bank: Bank = "short" if short and mention.state == POSITIVE else _BANK_OF[mention.state]
    groups = phrasings(bank, mention.pathology, held_out=held_out)
    group = groups[int(rng.integers(len(groups)))]
    template = group[int(rng.integers(len(group)))]
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
        "trend": f", {_change(mention, finding, rng)}" if mention.prior is not None and rng.random() < 0.5 else "",
    }
    return slots | {name.capitalize(): value[:1].upper() + value[1:] for name, value in slots.items()}


def _change(mention: Mention, finding: Finding, rng: np.random.Generator) -> str:
    """How the finding compares with the previous report."""
    if mention.prior is None:
        words = ("evident", "present", "visible") if mention.finding is not None else ("absent",)
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
