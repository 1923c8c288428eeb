"""A window's losses are means over its steps, by name."""

from __future__ import annotations

import torch

from components.train.meter import Meter


def test_means_over_one_window_by_name() -> None:
    meter = Meter(num_steps=4, first_step=0, names=["supervised", "pseudo_label"], device=torch.device("cpu"))
    for value in (1.0, 3.0):
        meter.add(8, {"pseudo_label": torch.tensor(10 * value), "supervised": torch.tensor(value)})
    first = meter.take()
    assert first.keys() == {"train/supervised_loss", "train/pseudo_label_loss", "train/studies_per_second"}
    assert (first["train/supervised_loss"], first["train/pseudo_label_loss"]) == (2.0, 20.0)
    meter.add(8, {"pseudo_label": torch.tensor(0.0), "supervised": torch.tensor(5.0)})
    assert meter.take()["train/supervised_loss"] == 5.0
