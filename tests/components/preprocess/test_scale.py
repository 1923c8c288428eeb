"""Memory does not grow with the number of films, neither in the parent nor in a worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.mimic_layout import FilmMaker, write_mimic
from benchmarks.scale import measure


@pytest.mark.parametrize(
    ("few", "many"),
    [
        pytest.param(700, 2_100, marks=pytest.mark.slow),
        pytest.param(2_500, 20_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_memory_is_flat(tmp_path: Path, few: int, many: int) -> None:
    peaks = []
    for number in (few, many):
        write_mimic(tmp_path / str(number), number, film=FilmMaker(128, 128, distinct=16))
        peaks.append(measure(tmp_path / str(number), workers=2))
    for kind in ("parent_mb", "worker_mb"):
        assert 100 < peaks[1][kind] < 700, peaks
        assert peaks[1][kind] < 1.15 * peaks[0][kind], peaks
