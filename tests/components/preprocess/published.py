"""Made-up folders in the published layouts of public sets, and their shipped configurations on them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from components.cxr.config import load_yaml, with_overrides
from components.cxr.films.pixels import encode_png
from components.cxr.shards import LoadedManifest, read_shard
from components.cxr.storage.storage import Root
from components.preprocess.collect import collect
from components.preprocess.config import PreprocessConfig, parse_data
from components.preprocess.preprocess import run_partition

REPOSITORY = Path(__file__).parents[3]
CONFIGS = REPOSITORY / "pipeline" / "configs"
Rows = dict[str, dict[str, Any]]


def png(path: Path) -> None:
    """A film of noise in 8 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(np.random.default_rng(len(str(path))).integers(0, 256, (40, 40)).astype(np.uint8)))


def jpeg(path: Path) -> None:
    """The same film under any name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(1).integers(0, 256, (40, 40)).astype(np.uint8))


def run(name: str, beside: Path, **changes: Any) -> tuple[LoadedManifest, Rows]:
    """The data set, and its rows by hashed image id."""
    values = load_yaml(CONFIGS / f"{name}.yaml")
    return _run(values["data"] | changes, beside)


def run_with(name: str, assignments: Iterable[str], beside: Path) -> tuple[LoadedManifest, Rows]:
    """As `run`, with `--set` assignments of the command line."""
    return _run(with_overrides(load_yaml(CONFIGS / f"{name}.yaml"), assignments)["data"], beside)


def commands_of(page: str) -> list[tuple[str, list[str]]]:
    """Each `python -m components.preprocess` of a page on a shipped configuration: its name and its `--set` values."""
    text = (REPOSITORY / "docs" / page).read_text().replace("\\\n", " ")
    found = re.findall(r"^ *python -m components\.preprocess --config pipeline/configs/([\w-]+)\.yaml(.*)$", text, re.M)
    commands = []
    for name, rest in found:
        words = shlex.split(rest, comments=True)
        assert set(words[::2]) == {"--set"}, rest
        commands.append((name, words[1::2]))
    return commands


def _run(values: dict[str, Any], beside: Path) -> tuple[LoadedManifest, Rows]:
    data = parse_data(values)
    step = PreprocessConfig.parse({"pixels": {"size": 32}, "num_workers": 0}, where="preprocess")
    run_partition(data, step, root=Root(beside / "runs"), partition=0, num_partitions=1)
    loaded = collect(data, step, root=Root(beside / "runs"))
    assert loaded.manifest.num_rejects == 0
    table = pa.concat_tables(read_shard(loaded.storage, info) for info in loaded.manifest.shards)
    return loaded, {row["image_id"]: row for row in table.to_pylist()}
