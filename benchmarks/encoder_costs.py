"""`python -m benchmarks.encoder_costs`: what gradient checkpointing and kept feature maps save, and what they cost.

Encoders have random weights at their real size. Times are those of the CPU, of one thread, so that other work on the
machine counts little. A line of JSON each.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import typer
from transformers import AutoConfig, AutoModel

from benchmarks.loader_data import write_set
from components.cxr.cli import run_cli
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.shards import LoadedManifest, load_manifest
from components.cxr.storage.storage import Root, open_storage
from components.train.config import TrainConfig
from components.train.setup import Setup
from components.train.train import train

__all__ = ["ENCODERS", "checkpointing", "maps"]

ENCODERS: dict[str, dict[str, Any]] = {
    "dinov2-small": {
        "model_type": "dinov2", "hidden_size": 384, "num_attention_heads": 6, "patch_size": 14, "image_size": 518,
    },
    "convnextv2-tiny": {"model_type": "convnextv2"},
    "resnet-50": {"model_type": "resnet"},
}  # fmt: skip


def main(
    encoder: Annotated[list[str] | None, typer.Option(help=f"Any of {', '.join(ENCODERS)}.")] = None,
    only: Annotated[str | None, typer.Option(help="checkpointing or maps; both by default.")] = None,
    size: Annotated[int, typer.Option(help="Side of the films in pixels.")] = 224,
    films: Annotated[int, typer.Option(help="Training films whose maps are kept.")] = 64,
    batch: Annotated[int, typer.Option(help="Films per step.")] = 8,
    epochs: Annotated[int, typer.Option(help="Passes over the films.")] = 3,
) -> None:
    """Measure each encoder in processes of its own."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("spawn")
    for name in encoder or ENCODERS:
        if only != "maps" and name == "dinov2-small":  # the library cannot compute the others' layers again
            with context.Pool(1, maxtasksperchild=1) as pool:
                plain, again = (pool.apply(checkpointing, (name, kept, size, batch)) for kept in (False, True))
            ratios = {f"{key}_ratio": round(again[key] / plain[key], 3) for key in plain}
            print(
                json.dumps({"checkpointing": name, "batch": batch, "plain": plain, "again": again} | ratios), flush=True
            )
        if only != "checkpointing":
            with context.Pool(1, maxtasksperchild=1) as pool:
                found = {kept: pool.apply(maps, (name, kept, size, films, batch, epochs)) for kept in (False, True)}
            shown: dict[str, Any] = {"maps": name, "films": films, "epochs": epochs}
            shown |= {
                "mb_per_film": found[True]["mb_per_film"],
                "seconds": found[False]["seconds"],
                "seconds_kept": found[True]["seconds"],
            }
            print(json.dumps(shown | {"faster": round(shown["seconds"] / shown["seconds_kept"], 2)}), flush=True)


def checkpointing(name: str, enabled: bool, size: int, batch: int) -> dict[str, float]:
    """Seconds of a forward and backward, and megabytes by which the process grew to its peak in it."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        tuning = {"vision": {"gradient_checkpointing": enabled}}
        setup = _setup(Path(folder), name, size=size, films=batch, batch=batch, tuning=tuning)
        studies = list(range(batch))
        shown = setup.show(setup.batches[studies], studies=studies, step=0)
        setup.network.train()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds = []
        for _ in range(2):
            start = time.process_time()
            setup.network(shown, setup.network.counts([shown]))["supervised"].backward()
            seconds.append(time.process_time() - start)
            setup.network.zero_grad(set_to_none=True)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": round(min(seconds), 3), "megabytes": round((peak - before) / 1024)}


def maps(name: str, kept: bool, size: int, films: int, batch: int, epochs: int) -> dict[str, float]:
    """Seconds of a training of the head on a frozen encoder, and megabytes of a film's map."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        config = _config(
            place, name, batch=batch, epochs=epochs, keep_maps=kept, augment="none", tuning={"vision": {"frozen": True}}
        )
        loaded = _data(place, size=size, films=films)
        start = time.process_time()
        train(config, loaded=loaded, root=Root(place / "root"))
        seconds = time.process_time() - start
        held = [path.stat().st_size for path in (place / "cache").glob("*.cached")] if kept else [0]
    return {"seconds": round(seconds, 1), "mb_per_film": round(max(held) / films / 1e6, 3)}


def _setup(place: Path, name: str, *, size: int, films: int, batch: int, tuning: dict[str, Any]) -> Setup:
    loaded = _data(place, size=size, films=films)
    return Setup(
        _config(place, name, batch=batch, tuning=tuning, semi_supervised={"method": "none"}),
        loaded,
        device=torch.device("cpu"),
    )


def _config(place: Path, name: str, *, batch: int, **values: Any) -> TrainConfig:
    encoder = dict(ENCODERS[name])
    model_type = encoder.pop("model_type")
    AutoModel.from_config(AutoConfig.for_model(model_type, **encoder)).save_pretrained(place / name)
    architecture = {"vision": {"model_type": model_type, "pretrained": str(place / name)}, "patches": "none"}
    fixed = {"architecture": architecture, "batch_size": batch, "num_threads": 1, "device": "cpu"}
    return TrainConfig.parse(fixed | values, where="train")


def _data(place: Path, *, size: int, films: int) -> LoadedManifest:
    """Studies of one smooth random film each."""
    os.environ["CXRFLOW_CACHE"] = str(place / "cache")
    rng = np.random.default_rng(0)

    def pixels() -> npt.NDArray[np.uint8]:
        coarse = rng.integers(0, 256, (14, 14), dtype=np.uint8)
        return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)

    write_set(place / "data", [1] * films, preset=PixelPreset(size=size), pixels=pixels, rng=rng)
    return load_manifest(open_storage(place / "data"))


if __name__ == "__main__":
    run_cli(main)
