from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.cxr.labels import (
    BLANK,
    NEGATIVE,
    NO_TARGET,
    PATHOLOGIES,
    POSITIVE,
    UNCERTAIN,
    LabelPolicy,
    derive_no_finding,
    targets_of,
    truth_of,
)

STATES = np.array([[1, 0, -1, -2]], dtype=np.int8)
LABELED, UNLABELED = np.array([True]), np.array([False])


def test_the_14_in_chexpert_order() -> None:
    assert len(PATHOLOGIES) == 14
    assert (PATHOLOGIES[0], PATHOLOGIES[-1]) == ("No Finding", "Support Devices")


@pytest.mark.parametrize(
    ("policy", "target", "weight", "unlabeled"),
    [
        ({}, [2, 0, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]),
        ({"blank_weight": 0.25}, [2, 0, 1, 0], [1, 1, 1, 0.25], [0, 0, 0, 0]),
        ({"uncertain": "zeros"}, [2, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]),
        ({"uncertain": "ones"}, [2, 0, 2, 0], [1, 1, 1, 1], [0, 0, 0, 0]),
        ({"uncertain": "ignore"}, [2, 0, NO_TARGET, 0], [1, 1, 0, 1], [0, 0, 1, 0]),
        ({"blank": "unlabeled"}, [2, 0, 1, NO_TARGET], [1, 1, 1, 0], [0, 0, 0, 1]),
        ({"blank": "ignore"}, [2, 0, 1, NO_TARGET], [1, 1, 1, 0], [0, 0, 0, 0]),
    ],
)
def test_policies(policy: dict[str, Any], target: list[int], weight: list[float], unlabeled: list[int]) -> None:
    targets = targets_of(STATES, LABELED, policy=LabelPolicy(**policy))
    assert targets.target_BP.tolist() == [target]
    assert targets.weight_BP.tolist() == [weight]
    assert targets.unlabeled_BP.astype(int).tolist() == [unlabeled]


@pytest.mark.parametrize("blank", ["negative", "unlabeled", "ignore"])
def test_an_unlabeled_study_has_no_target_at_all(blank: Literal["negative", "unlabeled", "ignore"]) -> None:
    targets = targets_of(np.full((1, 4), BLANK, np.int8), UNLABELED, policy=LabelPolicy(blank=blank))
    assert (targets.target_BP == NO_TARGET).all()
    assert not targets.weight_BP.any()
    assert targets.unlabeled_BP.all()


NAMES = ("No Finding", "Edema", "Fracture", "Support Devices")


@pytest.mark.parametrize(
    ("states", "derived"),
    [
        ([BLANK, POSITIVE, BLANK, BLANK], NEGATIVE),
        ([BLANK, UNCERTAIN, BLANK, BLANK], NEGATIVE),
        ([BLANK, NEGATIVE, BLANK, BLANK], BLANK),
        ([BLANK, BLANK, BLANK, POSITIVE], BLANK),
        ([POSITIVE, POSITIVE, BLANK, BLANK], POSITIVE),
        ([BLANK, BLANK, BLANK, BLANK], BLANK),
    ],
)
def test_no_finding_is_derived_from_findings_other_than_devices(states: list[int], derived: int) -> None:
    raw = np.array([states], dtype=np.int8)
    result = derive_no_finding(raw, pathologies=NAMES)
    assert result[0, 0] == derived
    assert result[0, 1:].tolist() == states[1:]
    assert raw.tolist() == [states]


def test_a_list_without_no_finding_is_unchanged() -> None:
    assert derive_no_finding(STATES, pathologies=("a", "b", "c", "d")).tolist() == STATES.tolist()


def test_protocols() -> None:
    assert truth_of(STATES, LABELED, protocol="A").tolist() == [[1, 0, 0, 0]]
    assert truth_of(STATES, LABELED, protocol="B").tolist() == [[1, 0, BLANK, BLANK]]
    assert truth_of(STATES, UNLABELED, protocol="A").tolist() == [[BLANK] * 4]


@given(st.lists(st.sampled_from([1, 0, -1, -2]), min_size=1, max_size=8), st.booleans())
def test_explicit_labels_agree_in_every_policy_and_protocol(states: list[int], labeled: bool) -> None:
    state_BP: npt.NDArray[np.int8] = np.array([states], dtype=np.int8)
    explicit = np.isin(state_BP, (0, 1)) & labeled
    for uncertain in ("multiclass", "ignore", "zeros", "ones"):
        policy = LabelPolicy.parse({"uncertain": uncertain}, where="labels")
        target = targets_of(state_BP, np.array([labeled]), policy=policy).target_BP
        assert (target[explicit] == 2 * state_BP[explicit]).all()
    for protocol in ("A", "B"):
        truth = truth_of(state_BP, np.array([labeled]), protocol=protocol)  # type: ignore[arg-type]
        assert (truth[explicit] == state_BP[explicit]).all()
