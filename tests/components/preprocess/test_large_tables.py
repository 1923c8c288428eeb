"""Tables of MIMIC's real size are read in seconds and in little memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.components.preprocess.big_mimic import NUM_FILMS, NUM_STUDIES, NUM_UNLABELED, read_big_mimic, write_big_mimic


@pytest.mark.slow
def test_mimic_cxr_and_mimic_iv(tmp_path: Path) -> None:
    write_big_mimic(tmp_path, with_files=False)
    found = read_big_mimic(tmp_path)
    assert found["films"] == NUM_FILMS
    assert found["studies"] == NUM_STUDIES
    assert found["unlabeled"] == NUM_UNLABELED
    assert found["reports"] == 0
    assert found["aged"] > 0.8 * NUM_STUDIES
    assert found["cpu_seconds"] < 45
    assert found["peak_mb"] < 1200
