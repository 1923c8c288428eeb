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
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root, Storage
from components.cxr.termination import sigterm_raises
from components.train.config import TrainConfig
from components.train.fine_tuning import complete_architecture
from components.train.pretrained import check_film_size, check_positions
from components.train.stopping import AGAIN
from components.train.torchrun_variables import under_torchrun
from components.train.train import train

__all__ = ["start"]


def start(config: TrainConfig, *, key: str, loaded: LoadedManifest, root: Root) -> None:
    """Train with `config.num_processes` processes on `config.num_nodes` machines.

    Within torchrun this process is one of them, wherever it runs.

    Args:
        config: as with_origin gives it.
        key: of the training, by training_key.

    Raises:
        UserError: as train and train_on_nodes, a process of a torchrun failed, or nodes wrote their bundle elsewhere.
    """
    if under_torchrun() or config.num_nodes == 1:  # the nodes of a TrainJob look for themselves
        pick_device(config.device, where="train.device")
    architecture = complete_architecture(config)
    check_positions(architecture)
    check_film_size(architecture, loaded.manifest.pixel_preset.size)
    if under_torchrun() or config.num_processes == config.num_nodes == 1:
        train(config, loaded=loaded, root=root)
    elif config.num_nodes == 1:
        _torchrun(config, root=root, manifest=loaded.storage)
    else:
        from components.train.nodes import train_on_nodes  # a second of imports that one machine need not wait for

        train_on_nodes(config, key=key, root=root, manifest=loaded.storage)
        if not (bundle := root.bundle(key)).exists(BUNDLE):
            remedy = "Check what train.cluster.claims mounts there."
            raise UserError(
                "no-bundle", "the nodes finished, but their bundle is not here", where=bundle.uri, remedy=remedy
            )


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
