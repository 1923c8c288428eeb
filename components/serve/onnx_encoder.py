"""The film encoder in ONNX Runtime, exported from the bundle's own weights and compared with them.

A pass on the CPU takes .38 to .75 of PyTorch's time (docs/benchmarks.md). The bundle stays the only form of the weights
that is sealed: the export is made from it where a server starts, once per machine.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.onnx.errors import OnnxExporterError

from components.cxr.config import content_hash
from components.cxr.errors import UserError
from components.cxr.model.vision import VisionEncoder
from components.cxr.storage.node_cache import made_once

__all__ = ["OnnxEncoder"]

_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
_TOLERANCE = 1e-4
"""Largest difference in a map, in parts of its largest value."""


class OnnxEncoder(nn.Module):
    """A VisionEncoder's forward pass on the CPU, without gradients.

    Args:
        vision: in eval mode, on the CPU.
        size: side of the films in pixels.
        key: hash of the weights.

    Raises:
        UserError: the packages are not installed, the encoder cannot be exported, or the export answers otherwise.
    """

    def __init__(self, vision: VisionEncoder, *, size: int, key: str) -> None:
        super().__init__()
        if missing := [package for package in _PACKAGES if importlib.util.find_spec(package) is None]:
            raise _unusable("packages are not installed", ", ".join(missing), remedy="pip install 'cxrflow[serve]'.")
        import onnxruntime

        made_by = "".join(f" {package} {version(package)}" for package in ("torch", *_PACKAGES))
        exported = made_once(f"onnx-{content_hash(key, str(size), made_by)}", lambda: [_exported(vision, size)])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors
        self._session: Any = onnxruntime.InferenceSession(
            exported.tobytes(), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        _compare(self, vision, size)

    def forward(self, films_NHW: Tensor) -> Tensor:
        """The map (N, C, h, w) of films, uint8."""
        map_NChw = self._session.run(None, {self._input: films_NHW.contiguous().numpy()})[0]
        return torch.from_numpy(np.asarray(map_NChw))


def _exported(vision: VisionEncoder, size: int) -> bytes:
    films_NHW = torch.zeros((2, size, size), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "vision.onnx"
        try:
            torch.onnx.export(
                vision,
                (films_NHW,),
                path,
                dynamo=True,
                verbose=False,
                dynamic_shapes=({0: torch.export.Dim("N")},),
                external_data=False,
            )
        except OnnxExporterError as error:
            raise _unusable("the encoder cannot be exported", type(error).__name__) from None
        return path.read_bytes()


def _compare(encoder: OnnxEncoder, vision: VisionEncoder, size: int) -> None:
    films_NHW = torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for some_NHW in (films_NHW[:1], films_NHW):
            expected_NChw = vision(some_NHW)
            difference = (encoder(some_NHW) - expected_NChw).abs().max() / expected_NChw.abs().max()
            if not difference <= _TOLERANCE:
                raise _unusable("the exported encoder answers otherwise", f"a difference of {float(difference):.1e}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks about packages that it does not need."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _unusable(what: str, found: str, *, remedy: str = "Set serve.engine to torch.") -> UserError:
    return UserError("no-onnx", what, where="serve.engine", found=found, remedy=remedy)
