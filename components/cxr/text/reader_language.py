"""Where an indication turns into a reading of the film; used by the strict section reader.

Radiologists dictate findings into the paragraph that began with the indication. No rule tells the two apart for sure,
so the text ends before the first sentence that states a finding as present: losing some of an indication costs little,
a finding in it costs the experiment. A finding that is asked about, known, or past is none. The scopes are those of
NegEx and ConText (Chapman et al. 2001; Harkema et al. 2009): a phrase governs what follows it in the sentence, up to
a phrase that ends it. The words stand in reading_words.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from components.cxr.text import reading_words as words
from components.cxr.text.reading_words import any_of

__all__ = ["is_reading", "reading_starts"]

_BREAK = re.compile(
    r"""(?: (?P<stop>(?<![.!])[.!]+|(?<=[\w)"'])[ ]?\?[.!?]*)["')\]]*(?:\s+|$)
    | (?P<soft>(?<![;:])[;:]+)\s+ | (?<=[A-Za-z)]{2})(?P<glued>[.!?;])(?=[A-Z][A-Za-z])
    | (?P<slashes>//) | (?P<line>\n) | (?<![\d][ \t])(?<=[ \t])(?P<dash>[-–—|~•])(?=[ \t]) | (?P<tab>\t) )""",
    re.VERBOSE,
)
"""Where a sentence ends."""
_ESCAPED = re.compile(r"\\[nr](?=[A-Z\s\\])")
"""Two characters that may be a line break; where they are not, a sentence more begins."""
_BULLET = re.compile(r"\s*(?:\d{1,2}[.)]\s+|[-*•▪·>#]+\s*)*")
_HEADLINE = re.compile(r"(?:findings?|impressions?|conclusions?|comparisons?)\b(?!\s+on\b)", re.IGNORECASE)
"""A sentence that begins as a header."""
_LABEL = re.compile(
    r"""(?:chest|lungs?(?:\s+fields?)?|heart|hear+t|mediastin\w+|pleura\w*|bones?|osseous|bony\s+\w+|soft\s+tissues?|cardiac|cardiovascular
    |lines(?:\s+(?:and|&)\s+tubes)?|tubes(?:\s+(?:and|&)\s+lines)?|hila|technique|views?)\s*$
    | (?:negative|normal|unremarkable|clear|stable|unchanged|no\s+(?:interval\s+)?change)\s*$""",
    re.IGNORECASE | re.VERBOSE,
)
"""A sentence that is just an organ, as in `Lungs: clear`, or just a result."""
_LATE_HEADLINE = re.compile(r"(?<=[a-z.,;)\d]\s)(?:FINDINGS?|IMPRESSIONS?|CONCLUSIONS?)\b")
_OPEN = re.compile(
    r"(?:\b(?:for|of|and|or|with|to|in|the|a|an|vs|versus|r/o|out|eval|evaluate|assess|check|known|hx)|[,/&(])$",
    re.IGNORECASE,
)
"""The end of a line that goes on in the next."""
_LONGEST = 600
"""Characters of a sentence."""

_STATEMENT, _FINDING, _DIAGNOSIS = any_of(words.STATEMENTS), any_of(words.FINDINGS), any_of(words.DIAGNOSES)
_CLINICAL = any_of(words.CLINICAL_STATEMENTS)
_PLACE, _DEGREE, _CHANGE = any_of(words.LOCATIONS), any_of(words.DEGREES), any_of(words.CHANGES)
_ANATOMY, _STATE = any_of(words.ANATOMY), any_of(words.STATES)
_DEVICE, _POSITION, _REPORTED = any_of(words.DEVICES), any_of(words.POSITIONS), any_of(words.REPORTED)
_QUESTION, _HEDGE, _TRAILING = any_of(words.QUESTIONS), any_of(words.HEDGES), any_of(words.TRAILING_QUESTIONS)
_HISTORY, _NOT_HISTORY, _HISTORY_END = any_of(words.HISTORY), any_of(words.NOT_HISTORY), any_of(words.HISTORY_ENDS)
_PAST, _PATIENT, _ADVICE, _SYMPTOM = (
    any_of(words.PAST),
    any_of(words.PATIENT),
    any_of(words.ADVICE),
    any_of(words.SYMPTOMS),
)
_IF = re.compile(r"\b(?:if|whether|please|is\s+there|are\s+there|any)\b", re.IGNORECASE)
_NEGATED_END = re.compile(r"\b(?:but|however)\b", re.IGNORECASE)
_VIEWS = re.compile(
    r"""(?:(?:the|a|an|single|one|two|2|three|3|four|4|\d+|frontal|portable|apical|lordotic|decubitus|oblique|cross-?table|ribs?|pa|ap|upright|supine|semi-?upright|semi-?erect|erect|lateral|chest
    |and|&|of|views?|projections?|x-?rays?|x-xxxx|radiographs?|films?|images?|rotated|xxxx|___)[\s/,]+){1,10}
    (?:views?|images?|films?|projections?|radiographs?|is|are|was|were|shows?|demonstrates?|reveals?|obtained|submitted|presented|performed|reviewed
    |consists?)\b""",
    re.IGNORECASE | re.VERBOSE,
)
"""A sentence that begins with the views that were taken."""
_THERE = re.compile(r"there\s+(?:is|are|has\s+been|have\s+been|appears?|was|were|may\s+be)\b", re.IGNORECASE)
_SIZE = re.compile(r"\d\s*(?:mm|cm|centimeters?|millimeters?)\b", re.IGNORECASE)
_REASON = re.compile(
    r"(?<!\bevidence)(?<!\bconcerning)(?<!\bsuspicious)(?<!\bnegative)(?<!\bsignificant)(?<!\bworrisome)\s+for\s+(?:\w+\s+){0,1}$",
    re.IGNORECASE,
)
"""What stands before a finding for which the film is taken."""
_COMPARED = re.compile(
    r"\b(?:since|than|from|to|as)\s+(?:the\s+)?(?:yesterday|last\s+\w+|\w+\s+\w+\s+ago)\b", re.IGNORECASE
)
"""An earlier film that this one is compared with."""
_ASKED_NEAR = 5
_NEAR = 6
"""Words between an organ and its state at most."""


class _Sentence(NamedTuple):
    start: int
    text: str
    asks: bool
    """It ends in a question mark, or what follows it is the question (`//`)."""
    ordered: bool
    """It ends in `//`, as orders do before the question."""
    goes_on: bool
    """It may continue the one before."""


def reading_starts(text: str) -> int:
    """Position of the first sentence that sounds like a reading of the film; the text's length when none does.

    >>> text = "Cough, r/o effusion. Left basilar atelectasis."
    >>> text[: reading_starts(text)]
    'Cough, r/o effusion. '
    """
    asked = False
    text = _ESCAPED.sub(" \n", text)
    for sentence in _sentences(text):
        late = _LATE_HEADLINE.search(sentence.text)
        if late is not None:
            before = sentence._replace(text=sentence.text[: late.start()])
            return sentence.start if is_reading(before.text) else sentence.start + late.start()
        asked = asked and sentence.goes_on
        if is_reading(sentence.text, asks=sentence.asks, asked=asked, ordered=sentence.ordered):
            return sentence.start
        asked = asked or _last_question(sentence.text) is not None
    return len(text)


def is_reading(sentence: str, *, asks: bool = False, asked: bool = False, ordered: bool = False) -> bool:
    """Whether a sentence states as present what only the film can have shown.

    Args:
        asks: it ends in a question mark.
        asked: a question before it goes on in it.
        ordered: the order's question follows it.

    >>> is_reading("Small left effusion"), is_reading("Evaluate for left effusion"), is_reading("Known left effusion")
    (True, False, False)
    """
    if _HEADLINE.match(sentence):
        return True
    if asks and not _says_there_is(sentence):
        return False
    plain = _CLINICAL.sub(lambda found: " " * len(found.group()), sentence)
    if _states(plain):
        return True
    if asked or _trails_off_in_a_question(plain):
        return False
    scopes = _Scopes(plain)
    if _describes_an_organ(plain, scopes) or _places_a_device(plain, scopes):
        return True
    if ordered or _PAST.search(_COMPARED.sub("", plain)):
        return False
    return _names_a_finding(plain, scopes)


class _Scopes:
    """Which places of a sentence are asked about, recalled, or told of a patient."""

    def __init__(self, sentence: str) -> None:
        self._asked = [found.end() for found in _QUESTION.finditer(sentence) if not _is_advice(sentence, found)]
        self._asked += [found.start() for found in re.finditer(r"\?", sentence)]
        if not _PLACE.search(sentence) and not _DEGREE.search(sentence):
            self._asked += [found.end() for found in _HEDGE.finditer(sentence)]
        patient = _PATIENT.search(sentence)
        self._patient = patient.end() if patient is not None else None
        blanked = _NOT_HISTORY.sub(lambda found: " " * len(found.group()), sentence)
        self._recalled: list[tuple[int, int]] = []
        for found in _HISTORY.finditer(blanked):
            end = _HISTORY_END.search(blanked, found.end())
            self._recalled.append((found.end(), end.start() if end is not None else len(sentence)))

    def is_asked(self, position: int) -> bool:
        return any(start <= position for start in self._asked)

    def is_known(self, position: int) -> bool:
        return any(start <= position <= end for start, end in self._recalled)

    def is_presented(self, position: int) -> bool:
        return self._patient is not None and self._patient <= position


def _states(sentence: str) -> bool:
    """A reader's formula that no question directly precedes, or a sentence that begins as readings alone do."""
    if _VIEWS.match(sentence) is not None or _LABEL.match(sentence) is not None:
        return True
    there = _THERE.match(sentence)
    if there is not None and not _SYMPTOM.search(" ".join(sentence[there.end() :].split()[:5])):
        return True
    return any(not _is_just_asked(sentence, found.start()) for found in _STATEMENT.finditer(sentence))


def _is_just_asked(sentence: str, position: int) -> bool:
    """A question stands within a few words before the position and in its clause."""
    near = " ".join(re.split(r"[,;]\s", sentence[:position])[-1].split()[-_ASKED_NEAR:])
    return _QUESTION.search(near) is not None or _IF.search(near) is not None or "?" in near


def _says_there_is(sentence: str) -> bool:
    return (
        re.search(
            r"\bthere\s+(?:is|are)\s+(?:a|no|mild|moderate|small)\b|\blungs\s+are\s+clear", sentence, re.IGNORECASE
        )
        is not None
    )


def _describes_an_organ(sentence: str, scopes: _Scopes) -> bool:
    """An organ and its state within a few words of each other: `tortuous aorta`, `right hemidiaphragm is elevated`."""
    states = [found for found in _STATE.finditer(sentence) if not scopes.is_asked(found.start())]
    for organ in _ANATOMY.finditer(sentence):
        for state in states:
            gap = (
                sentence[organ.end() : state.start()]
                if organ.end() <= state.start()
                else sentence[state.end() : organ.start()]
            )
            near = organ.end() <= state.start() or state.end() <= organ.start()
            if (
                near
                and len(gap.split()) <= _NEAR
                and not re.search(r"[,;]\s", gap)
                and not scopes.is_known(organ.start())
            ):
                return True
    return False


def _places_a_device(sentence: str, scopes: _Scopes) -> bool:
    for device in _DEVICE.finditer(sentence):
        position = _POSITION.search(sentence, device.end()) or re.search(r"\bintact\b", sentence, re.IGNORECASE)
        if position is not None and not scopes.is_asked(device.start()) and not scopes.is_known(device.start()):
            return True
    return False


def _names_a_finding(sentence: str, scopes: _Scopes) -> bool:
    """A finding, or a diagnosis that is located or graded, outside of every scope."""
    for found in _FINDING.finditer(sentence):
        if not (_excused(found.start(), scopes) or _REASON.search(sentence, max(0, found.start() - 40), found.start())):
            return True
    for found in _DIAGNOSIS.finditer(sentence):
        if _excused(found.start(), scopes) or _REASON.search(sentence, max(0, found.start() - 40), found.start()):
            continue
        before = re.split(r"[,;]\s|\bwith\b", sentence[max(0, found.start() - 60) : found.start()])[-1]
        after = re.split(r"[,;]\s", sentence[found.end() : found.end() + 60])[0]
        around = f"{before}{found.group()}{after}"
        if any(pattern.search(around) for pattern in (_PLACE, _DEGREE, _CHANGE, _REPORTED, _SIZE)):
            return True
    return False


def _excused(position: int, scopes: _Scopes) -> bool:
    return scopes.is_asked(position) or scopes.is_known(position) or scopes.is_presented(position)


def _last_question(sentence: str) -> re.Match[str] | None:
    found = [match for match in _QUESTION.finditer(sentence) if not _is_advice(sentence, match)]
    return found[-1] if found else None


def _trails_off_in_a_question(sentence: str) -> bool:
    """`pleural effusion, follow up`; a reader's advice to follow up is none."""
    found = list(_TRAILING.finditer(sentence))
    return bool(found) and len(sentence[found[-1].end() :].split()) <= 1 and not _is_advice(sentence, found[-1])


def _is_advice(sentence: str, question: re.Match[str]) -> bool:
    near = sentence[max(0, question.start() - 40) : question.end() + 40]
    return _ADVICE.search(near) is not None and not re.search(r"\?", near)


def _sentences(text: str) -> Iterator[_Sentence]:
    """The text's sentences; one without an end is taken in pieces, so that time grows with the length alone."""
    position, goes_on = 0, False
    for found in _BREAK.finditer(text):
        yield from _pieces(text, position, found, goes_on=goes_on)
        if text[position : found.start()].strip():
            goes_on = _may_go_on(text, position, found)
        position = found.end()
    yield from _pieces(text, position, None, goes_on=goes_on)


def _pieces(text: str, start: int, end: re.Match[str] | None, *, goes_on: bool) -> Iterator[_Sentence]:
    stop = len(text) if end is None else end.start()
    while start < stop:
        bullet = _BULLET.match(text, start, stop)
        start = bullet.end() if bullet is not None else start
        cut = stop if stop - start <= _LONGEST else text.rfind(" ", start, start + _LONGEST) + 1 or start + _LONGEST
        cut = max(cut, start + 1)
        if piece := text[start:cut].rstrip():
            last = cut >= stop and end is not None
            asks = last and "?" in ((end["stop"] or end["glued"] or "") if end is not None else "")
            ordered = last and end is not None and end["slashes"] is not None
            yield _Sentence(start, piece, asks, ordered, goes_on)
        start, goes_on = cut, True


def _may_go_on(text: str, start: int, end: re.Match[str]) -> bool:
    """Whether what follows a break may belong to the sentence before: not after a full stop, nor with a capital."""
    if end["stop"] is not None or end["glued"] is not None:
        return False
    if _OPEN.search(text[max(start, end.start() - 20) : end.start()].rstrip()) is not None:
        return True
    following = text[end.end() : end.end() + 20].lstrip()[:2]
    capitals = end["line"] is None and following[1:2].isupper()
    return capitals or not following[:1].isupper()
