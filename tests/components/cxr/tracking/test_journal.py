"""The journal survives kills and repeats nothing."""

from __future__ import annotations

from pathlib import Path

from components.cxr.tracking.journal import JournaledMetric, append_metrics, read_journal


def test_round_trip(tmp_path: Path) -> None:
    journal = tmp_path / "new" / "metrics.jsonl"
    append_metrics(journal, {"loss": 0.1, "rate": 3.0}, step=7, time_ms=123)
    append_metrics(journal, {"loss": 0.05}, step=8, time_ms=456)
    assert read_journal(journal) == [
        JournaledMetric("loss", 0.1, 123, 7),
        JournaledMetric("rate", 3.0, 123, 7),
        JournaledMetric("loss", 0.05, 456, 8),
    ]


def test_no_file_is_empty(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "metrics.jsonl") == []


def test_a_line_cut_off_anywhere_costs_only_itself(tmp_path: Path) -> None:
    for kept in range(1, 40):
        journal = tmp_path / f"{kept}.jsonl"
        append_metrics(journal, {"loss": 0.5}, step=1, time_ms=1)
        start = journal.stat().st_size
        append_metrics(journal, {"loss": 0.25}, step=2, time_ms=2)
        length = journal.stat().st_size - start
        with journal.open("r+b") as file:
            file.truncate(start + kept)
        append_metrics(journal, {"loss": 0.125}, step=3, time_ms=3)
        whole = kept >= length - 1  # all but the line break
        assert [metric.step for metric in read_journal(journal)] == ([1, 2, 3] if whole else [1, 3])
    assert whole
