"""Whether two lists of ids name the same things: where hardly any match, a message shows how each writes them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from itertools import islice

from components.cxr.errors import UserError

__all__ = ["check_join", "shape_of"]

_NUM_SAMPLED = 1000
_LONGEST = 60
_KEPT = re.compile(r"(?:\.(?:dcm|dicom|png|jpe?g|txt|xml|gz))+$", re.IGNORECASE)


def shape_of(ids: Iterable[str]) -> str:
    """The most frequent shape of some ids: 9 for every digit, x or X for every letter, so that no id is shown.

    A single letter before a digit, the folder `files` and a file's usual suffix stay.

    >>> shape_of(["s50000001", "s50000002"]), shape_of(["50000001.0"]), shape_of(["Doe, Jane"])
    ('s99999999', '99999999.9', 'Xxx, Xxxx')
    >>> shape_of(["files/p10/p10000001/s50000001.txt"])
    'files/p99/p99999999/s99999999.txt'
    """
    shapes = Counter(_shape(name) for name in islice(ids, _NUM_SAMPLED))
    return shapes.most_common(1)[0][0] if shapes else "nothing"


def check_join(
    ours: Collection[str],
    matched: int,
    theirs: Iterable[str],
    *,
    what: str,
    where: str,
    remedy: str,
    possible: int | None = None,
) -> str | None:
    """Compare two lists of ids of which `matched` are in both; a warning where that is under half of `ours`.

    Args:
        what: what the ids name, in the plural.
        where: the table or folder that holds `theirs`.
        possible: how many can match at most, where that is not all of `ours`.

    Raises:
        UserError: none matches.
    """
    possible = len(ours) if possible is None else possible
    if not possible or 2 * matched >= possible:
        return None
    found = f"{matched} of {possible} {what}, ids like {shape_of(theirs)}"
    expected = f"ids like {shape_of(ours)}"
    if not matched:
        raise UserError(
            "nothing-matches", f"no {what} match", where=where, found=found, expected=expected, remedy=remedy
        )
    return f"under half of the {what} match: {where}; found {found}, expected {expected}. {remedy}"


def _shape(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    suffix = found[0] if (found := _KEPT.search(file)) else ""
    parts = [part if part == "files" else _masked(part) for part in folder.split("/")]
    shape = "/".join(parts) + slash + _masked(file.removesuffix(suffix)) + suffix
    return shape if len(shape) <= _LONGEST else f"{shape[:_LONGEST]}…"


def _masked(text: str) -> str:
    prefix = text[:1] if re.match(r"[A-Za-z]\d", text) else ""
    rest = re.sub(r"\d", "9", text[len(prefix) :])
    return prefix + re.sub(r"[^\W\d_]", lambda letter: "X" if letter[0].isupper() else "x", rest)
