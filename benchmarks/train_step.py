"""`python -m benchmarks.train_step`: what the training loop costs beside the bare network.

The loop is train's own, timed between the ends of its optimizer steps: loading, views, losses, clipping, EMA, logging.
Bare is forward, loss, backward and optimizer step of the same network on one batch that lies on the device. Its
variants are what the loop could do otherwise: weights in channels_last, an optimizer that is not fused, a compiled
network. They take turns; medians of single steps count, with 95 % intervals from a bootstrap over the steps. Every
encoder ends with a line of JSON.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
import typer
from scipy.stats import bootstrap
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmarks.loader_data import write_set
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.model.device import pick_device
from components.cxr.shards import LoadedManifest, load_manifest
from components.cxr.storage.storage import Root, open_storage
from components.train.config import TrainConfig
from components.train.setup import Setup
from components.train.train import train

__all__ = ["ENCODERS", "measure"]

ENCODERS: dict[str, dict[str, Any]] = {
    "default": {},
    "resnet-50": {"model_type": "resnet"},
    "convnextv2-tiny": {"model_type": "convnextv2"},
    "vit-b14": {"model_type": "dinov2", "config": {"patch_size": 14, "image_size": 224}},
}
"""Networks from scratch in the shape that the transformers library has for each type."""


def main(
    encoder: Annotated[list[str] | None, typer.Option(help=f"Any of {', '.join(ENCODERS)}.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    size: Annotated[int, typer.Option(help="Side of the films in pixels.")] = 224,
    batch: Annotated[int, typer.Option(help="Studies of one film per step.")] = 16,
    steps: Annotated[int, typer.Option(help="Timed steps per turn.")] = 6,
    rounds: Annotated[int, typer.Option(help="Turns of each.")] = 3,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    compiled: Annotated[bool, typer.Option(help="Time the compiled network too; on a CPU that takes minutes.")] = False,
) -> None:
    """Milliseconds per step of the loop, supervised and semi-supervised, beside the bare network's."""
    with tempfile.TemporaryDirectory() as folder:
        loaded = _data(Path(folder), size=size, num_studies=4 * batch)
        for name in encoder or ["default"]:
            found = measure(
                loaded, Path(folder, name), encoder=ENCODERS[name], device=device, batch=batch, steps=steps,
                rounds=rounds, threads=threads, compiled=compiled,
            )  # fmt: skip
            print(json.dumps({"benchmark": "train_step", "encoder": name, "size": size, "batch": batch, **found}))


def measure(
    loaded: LoadedManifest, place: Path, *, encoder: dict[str, Any], device: str, batch: int, steps: int, rounds: int,
    threads: int, compiled: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Median milliseconds of a step, and their ratios, each with its interval under `name_ci`.

    Args:
        place: where trainings are kept between turns.
        compiled: time the compiled network too.
    """
    supervised, in_parts, student = (
        TrainConfig.parse(
            {
                "architecture": {"patches": "none"} | ({"vision": encoder} if encoder else {}),
                "semi_supervised": {"method": method, "num_teachers": 1, "teacher_epochs": 1, "least_unlabeled": 0.0},
                "labeled_fraction": 0.5 if method == "self-training" else 1.0,
                "batch_size": batch,
                "accumulate": accumulate,
                "epochs": 10 * steps * rounds,  # far more than are done: the schedule stays near its peak
                "device": device,
                "num_threads": threads,
                "precision": "bfloat16" if device == "cuda" else "float32",
            },
            where="train",
        )
        for method, accumulate in (("none", 1), ("none", 4), ("self-training", 1))
    )
    variants: tuple[Variant, ...] = ("bare", "channels_last", "not_fused", *(("compiled",) if compiled else ()))
    steps_of = {variant: _bare(supervised, loaded, variant) for variant in variants}
    loops = {"loop": supervised, "accumulate_4": in_parts, "semi_supervised": student}
    train(student, loaded=loaded, root=Root(str(place / "semi_supervised")), stop_after=1)  # its teacher is not timed
    seconds: dict[str, list[float]] = {name: [] for name in (*variants, *loops)}
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for turn in range(1, rounds + 1):
        for variant, step in steps_of.items():
            seconds[variant] += _intervals(partial(_repeat, step, steps + 2), device)
        for name, config in loops.items():
            stop_after, root = turn * (steps + 2), Root(str(place / name))
            seconds[name] += _intervals(partial(train, config, loaded=loaded, root=root, stop_after=stop_after), device)
    ms = {name: round(1000 * statistics.median(values), 2) for name, values in seconds.items()}
    ratios = {
        "loop_efficiency": ("bare", "loop"),
        "ssl_cost_ratio": ("semi_supervised", "loop"),
        "accumulate_ratio": ("accumulate_4", "loop"),
        "channels_last_ratio": ("channels_last", "bare"),
        "fused_ratio": ("bare", "not_fused"),
        **({"compiled_ratio": ("compiled", "bare")} if compiled else {}),
    }
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else f"cpu, {threads} threads",
        "steps": len(seconds["loop"]),
        "ms": ms,
        "images_per_second": round(1000 * batch / ms["loop"], 1),
        "peak_memory_mb": round(torch.cuda.max_memory_allocated() / 1e6) if device == "cuda" else None,
        **{name: round(ms[over] / ms[under], 3) for name, (over, under) in ratios.items()},
        **{f"{name}_ci": _interval(seconds[over], seconds[under]) for name, (over, under) in ratios.items()},
    }


def _interval(over: list[float], under: list[float]) -> list[float]:
    """95 % bounds of the ratio of the medians, over the steps of both."""

    def ratio(over_N: Floats, under_N: Floats, axis: int = -1) -> Floats:
        return np.asarray(np.median(over_N, axis=axis) / np.median(under_N, axis=axis))

    found = bootstrap((over, under), ratio, n_resamples=1000, method="percentile", rng=0).confidence_interval
    return [round(float(found.low), 3), round(float(found.high), 3)]


Floats = npt.NDArray[np.float64]
Variant = Literal["bare", "channels_last", "not_fused", "compiled"]


def _bare(config: TrainConfig, loaded: LoadedManifest, variant: Variant) -> Callable[[], None]:
    """One step of the same network and optimizer on one batch."""
    torch.set_num_threads(config.num_threads)
    setup = Setup(config, loaded, device=pick_device(config.device, where="train.device"))
    studies = list(range(setup.batch_size))
    shown = setup.show(setup.batches[studies], studies=studies, step=0)
    setup.network.train()
    if variant == "channels_last":
        setup.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    elif variant == "compiled":
        setup.network.compile()
    for group in setup.optimizer.param_groups:
        group["fused"] = variant != "not_fused"

    def step() -> None:
        setup.optimizer.zero_grad(set_to_none=True)
        setup.network(shown, setup.network.counts([shown]))["supervised"].backward()
        setup.optimizer.step()

    return step


def _repeat(step: Callable[[], None], count: int) -> None:
    for _ in range(count):
        step()


def _intervals(run: Callable[[], object], device: str) -> list[float]:
    """Seconds between the ends of optimizer steps while `run` runs, without the first, which warms up.

    On a CPU they are this process's CPU time, loader included, which other work on the machine stretches less.
    """
    ends: list[float] = []
    clock = time.perf_counter if device == "cuda" else time.process_time

    def note(*_: object) -> None:
        if device == "cuda":
            torch.cuda.synchronize()
        ends.append(clock())

    hook = register_optimizer_step_post_hook(note)
    try:
        run()
    finally:
        hook.remove()
    return [after - before for before, after in pairwise(ends[1:])]


def _data(folder: Path, *, size: int, num_studies: int) -> LoadedManifest:
    rng, preset = np.random.default_rng(0), PixelPreset(size=size)

    def pixels() -> npt.NDArray[np.uint8]:
        coarse = rng.integers(0, 256, (14, 14), dtype=np.uint8)
        return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)

    write_set(folder / "data", [1] * num_studies, preset=preset, pixels=pixels, rng=rng)
    return load_manifest(open_storage(folder / "data"))


if __name__ == "__main__":
    typer.run(main)
