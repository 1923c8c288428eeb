"""Processes together take every whole batch once, in an order that seed and pass alone decide."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from components.cxr.errors import UserError
from components.train.loading.order import Order, order_of, position

LABELED = np.arange(50) % 5 == 0
"""10 of 50 studies."""


def test_an_order_is_a_permutation_keyed_by_seed_and_epoch() -> None:
    order = order_of(50, seed=1, epoch=2)
    assert sorted(order) == list(range(50))
    assert order == order_of(50, seed=1, epoch=2)
    assert order not in (order_of(50, seed=2, epoch=2), order_of(50, seed=1, epoch=3), list(range(50)))


@pytest.mark.parametrize("ratio", [math.inf, 3.0])
@pytest.mark.parametrize("num_processes", [1, 2, 3])
@pytest.mark.parametrize("skip", [0, 1, 4, 6])
def test_processes_cover_each_batch_exactly_once(num_processes: int, skip: int, ratio: float) -> None:
    def order() -> Order:
        return Order(LABELED, batch_size=8, unlabeled_per_labeled=ratio, seed=3)

    for epoch in (0, 1, 5):
        shares = [
            order().shares(epoch=epoch, skip=skip, process=process, num_processes=num_processes)
            for process in range(num_processes)
        ]
        batches = [sorted(study for part in parts for study in part) for parts in zip(*shares, strict=True)]
        assert batches == [sorted(order().batch(6 * epoch + batch)) for batch in range(skip, 6)]
        assert all(len(set(batch)) == 8 for batch in batches)


@pytest.mark.parametrize("ratio", [math.inf, 4.0, 7.0])
def test_without_more_unlabeled_studies_than_allowed_an_epoch_is_one_pass_over_all(ratio: float) -> None:
    order = Order(LABELED, batch_size=8, unlabeled_per_labeled=ratio, seed=3)
    for epoch in range(3):
        expected = order_of(50, seed=3, epoch=epoch)
        assert [study for batch in order.shares(epoch=epoch) for study in batch] == expected[:48]


def test_a_limit_of_none_leaves_unlabeled_studies_out() -> None:
    order = Order(LABELED, batch_size=5, unlabeled_per_labeled=0.0, seed=3)
    assert order.steps_per_epoch == 2
    for epoch in range(3):
        studies = [study for batch in order.shares(epoch=epoch) for study in batch]
        assert sorted(studies) == np.flatnonzero(LABELED).tolist()


@pytest.mark.parametrize(
    ("ratio", "num_labeled"), [(1.0, 4), (3.0, 2), (7.0, 1), (100.0, 1), (2.2, 2), (1.2, 4), (0.01, 7)]
)
def test_every_batch_has_the_set_share_of_labeled_studies(ratio: float, num_labeled: int) -> None:
    few = LABELED if ratio < 4.0 else np.arange(1500) < 8
    order = Order(few, batch_size=8, unlabeled_per_labeled=ratio)
    for step in range(40):
        assert few[order.batch(step)].tolist() == [True] * num_labeled + [False] * (8 - num_labeled)
    for process in range(2):  # the shares of a batch differ by one at most
        for share in order.shares(epoch=1, process=process, num_processes=2):
            assert abs(few[share].sum() - num_labeled / 2) < 1


def passes(order: Order, kind: npt.NDArray[np.bool_], *, num_epochs: int, per_pass: int) -> list[list[int]]:
    steps = [order.shares(epoch=epoch)[i] for epoch in range(num_epochs) for i in range(order.steps_per_epoch)]
    seen = [study for batch in steps for study in batch if kind[study]]
    return [seen[start : start + per_pass] for start in range(0, len(seen) - per_pass + 1, per_pass)]


def test_each_stream_comes_round_in_another_order() -> None:
    """Two labeled of ten and six unlabeled of forty a batch: passes of 5 and of 6 batches beside epochs of 6."""
    order = Order(LABELED, batch_size=8, unlabeled_per_labeled=3.0)
    labeled = passes(order, LABELED, num_epochs=10, per_pass=10)
    unlabeled = passes(order, ~LABELED, num_epochs=10, per_pass=36)
    assert len(labeled) == 12
    assert all(sorted(studies) == np.flatnonzero(LABELED).tolist() for studies in labeled)
    assert all(len(set(studies)) == 36 for studies in unlabeled)
    for found in (labeled, unlabeled):
        assert len({tuple(studies) for studies in found}) == len(found)


def test_streams_have_orders_of_their_own() -> None:
    """As many labeled as unlabeled studies, pair by pair: one order would show the same pairs in every pass."""
    order = Order(np.arange(40) < 20, batch_size=8, unlabeled_per_labeled=1.0)
    batch = np.array(order.batch(0))
    assert not np.array_equal(batch[:4], batch[4:] - 20)


def test_the_order_of_streams_is_keyed_by_the_seed_and_needs_no_history() -> None:
    def order(seed: int) -> Order:
        return Order(LABELED, batch_size=8, unlabeled_per_labeled=3.0, seed=seed)

    once = order(1)
    all_of_it = [once.batch(step) for step in range(20)]
    assert [order(1).batch(step) for step in reversed(range(20))] == all_of_it[::-1]
    assert order(2).batch(0) != all_of_it[0]


@pytest.mark.parametrize(("batch_size", "num_labeled"), [(15, 10), (16, 10), (32, 10), (50, 10)])
def test_where_labels_are_fewer_than_the_ratio_asks_for_every_batch_has_them_all(
    batch_size: int, num_labeled: int
) -> None:
    order = Order(LABELED, batch_size=batch_size, unlabeled_per_labeled=0.5)
    for step in range(6):
        batch = order.batch(step)
        assert len(set(batch)) == batch_size
        assert LABELED[batch].sum() == num_labeled


def test_a_batch_of_one_cannot_hold_both_kinds() -> None:
    with pytest.raises(UserError, match="batch of one") as caught:
        Order(LABELED, batch_size=1, unlabeled_per_labeled=1.0)
    assert caught.value.code == "batch-too-small"


def test_position_counts_epochs_and_batches() -> None:
    assert [position(step, steps_per_epoch=3) for step in range(5)] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
