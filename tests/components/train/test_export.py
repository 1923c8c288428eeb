"""The weights of the best epoch go out, of equals the first."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from components.train.checkpoint import Progress
from components.train.export import keep_best, weights_to_export
from components.train.validation import Validated


def test_the_best_epochs_weights_go_out() -> None:
    average: Any = nn.Linear(1, 1, bias=False)
    progress = Progress()
    kept = []
    for epoch, auroc in enumerate([0.6, 0.8, 0.8, 0.7]):
        nn.init.constant_(average.weight, epoch)
        assert float(weights_to_export(Progress(), average)["weight"]) == epoch
        kept.append(keep_best(progress, Validated(1.0 - auroc, auroc), epoch=epoch, average=average))
    assert kept == [True, True, False, False]
    assert (progress.best_network, progress.best_epoch) == (0.8, 2)
    assert progress.best_auroc == pytest.approx(0.2), "of the same weights"
    assert float(weights_to_export(progress, average)["weight"]) == 1
