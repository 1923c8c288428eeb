import pytest
import torch
from torch import nn

from components.train.ema import Ema


def test_average_warms_up_and_follows_the_weights() -> None:
    model = nn.Linear(1, 1, bias=False)
    model.register_buffer("seen", torch.zeros(1))
    model.weight.data.fill_(0.0)
    ema = Ema(model, decay=0.9)
    expected = 0.0
    for n in range(200):
        decay = min(0.9, (1 + n) / (10 + n))
        assert ema.current_decay == pytest.approx(decay)
        model.weight.data.fill_(1.0)
        model.seen.fill_(float(n))
        ema.update(model)
        expected = decay * expected + (1 - decay) * 1.0
        assert ema.model.weight.item() == pytest.approx(expected, abs=1e-5)
        assert ema.model.seen.item() == n, "buffers are copied"
    assert not ema.model.training
    assert not ema.model.weight.requires_grad
