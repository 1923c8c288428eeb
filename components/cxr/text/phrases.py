"""Many phrases as one pattern, by their common beginnings: `re` tries the phrases of a plain list one after another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

__all__ = ["any_case", "one_of"]

_FOLDED = {"i": "iI\u0130\u0131", "k": "kK\u212a", "s": "sS\u017f"}
"""Letters that re.IGNORECASE takes for more than their two cases."""


def one_of(phrases: Iterable[str], *, ignore_case: bool = True, tokens: Mapping[str, str] | None = None) -> str:
    """A pattern that matches what the alternation of the phrases, longest first, would match.

    Every branch begins with a literal or a set, so that `re` sees at once which ones cannot match; with re.IGNORECASE
    it tries them all.

    >>> one_of(["rule out", "rub"], ignore_case=False)
    'ru(?:le\\\\ out|b)'

    Args:
        tokens: patterns that stand for single characters, such as a blank.
    """
    tokens = tokens or {}
    ordered = sorted(dict.fromkeys(phrases), key=len, reverse=True)
    atom = any_case if ignore_case else re.escape
    return _branches([[tokens.get(char) or atom(char) for char in phrase] for phrase in ordered], [*tokens.values()])


def any_case(char: str) -> str:
    """One character, as re.IGNORECASE matches it, for a pattern without that flag.

    >>> any_case("a"), any_case("-")
    ('[aA]', '\\\\-')
    """
    cases = dict.fromkeys(case for case in (char, char.lower(), char.upper()) if len(case) == 1)
    both = _FOLDED.get(char.lower()) or "".join(cases)
    return f"[{both}]" if len(both) > 1 else re.escape(char)


def _branches(options: list[list[str]], variable: list[str]) -> str:
    """The options in their order; those that begin alike are one branch as far as no other could match as well."""
    start: list[str] = []
    while all(options) and all(option[0] == options[0][0] for option in options):
        start.append(options[0][0])
        options = [option[1:] for option in options]
    if len(options) == 1 or not any(options):
        return "".join(start + options[0])
    firsts = dict.fromkeys(option[0] for option in options if option)
    if len(firsts) > 1 and any(token in variable for token in firsts):
        parts = ["".join(option) for option in options]
    else:
        parts = [_branches([option[1:] for option in options if option[:1] == [token]], variable) for token in firsts]
        parts = [f"{token}{part}" for token, part in zip(firsts, parts, strict=True)]
        parts += [""] if not all(options) else []
    return "".join(start) + f"(?:{'|'.join(parts)})"
