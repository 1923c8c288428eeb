"""`python -m benchmarks.learning`: what studies without labels, and their reports, teach where labels are few.

Trainings are the pipeline's own, from Parquet shards to the bundle's answers. Every run is kept in
benchmarks/results/learning.json by a hash of what was trained, so that a long proof grows over several days and
machines; what is there is not trained again. `--report` prints the tables and the JSON line from that file alone.

A run's file entry has its mean AUROC over all test patients and over 200 resamples of them, the same for every run:
differences are paired by patient, and intervals are over patients and seeds together.

Shape letters: S studies, N samples, R seeds.
"""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import typer

from benchmarks.resampled import Scores, high, low, mean_auroc, redrawn
from benchmarks.yardstick_studies import DATA_SEED, FULL, QUICK, VISION, draw_studies, truth_by_study
from components.cxr.bundle import load_bundle
from components.cxr.cli import run_cli
from components.cxr.config import content_hash
from components.cxr.model.dataset import StudyDataset
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.evaluate.config import EvaluateConfig
from components.evaluate.predict import Job, run_model
from components.train.build import git_revision
from components.train.config import TrainConfig
from components.train.labeled import labels_kept
from components.train.train import VERSION, train
from pipeline.synthetic.studies import Study

RESULTS = Path(__file__).parent / "results" / "learning.json"
NUM_SAMPLES = 200
CONDITIONS: tuple[Literal["all", "image"], ...] = ("all", "image")
ARMS: dict[str, dict[str, Any]] = {
    "none": {"epochs": 25, "semi_supervised": {"method": "none"}},
    "none, equal time": {"epochs": 200, "semi_supervised": {"method": "none"}},
    "mean teacher": {"epochs": 8, "semi_supervised": {"method": "mean-teacher"}},
    "self-training": {"epochs": 8, "semi_supervised": {"method": "self-training", "weight": 2.0}},
    "report labels": {"epochs": 12, "semi_supervised": {"method": "none"}, "report_labels": True},
    "oracle": {"epochs": 12, "semi_supervised": {"method": "none"}, "labeled_fraction": 1.0},
}
"""What each arm changes of the shared configuration; epochs were chosen on other patients."""
METHODS = ("mean teacher", "self-training")


def main(
    root: Annotated[Path, typer.Option(help="Where data and bundles are kept.")] = Path("runs/learning"),
    arm: Annotated[list[str] | None, typer.Option(help=f"Any of {', '.join(ARMS)}; all by default.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each arm, each with other labeled patients.")] = 8,
    preset: Annotated[Literal["medium", "hard"], typer.Option(help="Of the yardstick: medium or hard.")] = "medium",
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the studies, one seed: does it run?")] = False,
    report: Annotated[bool, typer.Option("--report", help="Train nothing; print what is kept.")] = False,
) -> None:
    """Train what is missing, then print the tables and the JSON line."""
    torch.set_num_threads(1)
    kept = RESULTS if not quick else root / "quick" / "learning.json"
    if not report:
        place = root / ("quick" if quick else "full")
        loaded, studies = draw_studies(place, seed=DATA_SEED, sizes=QUICK if quick else FULL, preset=preset)
        for seed in range(1 if quick else seeds):
            for name in arm or ARMS:
                _run(name, seed, preset=preset, place=place, loaded=loaded, studies=studies, kept=kept, quick=quick)
    runs = _read(kept)
    print(json.dumps(_table([run for run in runs.values() if run["preset"] == preset])))


def _run(
    name: str,
    seed: int,
    *,
    preset: str,
    place: Path,
    loaded: LoadedManifest,
    studies: list[Study],
    kept: Path,
    quick: bool,
) -> None:
    values = _values(name, seed, quick=quick)
    key = content_hash(f"train {VERSION}", json.dumps(values, sort_keys=True), loaded.hash)
    if key in _read(kept):
        return
    config = TrainConfig.parse(values, where="train")
    started, used = time.monotonic(), time.process_time()
    bundle = load_bundle(train(config, loaded=loaded, root=Root(place)))
    test = StudyDataset(loaded, splits=["test"], text=config.text)
    jobs = [Job(test, condition) for condition in CONDITIONS]
    answers = run_model(bundle, jobs, config=EvaluateConfig(batch_size=64))
    truth_SP, (_, which_S) = truth_by_study(test, studies), np.unique(test.patient_ids, return_inverse=True)
    weight_NS = redrawn(which_S.max() + 1, np.random.default_rng(0), num=NUM_SAMPLES)[:, which_S]
    samples = {
        condition: mean_auroc(answer.score_SP.astype(np.float64), truth_SP, weight_NS)
        for condition, answer in zip(CONDITIONS, answers, strict=True)
    }
    run = {
        "arm": name, "seed": seed, "preset": preset, "labeled_studies": int(_labeled(config, loaded)),
        "test_studies": len(test), "test_patients": int(which_S.max() + 1),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "cpu_minutes": round((time.process_time() - used) / 60, 1),
        "revision": git_revision(), "machine": f"{platform.machine()}, torch {torch.__version__.split('+')[0]}",
        "auroc_times_10000": {name: [round(10_000 * value) for value in values] for name, values in samples.items()},
    }  # fmt: skip
    runs = _read(kept) | {key: run}  # read again: another process may have added its own
    kept.parent.mkdir(parents=True, exist_ok=True)
    lines = [f" {json.dumps(each)}: {json.dumps(runs[each])}" for each in sorted(runs)]
    kept.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"learning: {name}, seed {seed}: " + ", ".join(f"{c} {samples[c][0]:.4f}" for c in CONDITIONS), flush=True)


def _values(name: str, seed: int, *, quick: bool) -> dict[str, Any]:
    """Labels of 10 % of the patients, redrawn by the seed with initial weights and order; one thread."""
    values: dict[str, Any] = {
        "architecture": {"vision": {"model_type": "resnet", "config": VISION}},
        "labeled_fraction": 0.1, "labeled_seed": seed, "seed": 100 * seed, "num_threads": 1,
    }  # fmt: skip
    values |= ARMS[name]
    if quick:
        values |= {"epochs": 2, "batch_size": 16}
        values["semi_supervised"] = {**values["semi_supervised"], "num_teachers": 2, "teacher_epochs": 2}
    return values


def _labeled(config: TrainConfig, loaded: LoadedManifest) -> int:
    data = StudyDataset(loaded, splits=["train"], text=config.text)
    kept_S = labels_kept(data.patient_ids, fraction=config.labeled_fraction, seed=config.labeled_seed)
    return int((data.labeled_S & kept_S).sum())


def _read(kept: Path) -> dict[str, dict[str, Any]]:
    return dict(json.loads(kept.read_text())) if kept.exists() else {}


def _table(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Print every arm, and return the JSON's numbers."""
    summary: dict[str, Any] = {}
    by_arm = {name: {run["seed"]: run for run in runs if run["arm"] == name} for name in ARMS}
    print(f"{'mean AUROC of 14 against the truth (95 % interval)':24}")
    print(f"{'':20}{'seeds':>7}{'CPU min':>9}{'all inputs':>26}{'films alone':>26}")
    for name, of_seed in by_arm.items():
        if of_seed:
            minutes = float(np.median([run["cpu_minutes"] for run in of_seed.values()]))
            cells = [_told(_samples(of_seed, list(of_seed), condition)) for condition in CONDITIONS]
            print(f"{name:20}{len(of_seed):>7}{minutes:>9.1f}" + "".join(f"{cell:>26}" for cell in cells))

    def gain(one: str, other: str, condition: str = "all") -> tuple[Scores, int] | None:
        both = sorted(by_arm[one].keys() & by_arm[other].keys())
        if not both:
            return None
        difference = _samples(by_arm[one], both, condition) - _samples(by_arm[other], both, condition)
        return difference, len(both)

    print(f"\n{'less none, the same seeds':20}{'':16}{'all inputs':>26}{'films alone':>26}")
    for name in ARMS:
        gains = [found for condition in CONDITIONS if (found := gain(name, "none", condition)) is not None]
        if name != "none" and gains:
            print(f"{name:20}{gains[0][1]:>7}{'':9}" + "".join(f"{_told(samples):>26}" for samples, _ in gains))
    means = {name: gain(name, "none") for name in METHODS}
    ready = {name: each for name, each in means.items() if each is not None}
    if ready:
        best = max(ready, key=lambda name: float(ready[name][0][0]))
        summary |= {"ssl_method": best, "ssl_gain": ready[best][0][0], "ssl_gain_low": low(ready[best][0][1:])}
        summary |= {"ssl_seeds": ready[best][1]}
    report, oracle = gain("report labels", "none"), gain("oracle", "none")
    if report is not None and oracle is not None:
        summary["report_gap_closed"] = report[0][0] / oracle[0][0]
        summary["report_gap_closed_low"] = low(report[0][1:] / oracle[0][1:])
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in summary.items()}


def _samples(of_seed: dict[int, dict[str, Any]], seeds: list[int], condition: str) -> Scores:
    """Mean over the seeds, redrawn with the patients, in [0, 1] (N,); row 0 is all of them."""
    auroc_RN = np.array([of_seed[seed]["auroc_times_10000"][condition] for seed in seeds]) / 10_000
    share_NR = redrawn(len(seeds), np.random.default_rng(1), num=NUM_SAMPLES) / len(seeds)
    samples: npt.NDArray[np.float64] = np.einsum("nr,rn->n", share_NR, auroc_RN)
    return samples


def _told(samples: Scores) -> str:
    return f"{samples[0]:.4f} ({low(samples[1:]):.4f}, {high(samples[1:]):.4f})"


if __name__ == "__main__":
    run_cli(main)
