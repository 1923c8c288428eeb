"""Starts a training in this process, or in several of this machine through torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from components.cxr.errors import UserError
from components.cxr.pointers import write_pointer
from components.cxr.shards import load_manifest
from components.cxr.storage import Root, Storage
from components.train.config import TrainConfig
from components.train.distributed import under_torchrun
from components.train.train import train, training_key

__all__ = ["launch"]


def launch(config: TrainConfig, *, root: Root, manifest: Storage) -> Storage:
    """Train with `config.num_processes` processes, point `latest/bundle.json` at the bundle and return its folder.

    Args:
        manifest: the data set's folder.

    Raises:
        UserError: as train, or a process of a torchrun failed.
    """
    loaded = load_manifest(manifest)
    if config.num_processes == 1 or under_torchrun():
        bundle = train(config, loaded=loaded, root=root)
        write_pointer(root, "bundle", bundle.uri)
        return bundle
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary, "train.yaml")
        file.write_text(yaml.safe_dump({"root": root.uri, "train": config.model_dump(mode="json")}))
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={config.num_processes}",
            "-m", "components.train", "--config", str(file), "--manifest", manifest.uri,
        ]  # fmt: skip
        environment = os.environ | {"OMP_NUM_THREADS": str(config.num_threads)}
        code = subprocess.run(command, check=False, env=environment).returncode
    if code != 0:
        remedy = "The message is above; the last checkpoint is kept."
        raise UserError(
            "training failed",
            where=f"torchrun with {config.num_processes} processes",
            found=f"exit code {code}",
            remedy=remedy,
        )
    return root.bundle(training_key(config, loaded.hash))
