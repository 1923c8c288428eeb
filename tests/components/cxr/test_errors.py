from __future__ import annotations

import pickle

from components.cxr.errors import UserError


def test_message_has_every_part_in_one_line() -> None:
    error = UserError("bad thing", where="a/b.csv", found="x", expected=1, remedy="Mend it.")
    assert str(error) == "bad thing: a/b.csv; found x, expected 1. Mend it."


def test_absent_parts_leave_no_trace() -> None:
    assert str(UserError("bad thing")) == "bad thing"
    assert str(UserError("bad thing", found=0)) == "bad thing; found 0"
    assert str(UserError("bad thing", remedy="Mend it.")) == "bad thing. Mend it."


def test_travels_between_processes() -> None:
    error = UserError("bad", where="w", found="f", expected="e", remedy="r")
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, UserError)
    assert str(copy) == str(error)
    assert (copy.what, copy.where, copy.found, copy.expected, copy.remedy) == ("bad", "w", "f", "e", "r")
