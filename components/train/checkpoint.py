"""Checkpoints: everything that makes a killed run continue to the same result, written whole or not at all."""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import dataclass
from typing import Any

import torch

from components.cxr.errors import UserError
from components.cxr.storage.pointers import pointed_at
from components.cxr.storage.storage import Storage
from components.cxr.tracking.journal import upload_journal
from components.cxr.tracking.tracked_run import TrackedRun
from components.train.distributed import is_main
from components.train.lease import Lease
from components.train.setup import Setup

__all__ = ["Progress", "load_checkpoint", "save_checkpoint"]

POINTER = "latest.json"


@dataclass
class Progress:
    """Where a run is; random numbers need no state, they are keyed by seed, epoch, step and study."""

    step: int = 0
    """Optimizer steps done."""
    validated: int = 0
    """Epochs whose weights were validated; a training that is stopped in validation validates again."""
    best_network: float | None = None
    """Best validation mean AUROC of the EMA weights so far, without the expert of patches."""
    best_score_SP: torch.Tensor | None = None
    """What that network answered."""
    kept_epoch: int | None = None
    """Whose weights go out if no later epoch's do; from 1, 0 for the bundle that training started from."""
    kept_auroc: float | None = None
    """Validation mean AUROC of its answers, the expert of patches among them."""
    kept_weights: dict[str, torch.Tensor] | None = None
    run_id: str | None = None
    """MLflow run to join."""


def save_checkpoint(
    storage: Storage,
    setup: Setup,
    progress: Progress,
    *,
    lease: Lease | None = None,
    tracked: TrackedRun | None = None,
) -> None:
    """Write `step-<n>.pt` and the journal, then the pointer to it, then remove older ones; the main process does.

    Args:
        lease: renewed first, so that no other trainer's checkpoint is replaced.
        tracked: whose journal is kept beside the checkpoints of a bucket.

    Raises:
        UserError: another process trains this now.
    """
    if not is_main():
        return
    if lease is not None:
        lease.renew()
    name = f"step-{progress.step:08d}.pt"
    state = {
        "model": setup.network.state_dict(),
        "ema": setup.ema.model.state_dict(),
        "ema_updates": setup.ema.num_updates,
        "optimizer": setup.optimizer.state_dict(),
        "progress": vars(progress),
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    storage.write(name, buffer.getvalue())
    if tracked is not None:
        upload_journal(storage, tracked.journal)
    storage.write(POINTER, json.dumps({"checkpoint": name}).encode())
    for other in storage.sizes():
        if other.startswith("step-") and other != name:
            storage.delete(other)


def load_checkpoint(storage: Storage, setup: Setup, *, device: torch.device) -> Progress:
    """Restore the newest checkpoint into `setup`; a fresh Progress when there is none.

    Raises:
        UserError: the pointer or the checkpoint is damaged.
    """
    remedy = f"Delete {storage.uri} to start this training over."
    try:
        pointer = storage.read(POINTER).data
    except FileNotFoundError:
        return Progress()
    name = pointed_at(pointer, "checkpoint", where=f"{storage.uri}/{POINTER}", remedy=remedy)
    try:
        data = storage.read(name).data
        state: dict[str, Any] = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except (FileNotFoundError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        said = "no such file" if isinstance(error, FileNotFoundError) else str(error) or "nothing in it"
        detail = said.splitlines()[0][:120]
        where = f"{storage.uri}/{name}"
        raise UserError("damaged-checkpoint", "damaged checkpoint", where=where, found=detail, remedy=remedy) from None
    setup.network.load_state_dict(state["model"])
    setup.ema.model.load_state_dict(state["ema"])
    setup.ema.num_updates = state["ema_updates"]
    setup.optimizer.load_state_dict(state["optimizer"])
    progress = Progress(**state["progress"])
    if progress.best_score_SP is not None and progress.kept_weights is not None:  # were on the host, and stay there
        progress.best_score_SP = progress.best_score_SP.cpu()
        progress.kept_weights = {name: value.cpu() for name, value in progress.kept_weights.items()}
    return progress
