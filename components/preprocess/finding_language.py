"""Which pathologies a passage affirms, denies, doubts or recalls.

A small rule set after NegEx (Chapman et al. 2001: a trigger phrase governs the terms that follow it in the sentence up
to a terminating word, or those just before it; some phrases only look like triggers), with uncertainty and history as
two more states. It is made for counting over thousands of reports, not for labeling one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from components.preprocess.finding_terms import TERMS

__all__ = ["Mention", "State", "mentions"]

State = Literal["affirmed", "negated", "uncertain", "history"]


class Mention(NamedTuple):
    """A term in a passage."""

    pathology: str
    term: str
    """As written, in lower case."""
    state: State


_SENTENCE = re.compile(r"(?<=[.!;])\s+|\n\s*\n|\s*//\s*|(?<=\?)\s+(?=[A-Z])|\s+(?=\d[.)]\s)")
_PSEUDO = re.compile(
    r"""\b(?:no\s+(?:significant\s+|interval\s+|acute\s+|appreciable\s+|definite\s+)*(?:change|increase|decrease
        |improvement)\w*(?:\s+in|\s+of|\s+from)? | without\s+(?:significant\s+|interval\s+)*change\w* | not\s+only
        | no\s+longer(?=\s+\w+\s+history) | not\s+necessarily )\b""",
    re.IGNORECASE | re.VERBOSE,
)
"""Look like a negation and are none."""
_BEFORE: dict[State, re.Pattern[str]] = {
    "negated": re.compile(
        r"""\b(?:no|without|w/o|denies|denied|denying|negative\s+for|free\s+of|clear\s+of|absence\s+of|lack\s+of|absent
        |neither|nor|not|never|rather\s+than|resolution\s+of|resolved|exclude[sd]?|ruled\s+out)(?!\w)""",
        re.IGNORECASE | re.VERBOSE,
    ),
    "uncertain": re.compile(
        r"""\b(?:possib\w+|probabl\w+|may|maybe|might|could|can|cannot\s+exclude|question\w*|suspect\w*|suspicio\w+|concern\w*
        |worr\w+|rule\s+out|r/o|ro|rule-out|exclude|eval\w*(?:\s+for)?|assess\w*(?:\s+for)?|check\w*|look\w*\s+for
        |screen\w*|versus|vs\.?|suggest\w*|likely|potential\w*|presum\w+|consider\w*|differential|if|whether|unless
        |risk\s+(?:of|for)|cannot|difficult\s+to|please|compatible|consistent|interval\s+change)(?!\w) | \?""",
        re.IGNORECASE | re.VERBOSE,
    ),
    "history": re.compile(
        r"""\b(?:histor(?:y|ies)|hx|h/o|pmh|s/p|status[\s-]+post|post|prior|previous\w*|known|old|remote|past|follow[\s-]?up
        |f/u|recent\w*|treated|underlying|diagnosed|diagnosis|admitted|recurrent|healed|family)(?!\w)""",
        re.IGNORECASE | re.VERBOSE,
    ),
}
"""Govern the terms after them; the first that matches counts."""
_AFTER: dict[State, re.Pattern[str]] = {
    "uncertain": re.compile(
        r"""\s*\? | \b(?:(?:is|are|was|were|can|could|may|might|cannot|not|be|been)\s+){0,3}(?:suspected|questioned
        |possible|considered|difficult|likely)\b | \b(?:cannot|can\s+not|could\s+not|not)\s+(?:be\s+)?
        (?:entirely\s+|completely\s+)?(?:excluded|ruled\s+out) | \bversus\b | \bvs\b""",
        re.IGNORECASE | re.VERBOSE,
    ),
    "negated": re.compile(
        r"""\b(?:(?:is|are|was|were|has|have|been|be)\s+){0,2}(?:not\s+(?:seen|identified|demonstrated|present|evident
        |visualized|appreciated|noted|observed)|absent|ruled\s+out|excluded|unlikely|resolved|negative|removed|removal)\b""",
        re.IGNORECASE | re.VERBOSE,
    ),
    "history": re.compile(
        r"\b(?:in\s+the\s+past|years?\s+ago|months?\s+ago|history(?!\s+of)|treated|follow[\s-]?up)\b", re.IGNORECASE
    ),
}
"""Govern the terms just before them; the first that matches counts (`cannot be excluded` is no exclusion)."""
_END = re.compile(
    r"""\b(?:but|however|although|though|except|apart\s+from|other\s+than|aside\s+from|otherwise|which|who|now|presents?
    |presenting|because|there\s+(?:is|are)|with(?!\s+(?:history|known|hx)))\b | [:]""",
    re.IGNORECASE | re.VERBOSE,
)
"""Ends what a trigger governs."""
_SCOPE = 250
"""Characters that a trigger governs ahead of it at most, some forty words."""
_REACH = 60
"""Characters between a term and a trigger after it."""


def mentions(text: str) -> Iterator[Mention]:
    """Every term of the 14 pathologies in a passage; a term inside a longer one of its pathology is not repeated.

    >>> [(found.pathology, found.state) for found in mentions("Small left effusion. No pneumothorax.")]
    [('Pleural Effusion', 'affirmed'), ('Pneumothorax', 'negated')]
    """
    for sentence in _SENTENCE.split(text):
        blanked = _PSEUDO.sub(lambda found: " " * len(found.group()), sentence)
        for pathology, pattern in TERMS.items():
            for found in pattern.finditer(sentence):
                term = " ".join(found.group().lower().split())
                own_negation = pathology == "No Finding"
                state = "affirmed" if own_negation else _state(blanked, found.start(), found.end())
                yield Mention(pathology, term, state)


def _state(sentence: str, start: int, end: int) -> State:
    """The state that a trigger gives a term; one after the term goes before one ahead of it."""
    before, after = sentence[max(0, start - _SCOPE) : start], sentence[end : end + _REACH]
    ends = [found.end() for found in _END.finditer(before)]
    scope = before[ends[-1] :] if ends else before
    stop = _END.search(after)
    tail = after[: stop.start()] if stop is not None else after
    negated = _BEFORE["negated"].search(scope) is not None
    for state, trigger in _AFTER.items():
        if trigger.search(tail) and not (state == "uncertain" and negated):
            return state
    return next((state for state, trigger in _BEFORE.items() if trigger.search(scope)), "affirmed")
