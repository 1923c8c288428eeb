"""Starts a training: in this process, in several of this machine through torchrun, or on several nodes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from components.cxr.bundle_info import BUNDLE
from components.cxr.errors import UserError
from components.cxr.model.device import pick_device
from components.cxr.shards import load_manifest
from components.cxr.storage.pointers import write_pointer
from components.cxr.storage.storage import Root, Storage
from components.cxr.termination import sigterm_raises
from components.train.config import TrainConfig
from components.train.distributed import under_torchrun
from components.train.pretrained import check_film_size, check_positions
from components.train.stopping import AGAIN
from components.train.train import train, training_key

__all__ = ["launch"]


def launch(config: TrainConfig, *, root: Root, manifest: Storage) -> Storage:
    """Train with `config.num_processes` processes on `config.num_nodes` machines and return the bundle's folder.

    `latest/bundle.json` then points at it. Within torchrun this process is one of them, wherever it runs.

    Args:
        manifest: the data set's folder.

    Raises:
        UserError: as train and train_on_nodes, a process of a torchrun failed, or nodes wrote their bundle elsewhere.
    """
    if under_torchrun() or config.num_nodes == 1:  # the nodes of a TrainJob look for themselves
        pick_device(config.device, where="train.device")
    check_positions(config.architecture)
    loaded = load_manifest(manifest)
    check_film_size(config.architecture, loaded.manifest.pixel_preset.size)
    if under_torchrun() or config.num_processes == config.num_nodes == 1:
        bundle = train(config, loaded=loaded, root=root)
        if os.environ.get("RANK", "0") == "0":
            write_pointer(root, "bundle", bundle.uri)
        return bundle
    key = training_key(config, loaded.hash)
    bundle = root.bundle(key)
    if bundle.exists(BUNDLE):
        print(f"train: reused bundles/{key}", flush=True)
    elif config.num_nodes == 1:
        _torchrun(config, root=root, manifest=manifest)
    else:
        from components.train.nodes import train_on_nodes  # a second of imports that one machine need not wait for

        train_on_nodes(config, key=key, root=root, manifest=manifest)
        if not bundle.exists(BUNDLE):
            remedy = "Check what train.cluster.claims mounts there."
            raise UserError(
                "no-bundle", "the nodes finished, but their bundle is not here", where=bundle.uri, remedy=remedy
            )
    write_pointer(root, "bundle", bundle.uri)
    return bundle


def _torchrun(config: TrainConfig, *, root: Root, manifest: Storage) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary, "train.yaml")
        file.write_text(yaml.safe_dump({"root": root.uri, "train": config.model_dump(mode="json")}))
        command = [
            sys.executable, "-m", "components.train.torchrun", "--standalone",
            f"--nproc-per-node={config.num_processes}",
            "-m", "components.train", "--config", str(file), "--manifest", manifest.uri,
        ]  # fmt: skip
        environment = os.environ | {"OMP_NUM_THREADS": str(config.num_threads)}
        with sigterm_raises(), subprocess.Popen(command, env=environment) as torchrun:
            try:
                code = torchrun.wait()
            except BaseException:
                torchrun.terminate()  # it passes the signal on, and the main process ends MLflow's run
                raise
    if code == AGAIN:
        raise SystemExit(AGAIN)
    if code != 0:
        remedy = "The message is above; the last checkpoint is kept."
        raise UserError(
            "training-failed",
            "training failed",
            where=f"torchrun with {config.num_processes} processes",
            found=f"exit code {code}",
            remedy=remedy,
        )
