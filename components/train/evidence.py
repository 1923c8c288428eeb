"""The batch of a step in which training diverged, kept under `root` for whoever looks into it.

A batch is a function of its step: order, views and modalities are keyed. So nothing is held in memory for this.
"""

from __future__ import annotations

import json

import torch
from safetensors.torch import save

from components.cxr.config import content_hash
from components.cxr.model.batch import Batch
from components.cxr.storage.storage import Storage
from components.train.setup import Setup

__all__ = ["save_batch"]

NUM_SHOWN = 3


def save_batch(storage: Storage, setup: Setup, step: int) -> str:
    """Write what the network was shown in `step`, and say so in a sentence.

    `diverged-<step>.safetensors` has the films as augmented, views, ages, sexes, targets and weights of all processes;
    of the texts, which token ids would spell out, only the lengths. `diverged-<step>.json` has a hash for each study:
    content_hash(manifest hash, study id), by which whoever has the data set finds it and nobody else does.

    Args:
        storage: the training's checkpoints.
    """
    studies = setup.order.batch(step)
    shown = setup.show(setup.batches[studies], studies=studies, step=step)
    tensors = {"target_BP3": shown.target_BP3, "weight_BP": shown.weight_BP}
    if shown.pseudo_BP is not None:
        tensors |= {"pseudo_BP": shown.pseudo_BP}
    tensors |= _tensors("student", shown.student)
    name = f"diverged-{step:08d}"
    storage.write(f"{name}.safetensors", save({key: value.cpu().contiguous() for key, value in tensors.items()}))
    hashes = [content_hash(setup.info.manifest_hash, setup.training.study_ids[study]) for study in studies]
    found = {"step": step, "manifest_hash": setup.info.manifest_hash, "studies": hashes}
    storage.write(f"{name}.json", (json.dumps(found, indent=1) + "\n").encode())
    more = f" and {len(hashes) - NUM_SHOWN} more" if len(hashes) > NUM_SHOWN else ""
    return f"Its batch (studies {', '.join(hashes[:NUM_SHOWN])}{more}, hashed) is {storage.uri}/{name}.safetensors."


def _tensors(prefix: str, batch: Batch) -> dict[str, torch.Tensor]:
    """Everything of a batch but its text."""
    left_out = {"tokens_BT", "token_mask_BT", "present_N", "map_BVChw"}
    kept = {f"{prefix}.{name}": value for name, value in vars(batch).items() if name not in left_out}
    return kept | {f"{prefix}.num_tokens_B": batch.token_mask_BT.sum(dim=1)}
