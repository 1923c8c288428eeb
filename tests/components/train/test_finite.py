"""A gradient that is not finite ends the training and names its first step."""

from __future__ import annotations

import pytest
import torch

from components.cxr.errors import UserError
from components.train.finite import FiniteGuard


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_first_bad_step_is_named(bad: float) -> None:
    guard = FiniteGuard(torch.device("cpu"))
    for step, norm in enumerate([1.0, 2.0]):
        guard.add(torch.tensor(norm), step=step)
    guard.check()
    for step, norm in enumerate([bad, 1.0, bad], start=2):
        guard.add(torch.tensor(norm), step=step)
    with pytest.raises(UserError, match="step 2") as error:
        guard.check()
    assert error.value.code == "training-diverged"
