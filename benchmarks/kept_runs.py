"""Runs of a long benchmark, kept in one small file that is committed: a proof grows over several days and machines.

A run is kept with its mean AUROC over all test patients and over `NUM_SAMPLES` resamples of them, the same for every
run: differences are paired by patient, and intervals are over patients and seeds together.

Shape letters: S studies, P pathologies, N samples, R seeds.
"""

from __future__ import annotations

import fcntl
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.resampled import Scores, high, low, mean_auroc, redrawn
from components.cxr.config import content_hash
from components.cxr.errors import UserError
from components.cxr.revision import git_revision
from components.cxr.shards import LoadedManifest

__all__ = [
    "NUM_SAMPLES",
    "add_run", "by_seed", "check_arms", "in_pairs", "made_here", "of_arm", "over_seeds", "read_runs", "recipe_hash",
    "run_key", "sampled", "seeds_told", "told",
]  # fmt: skip

NUM_SAMPLES = 200

R = TypeVar("R", bound=Mapping[str, Any])
"""A run as it is kept."""


def run_key(code: str, values: Mapping[str, Any], *data: LoadedManifest) -> str:
    """16 hex digits over what decides a run: the code's version, the configuration and the bytes of the shards.

    Where the data lie and where they came from does not count, so that a run is found again on another machine.
    """
    shards = (shard.sha256 for loaded in data for shard in loaded.manifest.shards)
    return content_hash(code, json.dumps(values, sort_keys=True), *shards)


def recipe_hash(values: Mapping[str, Any]) -> str:
    """Of a section `train` but for seeds and threads: which configuration a kept run is of."""
    unseeded = {name: value for name, value in values.items() if name not in ("seed", "labeled_seed", "num_threads")}
    return content_hash(json.dumps(unseeded, sort_keys=True))


def made_here() -> dict[str, str | None]:
    """Revision and machine, for a run's entry."""
    machine = f"{platform.machine()}, torch {torch.__version__.split('+')[0]}"
    return {"revision": git_revision(), "machine": machine}


def check_arms(asked: Sequence[str] | None, known: Iterable[str]) -> None:
    """Refuse a misspelled arm, which would train nothing.

    Raises:
        UserError: naming those that there are.
    """
    names = list(known)
    for name in asked or ():
        if name not in names:
            raise UserError("unknown-arm", "no such arm", where="--arm", found=name, expected="; ".join(names))


def read_runs(path: Path) -> dict[str, dict[str, Any]]:
    """By a hash of what was run; empty where there is no file yet."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def add_run(path: Path, key: str, run: Mapping[str, Any]) -> None:
    """Keep one run, on a line of its own; several processes may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        runs = read_runs(path) | {key: run}
        lines = [f" {json.dumps(each)}: {json.dumps(runs[each])}" for each in sorted(runs)]
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def sampled(score_SP: Scores, truth_SP: npt.NDArray[np.int8], patient_S: Sequence[str]) -> list[int]:
    """Mean AUROC times 10,000 (1 + NUM_SAMPLES): of all patients, then of each resample."""
    every, which_S = np.unique(np.asarray(patient_S), return_inverse=True)
    weight_NS = redrawn(len(every), np.random.default_rng(0), num=NUM_SAMPLES)[:, which_S]
    return [round(10_000 * value) for value in mean_auroc(score_SP, truth_SP, weight_NS)]


def of_arm(runs: Iterable[R], arm: str, percent: int) -> list[R]:
    """Its runs with so many percent of the labels, by any version of the code."""
    return [run for run in runs if (run["arm"], run["percent"]) == (arm, percent)]


def by_seed(runs: Iterable[R]) -> dict[int, R]:
    """An arm's runs by the version of the code that most of its seeds ran with, of equals the newest."""
    return max(_by_version(runs).items(), key=lambda item: (len(item[1]), item[0]), default=(0, {}))[1]


def in_pairs(one: Iterable[R], other: Iterable[R]) -> tuple[dict[int, R], dict[int, R]]:
    """Runs of two arms with the same seeds and by one version, the one that has most such pairs, of equals the newest.

    Empty where there are none.
    """
    mine, theirs = _by_version(one), _by_version(other)
    seeds = {version: mine[version].keys() & theirs[version].keys() for version in mine.keys() & theirs.keys()}
    version, both = max(seeds.items(), key=lambda item: (len(item[1]), item[0]), default=(0, set()))
    first, second = ({seed: each[version][seed] for seed in sorted(both)} for each in (mine, theirs))
    return first, second


def _by_version(runs: Iterable[R]) -> dict[int, dict[int, R]]:
    """By the code's version, then by seed in order."""
    found: dict[int, dict[int, R]] = {}
    for run in sorted(runs, key=lambda run: int(run["seed"])):
        found.setdefault(run["version"], {})[run["seed"]] = run
    return found


def over_seeds(of_seed: Mapping[int, Mapping[str, Any]], seeds: Sequence[int], condition: str) -> Scores:
    """Mean over the seeds, redrawn with the patients, in [0, 1] (N,); row 0 is all of them."""
    auroc_RN = np.array([of_seed[seed]["auroc_times_10000"][condition] for seed in seeds]) / 10_000
    share_NR = redrawn(len(seeds), np.random.default_rng(1), num=NUM_SAMPLES) / len(seeds)
    samples: npt.NDArray[np.float64] = np.einsum("nr,rn->n", share_NR, auroc_RN)
    return samples


def seeds_told(count: int) -> str:
    """Their number in words: 1 seed, 2 seeds."""
    return f"{count} seed{'' if count == 1 else 's'}"


def told(samples: Scores) -> str:
    """The value with its 95 % interval."""
    return f"{samples[0]:.4f} ({low(samples[1:]):.4f}, {high(samples[1:]):.4f})"
