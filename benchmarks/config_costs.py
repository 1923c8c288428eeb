"""`python -m benchmarks.config_costs`: what every shipped configuration costs and scores, from where it was measured.

Each file of pipeline/configs begins with the lines that this prints for it, which a test compares.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import real_films, seed_protocol
from benchmarks.kept_runs import over_seeds, read_runs, seeds_told, told
from components.cxr.cli import run_cli

__all__ = ["config_costs"]

NOT_HAD = (
    "openi.yaml", "chexpert.yaml", "chexpert-plus.yaml", "padchest.yaml", "vindr-cxr.yaml", "vinbigdata.yaml",
    "brax.yaml", "rsna.yaml", "siim.yaml", "nih-cxr14-full.yaml", "dicomweb.yaml",
)  # fmt: skip
"""Configurations of films that nobody gave to this project."""

README = Path(__file__).parents[1] / "README.md"
Run = Mapping[str, Any]


def main() -> None:
    """Print the lines of every configuration."""
    for name, lines in config_costs().items():
        print("\n".join([f"{name}:", *(f"# {line}" for line in lines)]))


def config_costs() -> dict[str, list[str]]:
    """Lines of a comment, without its #, by file name."""
    real = [run for run in read_runs(real_films.RESULTS).values() if run["arm"] == "shipped"]
    runs = list(read_runs(seed_protocol.RESULTS).values())
    seed, shipped = ([run for run in runs if run["recipe"] == name] for name in ("seed", "shipped"))
    found = {"demo.yaml": _demo(shipped)} | {name: ["Not run here: the films could not be had."] for name in NOT_HAD}
    for name, of_recipe, tested, unit in (
        ("nih-cxr14.yaml", real, "films", "real_films"),
        ("seed-500.yaml", seed, "test_studies", "seed_protocol"),
    ):
        command = f"python -m benchmarks.{unit}"
        found[name] = [f"Not run here yet: {command}"]
        if of_recipe:
            what = f"{of_recipe[0][tested]:,} {tested.removeprefix('test_')}"
            measured = f"{what}, {seeds_told(len(of_recipe))}: {command}"
            found[name] = _measured(of_recipe, on=measured)
    return found


def _measured(runs: Sequence[Run], *, on: str) -> list[str]:
    of_seed = {run["seed"]: run for run in runs}
    seconds, megabytes = np.median([run["cpu_seconds"] for run in runs]), max(run["peak_mb"] for run in runs)
    which = "all" if "all" in runs[0]["auroc_times_10000"] else "labels"
    return [
        f"A training took {seconds / 60:.1f} minutes of one core ({runs[0]['machine']}) and {megabytes:,} MB.",
        f"Mean AUROC {told(over_seeds(of_seed, sorted(of_seed), which))} on {on}",
    ]


def _demo(shipped: Sequence[Run]) -> list[str]:
    text = README.read_text()
    (minutes,) = re.findall(r"^make demo .*; (\d+ to \d+ minutes on 2 cores)", text, re.MULTILINE)
    (row,) = re.findall(r"^ *Mean of 14 +(\S+) +(\S+)  \S", text, re.MULTILINE)[:1]
    memory = f"; a training takes {max(run['peak_mb'] for run in shipped):,} MB" if shipped else ""
    return [
        f"{minutes[0].upper()}{minutes[1:]}, installation included{memory}.",
        f"Mean AUROC {row[0]} ({row[1]}): make demo",
    ]


if __name__ == "__main__":
    run_cli(main)
