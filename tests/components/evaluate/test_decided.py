"""How often a data set's test studies were judged on, whoever asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.cxr.storage.storage import Root
from components.evaluate.config import PromotionConfig
from components.evaluate.decided import register_look

PLAIN = PromotionConfig()
TOLERANT = PromotionConfig(policy="non_inferior", margin=0.01, reason="smaller")


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


def _look(root: Root, data: str = "m", **changes: Any) -> int:
    judged = {"evaluation": "one", "champion": None, "config": PLAIN} | changes
    return register_look(root, data, **judged)


def test_the_same_judgment_again_is_no_new_one(root: Root) -> None:
    assert [_look(root) for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("change", [{"evaluation": "another"}, {"champion": "c"}, {"config": TOLERANT}])
def test_another_model_champion_or_policy_is_one_more(root: Root, change: dict[str, Any]) -> None:
    assert _look(root) == 0
    assert _look(root, **change) == 1
    assert _look(root) == 1, "it counts for the first as well, if that is judged again"
    assert _look(root, **change) == 1


def test_other_data_are_counted_apart(root: Root) -> None:
    assert [_look(root, evaluation=str(n)) for n in range(4)] == [0, 1, 2, 3]
    assert _look(root, data="other") == 0
