"""`python -m components.train` computed in float64, where two processes differ from one by far less than in float32.

Nothing in the project offers it: weights and films are float32, and the configuration has no such precision. So every
place where a tensor becomes float32 gives a float64 one here. What the numbers mean stays as it is.
"""

from __future__ import annotations

import os

import torch

from components.cxr.cli import run_cli
from components.cxr.model.batch import Batch
from components.train import validation
from components.train.__main__ import main
from components.train.objectives import losses

BATCH_SIZE = 5
"""Studies of validation at once, so that each of several processes has more than one batch."""


def _double(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.float64)


def compute_in_float64() -> None:
    """For the whole process."""
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = _double  # type: ignore[method-assign,assignment]
    post_init, mean = Batch.__post_init__, losses._mean

    def with_double_age(batch: Batch) -> None:
        post_init(batch)
        object.__setattr__(batch, "age_B", _double(batch.age_B))

    def of_exact_counts(value_EBP: torch.Tensor, count_E: torch.Tensor) -> torch.Tensor:
        assert float(count_E.max()) < 2**24, "integers that float32 holds"
        assert torch.equal(count_E, count_E.round())
        return mean(value_EBP, count_E)

    Batch.__post_init__ = with_double_age  # type: ignore[method-assign]
    losses._mean = of_exact_counts
    validation.BATCH_SIZE = BATCH_SIZE


if __name__ == "__main__":
    assert "CXRFLOW_CACHE" in os.environ, "the tests' own"
    compute_in_float64()
    run_cli(main)
