"""Numbers that are hashes of counters behave as random ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from components.cxr.model.counters import mixed, normals, uniforms

NUM_KEYS, COUNT = 64, 4096
KEYS_K = mixed(torch.arange(NUM_KEYS))


def test_normal_numbers_have_the_normal_distribution() -> None:
    x = normals(KEYS_K, COUNT).double()
    five_sigma = 5 / x.numel() ** 0.5
    assert abs(x.mean().item()) < five_sigma
    assert abs(x.var().item() - 1) < 2**0.5 * five_sigma
    assert abs(x.pow(3).mean().item()) < 15**0.5 * five_sigma
    assert abs(x.pow(4).mean().item() - 3) < 96**0.5 * five_sigma
    for value in (-2.0, -1.0, 0.0, 0.5, 1.5, 3.0):
        expected = 0.5 * (1 + torch.erf(torch.tensor(value / 2**0.5, dtype=torch.float64))).item()
        assert abs((x < value).double().mean().item() - expected) < 0.5 * five_sigma


def test_uniform_numbers_fill_their_interval_evenly() -> None:
    x = uniforms(KEYS_K, COUNT).double()
    counts = torch.histc(x, bins=50, min=0.0, max=1.0)
    expected = x.numel() / 50
    assert ((counts - expected).square() / expected).sum() < 100, "chi-squared with 49 degrees of freedom"
    assert x.min() >= 0
    assert x.max() < 1


@pytest.mark.parametrize("draw", [normals, uniforms])
def test_numbers_of_keys_and_neighbors_are_not_correlated(draw: object) -> None:
    x = draw(KEYS_K, COUNT).double()  # type: ignore[operator]
    x = (x - x.mean()) / x.std()
    between_keys = (x @ x.T / COUNT).fill_diagonal_(0.0)
    assert between_keys.abs().max() < 6 / COUNT**0.5
    for lag in (1, 2, 3, 4, 5, 8, 64, 65, 128):
        assert abs((x[:, lag:] * x[:, :-lag]).mean().item()) < 5 / x[:, lag:].numel() ** 0.5
    spectrum = np.abs(np.fft.fft(x.numpy(), axis=1)) ** 2 / COUNT
    assert spectrum.mean(axis=0).max() < 1 + 8 / NUM_KEYS**0.5, "no period"


def test_a_key_has_its_numbers_wherever_it_stands_and_however_many_are_drawn() -> None:
    for draw in (normals, uniforms):
        together = draw(KEYS_K, 103)
        assert torch.equal(draw(KEYS_K[5:6], 103)[0], together[5])
        assert torch.equal(draw(KEYS_K, 50), together[:, :50])
        assert together.dtype == torch.float32
        assert together.shape == (NUM_KEYS, 103)
