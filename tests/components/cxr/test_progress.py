from __future__ import annotations

import sys

import pytest

from components.cxr import progress
from components.cxr.progress import track


def test_items_pass_unchanged_and_the_last_line_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    items = [["a"], ["b", "c"]]
    assert list(track(items, total=3, what="preprocess", unit="films", size=len)) == items
    captured = capsys.readouterr()
    assert captured.err.startswith("preprocess: 3/3 films, ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_lines_come_by_time_and_say_what_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    for _ in track(range(100), total=100, what="x", unit="films"):
        now[0] += 1.0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 20
    assert lines[1] == "x: 10/100 films, 1/s, 1 min 30 s left"
    assert lines[-1] == "x: 100/100 films, 1/s"


def test_on_a_terminal_there_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(track(range(5), total=5, what="x", unit="films")) == [0, 1, 2, 3, 4]
    assert "5/5" in capsys.readouterr().err


def test_nothing_to_do_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([], total=0, what="x")) == []
    assert capsys.readouterr().err == ""
