"""What the rows of one study or film say together."""

from __future__ import annotations

import pytest

from components.preprocess.adapters.csv_rows import merged

State = int | None


@pytest.mark.parametrize(
    ("readers", "majority", "any_of_them"),
    [
        ([1, 1, 0], 1, 1),
        ([1, 0, 0], 0, 1),
        ([1, 0], 0, 1),
        ([1, -1], -1, 1),
        ([0, -1], -1, -1),
        ([0, 0, -1], 0, -1),
        ([1, -1, 0], -1, 1),
        ([-1, None, None], -1, -1),
        ([None, None], None, None),
    ],
)
def test_readers_of_one_film(readers: list[State], majority: State, any_of_them: State) -> None:
    """Nobody's negative becomes a label: who does not agree is uncertain where one of them is."""
    states, labeled = [(state,) for state in readers], [state is not None for state in readers]
    assert merged(["a"] * len(readers), states, labeled, "majority")[0] == [(majority,)] * len(readers)
    assert merged(["a"] * len(readers), states, labeled, "any")[0] == [(any_of_them,)] * len(readers)
