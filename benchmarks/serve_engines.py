"""`python -m benchmarks.serve_engines`: would another engine than eager PyTorch answer faster?

The film encoder, nearly all of a pass's time, of the served model and of a ResNet-50 with random weights, on one
thread: eager, with channels last, by torch.compile and by ONNX Runtime, one film and sixteen at a time. All take turns;
times are medians, ratios to eager. `difference` is the largest of any value of the map, over the map's largest value.
Ends with a line of JSON.
"""

from __future__ import annotations

import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from torch.nn.utils import convert_conv2d_weight_memory_format

from benchmarks.serve import ENCODERS, deployed
from benchmarks.serve_model import with_encoder
from components.cxr.bundle import load_bundle
from components.cxr.cli import run_cli
from components.cxr.model.vision import VisionEncoder
from components.serve.onnx_encoder import OnnxEncoder

__all__ = ["measure"]

Engine = Callable[[Tensor], Tensor]


def main(
    root: Annotated[str, typer.Option(help="Of a finished run, whose deployed model is served.")] = "runs/demo",
    size: Annotated[int, typer.Option(help="Side of the ResNet-50's films in pixels.")] = 224,
    repeats: Annotated[int, typer.Option(help="Passes of each engine.")] = 30,
) -> None:
    """Time each engine at both encoders."""
    torch.set_num_threads(1)
    model, found = deployed(root), {}
    with tempfile.TemporaryDirectory() as temporary:
        other = with_encoder(model, None, Path(temporary), ENCODERS["resnet-50"], size=size)
        for name, storage in (("demo", model), ("resnet-50", other)):
            bundle = load_bundle(storage)
            vision = bundle.model.eval().vision
            found[name] = measure(vision, size=bundle.info.pixel_preset.size, key=bundle.hash, repeats=repeats)
    print(json.dumps({"benchmark": "serve_engines", "repeats": repeats, **found}))


@torch.inference_mode()
def measure(vision: VisionEncoder, *, size: int, key: str, repeats: int) -> dict[str, Any]:
    """Milliseconds a pass, ratio to eager and difference from it, by number of films and engine.

    Args:
        key: hash of the weights.
    """
    found: dict[str, Any] = {}
    for number in (1, 16):
        films_NHW = torch.randint(0, 256, (number, size, size), dtype=torch.uint8)
        torch.compiler.reset()
        made: dict[str, Engine] = {
            "eager": vision,
            "channels last": convert_conv2d_weight_memory_format(copy.deepcopy(vision), torch.channels_last),
            "torch.compile": torch.compile(vision),
            "ONNX Runtime": OnnxEncoder(vision, size=size, key=key),
        }
        expected = made["eager"](films_NHW)
        differences = {name: _difference(run(films_NHW), expected) for name, run in made.items()}
        seconds: dict[str, list[float]] = {name: [] for name in made}
        for _ in range(repeats):
            for name, run in made.items():
                start = time.perf_counter()
                run(films_NHW)
                seconds[name].append(time.perf_counter() - start)
        eager = statistics.median(seconds["eager"])
        for name in made:
            median = statistics.median(seconds[name])
            told = {"ms": round(1000 * median, 2), "ratio": round(median / eager, 2), "difference": differences[name]}
            found.setdefault(str(number), {})[name] = told
            print(
                f"{size:>4} px {number:>3} films  {name:<16}{told['ms']:>8.2f} ms{told['ratio']:>7.2f}"
                f"{told['difference']:>10.1e}",
                flush=True,
            )
    return found


def _difference(map_NChw: Tensor, expected_NChw: Tensor) -> float:
    return float((map_NChw - expected_NChw).abs().max() / expected_NChw.abs().max())


if __name__ == "__main__":
    run_cli(main)
