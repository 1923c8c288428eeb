"""`metrics.jsonl`: the metrics of a run beside its checkpoints, whether or not MLflow answered."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import NamedTuple

from components.cxr.storage.storage import Storage

__all__ = ["DESCRIPTION", "JOURNAL", "JournaledMetric", "append_metrics", "read_journal", "upload_journal"]

JOURNAL = "metrics.jsonl"
DESCRIPTION = "description.json"
"""Beside the journal of a training that MLflow never heard of: its `params` and `tags`, for its evaluation's run."""
_STEP, _TIME = "step", "time_ms"


class JournaledMetric(NamedTuple):
    """One value."""

    name: str
    value: float
    time_ms: int
    step: int


def append_metrics(journal: Path, values: dict[str, float], *, step: int, time_ms: int) -> None:
    """Append one line: step, time in ms since 1970, and the values by name."""
    line = json.dumps({_STEP: step, _TIME: time_ms, **values})
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("a+b") as file:
        if file.tell() > 0:  # end the line that a kill cut off
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else f"\n{line}"
        file.write(f"{line}\n".encode())


def read_journal(journal: Path) -> list[JournaledMetric]:
    """All values in order; empty without a file, a line that a kill cut off is left out."""
    if not journal.exists():
        return []
    metrics = []
    for line in journal.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            row = json.loads(line)
            step, time_ms = row.pop(_STEP), row.pop(_TIME)
            metrics += [JournaledMetric(name, value, time_ms, step) for name, value in row.items()]
    return metrics


def upload_journal(checkpoints: Storage, journal: Path | None) -> None:
    """Keep the journal beside the checkpoints; on this machine it lies there anyway."""
    if checkpoints.folder is None and journal is not None and journal.exists():
        checkpoints.upload(journal, JOURNAL)
