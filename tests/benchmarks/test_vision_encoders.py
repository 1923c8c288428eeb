"""The page on encoders says what the command prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.vision_encoders import CHECKPOINTS, Checkpoint, measure

PAGE = Path(__file__).parents[2] / "docs" / "encoders.md"


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda checkpoint: checkpoint.hub_id)
def test_the_page_has_the_encoder_as_it_is_built(checkpoint: Checkpoint) -> None:
    found = measure(checkpoint)
    (row,) = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| {checkpoint.hub_id} |")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    shape = "×".join(str(side) for side in found["map"])
    assert [cells[1], cells[3].split()[0], *cells[5:7]] == [
        found["model_type"],
        str(found["film"]),
        str(found["parameters_millions"]),
        shape,
    ]
