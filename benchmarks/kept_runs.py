"""Runs of a long benchmark, kept in one small file that is committed: a proof grows over several days and machines.

A run is kept with its mean AUROC over all test patients and over `NUM_SAMPLES` resamples of them, the same for every
run: differences are paired by patient, and intervals are over patients and seeds together.

Shape letters: S studies, P pathologies, N samples, R seeds.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.resampled import Scores, high, low, mean_auroc, redrawn
from components.cxr.config import content_hash
from components.cxr.shards import LoadedManifest

__all__ = ["NUM_SAMPLES", "add_run", "over_seeds", "read_runs", "run_key", "sampled", "told"]

NUM_SAMPLES = 200


def run_key(code: str, values: Mapping[str, Any], *data: LoadedManifest) -> str:
    """16 hex digits over what decides a run: the code's version, the configuration and the bytes of the shards.

    Where the data lie and where they came from does not count, so that a run is found again on another machine.
    """
    shards = (shard.sha256 for loaded in data for shard in loaded.manifest.shards)
    return content_hash(code, json.dumps(values, sort_keys=True), *shards)


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


def over_seeds(of_seed: Mapping[int, Mapping[str, Any]], seeds: Sequence[int], condition: str) -> Scores:
    """Mean over the seeds, redrawn with the patients, in [0, 1] (N,); row 0 is all of them."""
    auroc_RN = np.array([of_seed[seed]["auroc_times_10000"][condition] for seed in seeds]) / 10_000
    share_NR = redrawn(len(seeds), np.random.default_rng(1), num=NUM_SAMPLES) / len(seeds)
    samples: npt.NDArray[np.float64] = np.einsum("nr,rn->n", share_NR, auroc_RN)
    return samples


def told(samples: Scores) -> str:
    """The value with its 95 % interval."""
    return f"{samples[0]:.4f} ({low(samples[1:]):.4f}, {high(samples[1:]):.4f})"
