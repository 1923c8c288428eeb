from __future__ import annotations

import ast
import pickle
import re
from pathlib import Path

from components.cxr.errors import UserError


def test_message_has_every_part_in_one_line() -> None:
    error = UserError("bad-thing", "bad thing", where="a/b.csv", found="x", expected=1, remedy="Fix it.")
    assert str(error) == "bad thing: a/b.csv; found x, expected 1. Fix it."


def test_absent_parts_leave_no_trace() -> None:
    assert str(UserError("bad-thing", "bad thing")) == "bad thing"
    assert str(UserError("bad-thing", "bad thing", found=0)) == "bad thing; found 0"
    assert str(UserError("bad-thing", "bad thing", remedy="Fix it.")) == "bad thing. Fix it."


def test_travels_between_processes() -> None:
    error = UserError("bad-thing", "bad", where="w", found="f", expected="e", remedy="r")
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, UserError)
    assert str(copy) == str(error)
    assert copy.code == "bad-thing"
    assert (copy.what, copy.where, copy.found, copy.expected, copy.remedy) == ("bad", "w", "f", "e", "r")


def test_a_line_carries_the_code_to_the_process_that_reads_it() -> None:
    error = UserError("no-root", "no place", remedy="Set root.")
    assert error.line == "error: no place. Set root.  [no-root]"
    read = UserError.from_line(f"{error.line}\n")
    assert (read.line, str(read), read.code) == (error.line, str(error), "no-root")
    assert UserError.from_line("error: bad [x] thing").line == "error: bad [x] thing  [failed]"
    assert UserError.from_line("Traceback").code == "failed"


def test_every_error_in_the_source_has_a_code_in_kebab_case() -> None:
    repository = Path(__file__).parents[3]
    calls = [
        node
        for path in [*repository.glob("components/**/*.py"), *repository.glob("pipeline/**/*.py")]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "UserError"
    ]
    codes = [node.args[0].value for node in calls if isinstance(node.args[0], ast.Constant)]
    assert len(codes) > 150
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code) for code in codes)
