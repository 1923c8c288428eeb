"""The section reader `strict`: pre-read is only what was certainly written before the film was read."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from components.cxr.text.phrases import one_of
from components.cxr.text.plain_text import plain_text
from components.cxr.text.reader_language import reading_starts
from components.cxr.text.sections import HEADERS, LEAKY, PRE_READ, SECTIONS, ParsedReport, SectionName, squeeze

__all__ = ["clean_indication", "read_strict"]

_POST_READ = frozenset(LEAKY)
_BLANKS = r"[ \t]{1,8}"


def _names(gap: str) -> str:
    """Any known header, in any case, the longest first."""
    return one_of(HEADERS, tokens={" ": gap, "/": r"[ \t]*/[ \t]*"})


def _written(style: Callable[[str], str]) -> str:
    """Any known header of four letters and more as it is written in one style, the longest first."""
    return one_of((style(phrase) for phrase in HEADERS if len(phrase) > 3), ignore_case=False, tokens={" ": _BLANKS})


_LINE_START = r"^[ \t]*+[^\w\n]{0,20}"
_WRAPPED = _names(r"[ \t]{0,8}[ \t\n][ \t]{0,8}")
_COLON = r"""[ \t*_"'}\])]{0,8}(?:[(\[][^()\[\]\n]{0,60}[)\]][ \t]*)?[:=]"""
_NO_LETTER = r"(?<![^\W\d_])"
_KNOWN = re.compile(rf"{_NO_LETTER}({_names(_BLANKS)}){_COLON}")
"""A known header with its colon anywhere in a line, behind anything but a letter."""
_GLUED = re.compile(
    rf"(?<=[^\W\d_])(?=[^\Wa-z\d_])({_written(str.upper)}|(?<=[a-z])(?:{_written(str.capitalize)})){_COLON}"
)
"""A known header with its colon, glued to the word before it: in capitals, or with its first letter alone a capital."""
_DASH = r"(?:[ \t]+[-–—]{1,3}[ \t]*|[-–—]{1,3}[ \t]+)"
_DASHED = re.compile(rf"{_LINE_START}({_names(_BLANKS)})(?:{_DASH}|[ ]*\t)", re.MULTILINE)
"""A known header that starts a line, with a dash or a tab in place of its colon."""
_DASHED_CAPITALS = re.compile(rf"{_NO_LETTER}({_written(str.upper)}){_DASH}")
_BRACKETED = re.compile(rf"[\[{{<【]({_names(_BLANKS)})[\]}}>】]:?")
"""A known header in brackets, in place of its colon."""
_KNOWN_WRAPPED = re.compile(rf"{_LINE_START}({_WRAPPED}){_COLON}", re.MULTILINE)
"""A known header with its colon that starts a line and may go on in the next."""
_BULLET = re.compile(r"[^\w\n]*(?:\d{1,2}[.)][^\w\n]*)?")
"""What may stand in a line before a header that starts it."""
_BARE = re.compile(rf"{_LINE_START}({_WRAPPED})[ \t*_=#~|-]*$", re.MULTILINE)
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
_READING = re.compile(r"finding|impression|conclusion|opinion", re.IGNORECASE)
_READING_HEADER = re.compile(
    rf"{_NO_LETTER}((?:findings?|impressions?|conclusions?|interpretations?|opinion)\b[^:.;\n]{{0,40}}):(?!\d)",
    re.IGNORECASE,
)
"""A phrase that begins with a reading's header and ends in a colon anywhere in a line."""
_TITLED = re.compile(r"(?<=[.;!?]\s)([A-ZÀ-Þ][^\W\d_]+(?:[ ][^\W\d_]+){0,2})[ ]?:(?=\s)")
"""Up to three words, the first with a capital, that begin a sentence and end in a colon."""
_PROVISIONAL = re.compile(r"provisional|preliminary|pfi", re.IGNORECASE)
"""A resident's early read stands before the report's own indication."""
_BREAK = re.compile(r"^[ \t]*[_=*-]{4,}[ \t]*$|\n(?:[ \t]*\n)+", re.MULTILINE)
"""A blank line or a ruled line."""
_MOST_ROUNDS = 10
"""Of headers within what followed a header; what has more of them is `other`."""
_SAME_LETTER = str.maketrans("\u0130\u0131\u017f", "iis")
"""What a pattern of any case takes for i and s (phrases.any_case), and `str.lower` does not."""


class _Mark(NamedTuple):
    """A place where the section may change: a header (its section and whether it is a known one) or a blank line."""

    start: int
    end: int
    section: SectionName | None
    known: bool
    bare: bool
    keep: bool = False
    """Whether its words belong to the text."""


def read_strict(text: str) -> ParsedReport:
    """Split a report into sections; every word outside a header ends up in exactly one of them.

    Strict about what was written before the film was read: the first paragraph under a known header counts (behind a
    blank line only where findings have a header of their own below), and it ends at anything like another header
    (`CHEST 2 VIEWS:`, `FINDINGS AND IMPRESSION:`, a wet read, an addendum) and at the first sentence that sounds like a
    reading. An indication that follows findings or an impression is another study's or doubtful. All of that, text
    before the first header, under an unknown header or without any header is `other`. Exports' line breaks and markup
    count as what they stand for; see plain_text.
    """
    sections, has_header = _scan(plain_text(text))
    rest: list[str] = []
    for name in SECTIONS:
        # What still looks like a header in itself (`INDICATION: FINDINGS`) would not be read the same way again.
        for _ in range(_MOST_ROUNDS):
            if name in _POST_READ or name not in sections:
                break
            again, found = _scan(sections[name])
            if not found:
                break
            sections[name] = again.pop(name, "")
            rest += again.values()
        else:
            rest.append(sections.pop(name))
    kept = _keep_pre_read(sections)
    kept["other"] = squeeze(" ".join([kept.get("other", ""), *rest]))
    return ParsedReport({name: kept[name] for name in SECTIONS if kept.get(name)}, has_header)


def clean_indication(text: str) -> tuple[str, str]:
    """What of an indication that came without its header is pre-read, and the rest.

    >>> clean_indication("cough. The lungs are clear.")
    ('cough.', 'The lungs are clear.')
    """
    sections = read_strict(f"INDICATION: {plain_text(text).strip()}").sections
    return sections.pop("indication", ""), squeeze(" ".join(sections.values()))


def _keep_pre_read(sections: dict[str, str]) -> dict[str, str]:
    """The sections with every pre-read one cut before the first sentence that sounds like a reading.

    What is cut goes to the end of `other`.
    """
    kept = dict(sections)
    for name in PRE_READ:
        text = kept.get(name, "")
        start = reading_starts(text)
        if start < len(text):
            kept[name] = text[:start].rstrip()
            kept["other"] = squeeze(f"{kept.get('other', '')} {text[start:]}")
    return {name: part for name, part in kept.items() if part}


def _scan(text: str) -> tuple[dict[str, str], bool]:
    """The sections, and whether any known header was found."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    passages: list[tuple[SectionName, str]] = []
    current: SectionName = "other"
    preamble = True  # before the first header, where a header within a line may still open a section
    has_header = is_reading = was_read = False
    position = header_end = resume = 0
    marks = _marks(text)
    for mark, findings_next in zip(marks, _findings_are_next(marks, text), strict=True):
        if mark.start < resume:
            continue
        if findings_next and mark.section is None and not text[header_end : mark.end].strip():
            continue  # the layout of a header above its text, a blank line between them
        line_start = max(header_end, text.rfind("\n", 0, mark.start) + 1)
        at_start = _BULLET.fullmatch(text, line_start, mark.start) is not None
        name = text[mark.start : mark.end]
        section = _next_section(mark, current, name, preamble=preamble, at_start=at_start)
        if section is None:
            continue
        part = text[position : max(position, line_start) if at_start else mark.start]
        passages += _cut(current, part)
        was_read |= is_reading and bool(part.strip())
        if mark.section is not None:
            preamble, header_end = False, mark.end
            has_header |= mark.known
            is_reading = _READING.search(name) is not None and not _PROVISIONAL.search(name)
        current = "other" if was_read and section in PRE_READ else section
        resume = mark.end
        position = mark.start if mark.keep else mark.end
    passages += _cut(current, text[position:])
    joined = {name: squeeze(" ".join(part for section, part in passages if section == name)) for name in SECTIONS}
    for name in PRE_READ:
        joined[name] = joined[name].lstrip("]}】*#|~=: ").rstrip("[{【*#|~= ")  # what stood around a header
    return {name: part for name, part in joined.items() if part}, has_header


def _cut(section: SectionName, part: str) -> list[tuple[SectionName, str]]:
    """A passage; one that should be pre-read ends where a reading starts, while its lines still show."""
    if section not in PRE_READ:
        return [(section, part)]
    start = reading_starts(part)
    return [(section, part[:start]), ("other", part[start:])]


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


def _findings_are_next(marks: Sequence[_Mark], text: str) -> list[bool]:
    """Of each mark, whether the next header of a reading says findings and starts a line.

    What stands before that is no reading without a header: those take the findings' place.
    """
    are_next, answer = [], False
    for mark in reversed(marks):
        are_next.append(answer)
        if mark.section in _POST_READ:
            line_start = text.rfind("\n", 0, mark.start) + 1
            answer = mark.section == "findings" and _BULLET.fullmatch(text, line_start, mark.start) is not None
    return are_next[::-1]


def _marks(text: str) -> list[_Mark]:
    """Every mark in the order of the text; where two start together the known header comes first."""
    marks = [
        _Mark(m.start(1), m.end(), _section_of(m.group(1)), True, False)
        for pattern in (_KNOWN_WRAPPED, _KNOWN, _GLUED, _DASHED, _DASHED_CAPITALS, _BRACKETED)
        for m in pattern.finditer(text)
        if text[max(0, m.start(1) - 6) : m.start(1)].lower() != "contra"
    ]
    marks += [_Mark(m.start(1), m.end(), _section_of(m.group(1)), True, True) for m in _BARE.finditer(text)]
    covered = {position for mark in marks for position in range(mark.start, mark.end)}
    marks += [_Mark(m.start(), m.end(), "other", True, False, True) for m in _READS.finditer(text)]
    for pattern in (_LINE_HEADER, _CAPITALS, _READING_HEADER, _TITLED):
        for match in pattern.finditer(text):
            if covered.isdisjoint(range(match.start(1), match.end())) and _is_headline(match.group(1)):
                marks.append(_Mark(match.start(1), match.end(), "other", False, False, True))
    marks += [_Mark(m.start(), m.end(), None, False, False) for m in _BREAK.finditer(text)]
    return sorted(marks, key=lambda mark: (mark.start, not mark.known, mark.bare, -mark.end))


def _is_headline(phrase: str) -> bool:
    """At most eight words and no sentence end."""
    return len(phrase.split()) <= 8 and not re.search(r"[.?!;]\s", phrase)


def _section_of(name: str) -> SectionName:
    normal = re.sub(r"\s*/\s*", "/", " ".join(name.split())).translate(_SAME_LETTER).lower()
    return HEADERS[normal]
