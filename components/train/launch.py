"""Finds the model that a training would give, or starts the training."""

from __future__ import annotations

import os

from components.cxr.bundle_info import BUNDLE
from components.cxr.shards import load_manifest
from components.cxr.storage.pointers import write_pointer
from components.cxr.storage.storage import Root, Storage
from components.train.config import TrainConfig
from components.train.fine_tuning import with_origin
from components.train.key import training_key
from components.train.torchrun_variables import under_torchrun

__all__ = ["launch"]


def launch(config: TrainConfig, *, root: Root, manifest: Storage) -> Storage:
    """Train, or reuse what is trained, and return the bundle's folder; `latest/bundle.json` then points at it.

    Args:
        manifest: the data set's folder.

    Raises:
        UserError: as start, or no such pretrained weights or bundle to start from.
    """
    config = with_origin(config, root=root)
    loaded = load_manifest(manifest)
    key = training_key(config, loaded.hash)
    bundle = root.bundle(key)
    if not under_torchrun() and bundle.exists(BUNDLE):  # several processes agree in train on what is there
        print(f"train: reused bundles/{key}", flush=True)
    else:
        from components.train.start import start  # torch takes seconds, which a finished training need not wait for

        start(config, key=key, loaded=loaded, root=root)
    if not under_torchrun() or os.environ["RANK"] == "0":
        write_pointer(root, "bundle", bundle.uri)
    return bundle
