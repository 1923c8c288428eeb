"""Mines labels from a report's text by a few rules.

It reads words and nothing else: it misses what is described without being named, and trips over unusual headers.
"""

from __future__ import annotations

import re

from components.cxr.labels import NEGATIVE, NO_FINDING, PATHOLOGIES, POSITIVE, SUPPORT_DEVICES, UNCERTAIN

__all__ = ["answer_section", "label_report"]

_HEADER = re.compile(r"^[ \t]?((?:FINAL )?[A-Z][A-Za-z/,() ]{2,60}):", re.MULTILINE)
_ASKED = re.compile(r"INDICATION|HISTORY|REASON|EXAM|TECHNIQUE|COMPARISON|WET READ|ADDENDUM", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[a-z_)])[.;](?:\s|$)|\n\s*\d+\.\s")
_CLAUSE = re.compile(r",? (?:but|although|however|with interval resolution of)\b")

_HEART = r"(?:heart|cardiac (?:size|silhouette|shadow))"
_MEDIASTINUM = r"(?:cardio)?mediastin\w+"
_NORMAL = r"(?:normal|unremarkable|within normal limits|not (?:enlarged|widened))"
_MENTIONS: dict[str, str] = {
    "Enlarged Cardiomediastinum": rf"{_MEDIASTINUM}.*(?:wide|enlarge|prominent|{_NORMAL})|(?:widen|enlarge)\w*.*"
    rf"{_MEDIASTINUM}",
    "Cardiomegaly": rf"cardiomegaly|cardiac enlargement|{_HEART}.*(?:enlarged|{_NORMAL})|enlarge\w+ .*{_HEART}|"
    rf"increased size .*{_HEART}",
    "Lung Opacity": r"opacit(?:y|ies)|opacification|infiltrate|airspace disease",
    "Lung Lesion": r"nodul\w+|\bmass(?:es)?\b|lesion",
    "Edema": r"edema|vascular congestion",
    "Consolidation": r"consolidat\w+",
    "Pneumonia": r"pneumonia|infectio(?:n|us)",
    "Atelectasis": r"atelecta\w+",
    "Pneumothorax": r"pneumothora\w+",
    "Pleural Effusion": r"effusion|pleural fluid",
    "Pleural Other": r"pleural (?:\w+ )?(?:thickening|scar|plaque|calcif|fibrosis)|"
    r"(?:thickening|scarring) of the \w+ pleura",
    "Fracture": r"fracture",
    "Support Devices": r"\b(?:tubes?|catheters?|picc|pacemaker|chest wall port|lines? and tubes|(?:support|tubes and) "
    r"(?:devices|lines)|(?:central|jugular) (?:\w+ )?line|a line)\b",
}
_MENTION = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _MENTIONS.items()}
_MAYBE = re.compile(
    r"\bmay\b|\bcould\b|possib|probab|questionabl|equivocal|suspect|borderline|concerning for|apparent|"
    r"(?:cannot|not) (?:be )?exclude|top.normal",
    re.IGNORECASE,
)
_NO = re.compile(r"\b(?:no|without|free of|not|negative for|resolution of)\b(?! (?:\w+ )?change)", re.IGNORECASE)
_GONE = re.compile(
    rf"(?:has|have|is|are) (?:resolved|cleared|absent|been removed|no longer)|(?:is|are|size) (?:\w+ )?{_NORMAL}",
    re.IGNORECASE,
)
_RANK = (NEGATIVE, UNCERTAIN, POSITIVE)


def label_report(text: str) -> tuple[int | None, ...]:
    """1, 0, -1 or None (blank) for each of `PATHOLOGIES`, in the manner of Irvin et al. 2019.

    Present outranks possible outranks absent. No Finding is 1 where a text is there and nothing but devices is present
    or possible; it is blank otherwise.
    """
    answer = answer_section(text)
    states: dict[str, int] = {}
    for sentence in _SENTENCE.split(answer):
        for clause in _CLAUSE.split(" ".join(sentence.split())):
            for name, state in _mentions(clause):
                states[name] = max(states.get(name, NEGATIVE), state, key=_RANK.index)
    abnormal = any(state != NEGATIVE for name, state in states.items() if name != SUPPORT_DEVICES)
    if answer.strip() and not abnormal and not re.search(r"no (?:\w+ )?change", answer, re.IGNORECASE):
        states[NO_FINDING] = POSITIVE
    return tuple(states.get(name) for name in PATHOLOGIES)


def answer_section(text: str) -> str:
    """The impression; else the findings; else what no header for the request, the view or the priors covers."""
    marks = list(_HEADER.finditer(text))
    ends = [*(mark.start() for mark in marks), len(text)][1:]
    parts = [(mark.group(1), text[mark.end() : end]) for mark, end in zip(marks, ends, strict=False)]
    for wanted in ("IMPRESSION", "FINDING"):
        found = [part for name, part in parts if wanted in name.upper() and part.strip()]
        if found:
            return found[-1]
    if not marks:
        return text
    return " ".join(part for name, part in parts if not _ASKED.search(name))


def _mentions(clause: str) -> list[tuple[str, int]]:
    found = []
    for name, pattern in _MENTION.items():
        match = pattern.search(clause)
        if match is None:
            continue
        if _MAYBE.search(clause):
            state = UNCERTAIN
        elif ((no := _NO.search(clause)) and no.start() < match.end()) or _GONE.search(clause):
            state = NEGATIVE
        else:
            state = POSITIVE
        found.append((name, state))
    return found
