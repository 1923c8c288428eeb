"""The decision's file: it is read back as it was, and of two at once the first stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.cxr.decision import DECISION, Check, Decision, load_decision, write_decision
from components.cxr.errors import UserError
from components.cxr.report import Interval
from components.cxr.storage.storage import ABSENT, Storage, open_storage

FOUND = Decision(
    promoted=True,
    verdict="superior",
    policy="superior",
    reason="better.",
    checks=(Check(name="mean", rule="low_above", value=0.1, ci=Interval(low=0.05, high=0.15), bound=0.0, passed=True),),
    earlier_decisions=2,
    challenger_bundle="b",
    champion_bundle="c",
    difference=0.1,
    difference_ci=Interval(low=0.05, high=0.15),
    challenger_version="3",
)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(tmp_path)


def test_round_trip(storage: Storage) -> None:
    write_decision(storage, FOUND)
    assert load_decision(storage) == FOUND


def test_of_two_decisions_at_once_the_first_stays_and_the_second_is_told(storage: Storage) -> None:
    other = FOUND.model_copy(update={"promoted": False, "verdict": "not_shown"})
    write_decision(storage, FOUND, over=ABSENT)
    with pytest.raises(UserError, match="has decided otherwise meanwhile") as error:
        write_decision(storage, other, over=ABSENT)
    assert error.value.code == "decided-meanwhile"
    assert load_decision(storage) == FOUND
    write_decision(storage, FOUND, over=ABSENT)  # the same decision is no quarrel
    write_decision(storage, other, over=storage.read(DECISION).generation)
    assert load_decision(storage) == other


def test_another_version_is_refused(storage: Storage) -> None:
    for content, message in (
        (b'{"schema_version": 99}', "found 99, expected 4. Delete it and run evaluate again"),
        (b"{", "file is not JSON"),
        (b"[]", "another schema version"),
        (b'{"schema_version": 4}', "missing configuration field"),
    ):
        storage.write(DECISION, content)
        with pytest.raises(UserError, match=message) as error:
            load_decision(storage)
        assert DECISION in str(error.value)
    storage.delete(DECISION)
    with pytest.raises(FileNotFoundError):
        load_decision(storage)
