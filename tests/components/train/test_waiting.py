"""Between two log lines the host never waits for the training device.

The loop runs on torch's device `meta`, whose tensors have shapes and no numbers: whatever a host would have to wait for
(a number, a truth value, a size that depends on numbers, a copy to the host) is an error there.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from components.cxr.shards import LoadedManifest
from components.train import train
from components.train.checkpoint import Progress
from components.train.config import TrainConfig
from components.train.setup import Setup
from components.train.stopping import StopRequest

META = torch.device("meta")
SOURCE = Path(train.__file__).parent
LOG_EVERY = 3


class Copies(TorchDispatchMode):
    """Notes copies from the host to the device that the host waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[str] = []
        self.num_copies = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        name = func.name()
        if name in ("aten::_to_copy", "aten::copy_"):
            source = args[0] if name == "aten::_to_copy" else args[1]
            if source.device.type == "cpu" and found.device.type == "meta":
                self.num_copies += 1
                non_blocking = kwargs.get("non_blocking", len(args) > 2 and args[2])
                if not non_blocking:
                    self.waiting.append("".join(traceback.format_stack(limit=6)))
        return found


@pytest.mark.parametrize(("kind", "method", "accumulate"), [("experts", "self-training", 3), ("concat", "none", 1)])
def test_the_loop_first_waits_at_the_log_line(
    kind: str, method: str, accumulate: int, tiny_config: TrainConfig, tiny_data: LoadedManifest
) -> None:
    values = tiny_config.model_dump(mode="json")
    values["architecture"]["fusion"] |= {"dropout": 0.3, "kind": kind}
    values["semi_supervised"] |= {"method": method, "least_unlabeled": 0.0}
    changes = {"batch_size": 9, "accumulate": accumulate, "log_every": LOG_EVERY, "checkpoint_every": 100}
    config = TrainConfig.parse(values | changes, where="train")
    setup, progress, copies = on_meta(config, tiny_data), Progress(), Copies()
    if method == "self-training":
        setup.pseudo_SP = torch.full(setup.supervision.weight_SP.shape, 0.5)
    assert setup.steps_per_epoch > LOG_EVERY
    with pytest.raises(RuntimeError, match="meta tensors") as error, copies:
        train._loop(setup, progress, save=fail, keep_batch=str, tracked=None, stop=StopRequest(), stop_after=None)
    *_, last = [entry for entry in error.traceback if Path(entry.path).is_relative_to(SOURCE)]
    assert last.name == "check", "".join(traceback.format_exception(error.value))
    assert progress.step == LOG_EVERY
    assert copies.num_copies > 5 * LOG_EVERY
    assert not copies.waiting, copies.waiting[0]


def on_meta(config: TrainConfig, data: LoadedManifest) -> Setup:
    """Moved there afterwards: for `meta` torch has neither autocast nor a fused optimizer."""
    setup = Setup(config, data, device=torch.device("cpu"))
    setup.device = META
    torch.__future__.set_swap_module_params_on_conversion(True)  # the optimizer's are moved with the network's
    try:
        setup.network.to(META)
        setup.ema.model.to(META)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    for group in setup.optimizer.param_groups:
        group["fused"] = False
    return setup


def fail() -> None:
    raise AssertionError("no checkpoint is due")
