"""Processes together take every whole batch once."""

from __future__ import annotations

import pytest

from components.train.loading.batches import order_of, position, shares_of


def test_an_order_is_a_permutation_keyed_by_seed_and_epoch() -> None:
    order = order_of(50, seed=1, epoch=2)
    assert sorted(order) == list(range(50))
    assert order == order_of(50, seed=1, epoch=2)
    assert order not in (order_of(50, seed=2, epoch=2), order_of(50, seed=1, epoch=3), list(range(50)))


@pytest.mark.parametrize("num_processes", [1, 2, 3])
@pytest.mark.parametrize("skip", [0, 1, 4, 6])
def test_processes_cover_each_batch_exactly_once(num_processes: int, skip: int) -> None:
    order = order_of(50, seed=0, epoch=0)
    shares = [
        shares_of(order, batch_size=8, skip=skip, process=process, num_processes=num_processes)
        for process in range(num_processes)
    ]
    batches = [sorted(study for part in parts for study in part) for parts in zip(*shares, strict=True)]
    assert batches == [sorted(order[8 * batch : 8 * batch + 8]) for batch in range(skip, 6)]


def test_position_counts_epochs_and_batches() -> None:
    assert [position(step, steps_per_epoch=3) for step in range(5)] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
