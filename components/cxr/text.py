"""Report sections and the text a model may read; used by preprocess, train, evaluate and serve.

The labels were mined from findings and impression: by default only what was written before the film was read is input.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, Self

from pydantic import model_validator

from components.cxr.config import Config

__all__ = [
    "LEAKY", "PRE_READ", "SECTIONS", "SectionName", "TextConfig", "decode_report", "parse_report", "request_text",
    "select_text",
]  # fmt: skip

SectionName = Literal["examination", "indication", "technique", "comparison", "findings", "impression", "other"]

SECTIONS: tuple[SectionName, ...] = (
    "examination", "indication", "technique", "comparison", "findings", "impression", "other",
)  # fmt: skip
PRE_READ: tuple[SectionName, ...] = ("indication",)
"""Written before the film was read; reason for exam, clinical history and history are folded into it."""
LEAKY: tuple[SectionName, ...] = ("findings", "impression", "other")
"""Written by the reader of the film: these contain the answer."""

_POST_READ = frozenset(LEAKY)


class TextConfig(Config):
    """Which report sections are the model's text input.

    `examination`, `technique` and `comparison` are allowed but no default: they name the view and the ward, a shortcut
    to who is ill, and radiologists wrote whole reports under COMPARISON.
    """

    sections: tuple[SectionName, ...] = ("indication",)
    """Sections joined in this order; empty for a model without text."""
    allow_leaky_sections: bool = False
    """Permit findings, impression and other, from which the labels were mined; marks every result as LEAKY."""

    @property
    def leaky(self) -> bool:
        """Whether the model reads its answer."""
        return any(name in LEAKY for name in self.sections)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.sections)) != len(self.sections):
            raise ValueError("each section at most once")
        if self.leaky and not self.allow_leaky_sections:
            leaky = ", ".join(name for name in self.sections if name in LEAKY)
            raise ValueError(f"no {leaky}: the labels were mined from it (or allow_leaky_sections: true)")
        return self


_PHRASES: dict[SectionName, str] = {
    "examination": "exam, exams, examination, study, exam type, type of exam, type of examination, procedure",
    "indication": """
        indication, indications, clinical indication, clinical indications, indication and history, indication/history,
        history, clinical history, patient history, brief history, medical history, history/indication,
        clinical information, clinical data, clinical question, underlying medical condition,
        reason for exam, reason for the exam, reason for this exam, reason for study,
        reason for examination, reason for this examination""",
    "technique": "technique, techniques, procedure and technique",
    "comparison": "comparison, comparisons, comparison study, comparison studies, comparison film, comparison films",
    "findings": "finding, findings, finding(s), report findings",
    "impression": "impression, impressions, impression(s), conclusion, conclusions, opinion",
    "other": """
        findings and impression, findings and impressions, findings/impression, findings & impression,
        findings impression, impression and findings, impression/findings, provisional findings impression,
        pfi, pfi report, wet read, addendum, addenda, final addendum, preliminary report, preliminary read, report,
        final, final report, attestation, attending, recommendation, recommendations, recommendation(s),
        impression and recommendation, impression and recommendations, impression/recommendation,
        impression/recommendations, notification, summary, interpretation, discussion, narrative, result, results""",
}
_HEADERS: dict[str, SectionName] = {
    " ".join(phrase.split()): section for section, phrases in _PHRASES.items() for phrase in phrases.split(",")
}


def _names(gap: str) -> str:
    """Alternation of all known headers, longest first."""
    names = (re.escape(phrase).replace(r"\ ", gap) for phrase in sorted(_HEADERS, key=len, reverse=True))
    return "|".join(name.replace("/", r"[ \t]*/[ \t]*") for name in names)


_LINE_START = r"^[ \t]*+[^\w\n]{0,20}"
_BLANKS = r"[ \t]{1,8}"
_WRAPPED = _names(r"[ \t]{0,8}[ \t\n][ \t]{0,8}")
_COLON = r"[ \t]*(?:\([^()\n]{0,60}\)[ \t]*)?:"
_KNOWN = re.compile(rf"(?<!\w)({_names(_BLANKS)}){_COLON}", re.IGNORECASE)
"""A known header with its colon anywhere in a line."""
_KNOWN_WRAPPED = re.compile(rf"{_LINE_START}({_WRAPPED}){_COLON}", re.IGNORECASE | re.MULTILINE)
"""A known header with its colon that starts a line and may go on in the next."""
_BULLET = re.compile(r"[^\w\n]*(?:\d{1,2}[.)][^\w\n]*)?")
"""What may stand in a line before a header that starts it."""
_BARE = re.compile(rf"{_LINE_START}({_WRAPPED})[ \t]*$", re.IGNORECASE | re.MULTILINE)
"""A known header without a colon, alone in its line."""
_READS = re.compile(
    rf"{_LINE_START}(?:wet[ \t]+read|pfi\b|addend|final[ \t]+addend|preliminary|provisional)[^\n:]*:?",
    re.IGNORECASE | re.MULTILINE,
)
"""A line that starts with words of a preliminary read or an addendum, whatever follows."""
_LINE_HEADER = re.compile(rf"{_LINE_START}(?:\d+[.)])?[^\w\n]{{0,20}}([^\W\d_][^:\n]{{0,70}}):(?!\d)", re.MULTILINE)
"""Any phrase that starts a line and ends in a colon."""
_CAPITALS = re.compile(r"(?<![\w/])([A-Z][A-Z0-9 \t/()&,#_'-]{0,78}[A-Z0-9)_]):(?!\d)")
"""A phrase in capitals that ends in a colon anywhere in a line."""
_BREAK = re.compile(r"^[ \t]*[_=*-]{4,}[ \t]*$|\n(?:[ \t]*\n)+", re.MULTILINE)
"""A blank line or a ruled line."""


class _Mark(NamedTuple):
    """A place where the section may change: a header (its section and whether it is a known one) or a blank line."""

    start: int
    end: int
    section: SectionName | None
    known: bool
    bare: bool


def parse_report(text: str) -> dict[str, str]:
    """Split a report into sections; keys are those of SECTIONS that have text, whitespace is normalized.

    Strict about what was written before the film was read: the first paragraph under a known header counts, and it
    ends at anything like another header (`CHEST 2 VIEWS:`, `FINDINGS AND IMPRESSION:`, a wet read, an addendum). Text
    before the first header, under an unknown header or without any header is `other`.
    """
    sections, _ = _scan(text)
    for name in SECTIONS:
        # What still looks like a header in itself (`INDICATION: FINDINGS`) would not be read the same way again.
        while name not in _POST_READ and name in sections and (found := _scan(sections[name]))[1]:
            sections[name] = found[0].get(name, "")
    return {name: part for name, part in sections.items() if part}


def select_text(sections: Mapping[str, str | None], *, config: TextConfig) -> str:
    """The configured sections joined by a space; an absent one is left out, "" when all are absent."""
    found = (_squeeze(sections.get(name) or "") for name in config.sections)
    return " ".join(text for text in found if text)


def request_text(text: str, *, config: TextConfig) -> str:
    """The model's text input from what a person pasted, whole report or bare indication.

    A text with a known header is parsed and the configured sections are selected; any other text is taken as the
    indication, so that an indication from a shard comes back unchanged.
    """
    if _scan(text)[1]:
        return select_text(parse_report(text), config=config)
    return _squeeze(text) if config.sections else ""


def decode_report(data: bytes) -> str:
    """A report file's text: UTF-8, else Latin-1; a byte order mark is removed."""
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _scan(text: str) -> tuple[dict[str, str], bool]:
    """The sections, and whether any known header was found."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    passages: list[tuple[SectionName, str]] = []
    current: SectionName = "other"
    preamble = True  # before the first header, where a header within a line may still open a section
    has_header = False
    position = header_end = 0
    for mark in _marks(text):
        if mark.start < position:
            continue
        line_start = max(header_end, text.rfind("\n", 0, mark.start) + 1)
        at_start = _BULLET.fullmatch(text, line_start, mark.start) is not None
        section = _next_section(mark, current, text[mark.start : mark.end], preamble=preamble, at_start=at_start)
        if section is None:
            continue
        passages.append((current, text[position : max(position, line_start) if at_start else mark.start]))
        current, position = section, mark.end
        if mark.section is not None:
            preamble, header_end = False, mark.end
            has_header |= mark.known
    passages.append((current, text[position:]))
    joined = {name: _squeeze(" ".join(part for section, part in passages if section == name)) for name in SECTIONS}
    return {name: part for name, part in joined.items() if part}, has_header


def _next_section(
    mark: _Mark, current: SectionName, name: str, *, preamble: bool, at_start: bool
) -> SectionName | None:
    """The section that begins at a mark, or None where the current one goes on."""
    post_read = current in _POST_READ and not preamble
    if mark.section is None:  # a blank line ends what may be pre-read
        return None if post_read or preamble else "other"
    if not mark.known:
        return None if post_read else "other"
    if mark.bare:
        return mark.section if at_start and not name.strip().islower() else None
    if at_start:
        return mark.section
    if post_read:
        return mark.section if name[:1].isupper() and mark.section in _POST_READ else None
    if name.isupper() or mark.section in _POST_READ:
        return mark.section
    return None if mark.section == "indication" else "other"


def _marks(text: str) -> Iterator[_Mark]:
    """Every mark in the order of the text; where two start together the known header comes first."""
    marks = [
        _Mark(m.start(1), m.end(), _section_of(m.group(1)), True, False)
        for pattern in (_KNOWN_WRAPPED, _KNOWN)
        for m in pattern.finditer(text)
    ]
    marks += [_Mark(m.start(1), m.end(), _section_of(m.group(1)), True, True) for m in _BARE.finditer(text)]
    covered = {position for mark in marks for position in range(mark.start, mark.end)}
    marks += [_Mark(m.start(), m.end(), "other", True, False) for m in _READS.finditer(text)]
    for pattern in (_LINE_HEADER, _CAPITALS):
        for match in pattern.finditer(text):
            if covered.isdisjoint(range(match.start(1), match.end())) and _is_headline(match.group(1)):
                marks.append(_Mark(match.start(1), match.end(), "other", False, False))
    marks += [_Mark(m.start(), m.end(), None, False, False) for m in _BREAK.finditer(text)]
    return iter(sorted(marks, key=lambda mark: (mark.start, not mark.known, mark.bare, -mark.end)))


def _is_headline(phrase: str) -> bool:
    """At most eight words and no sentence end."""
    return len(phrase.split()) <= 8 and not re.search(r"[.?!;]\s", phrase)


def _section_of(name: str) -> SectionName:
    normal = re.sub(r"\s*/\s*", "/", " ".join(name.split())).lower()
    return _HEADERS[normal]


def _squeeze(text: str) -> str:
    return " ".join(text.split())
