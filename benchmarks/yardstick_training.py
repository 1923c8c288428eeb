"""One training on the yardstick's studies through the real steps, from Parquet shards to the bundle's answers, kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.checkpoints import located
from benchmarks.kept_runs import add_run, made_here, read_runs, run_key, sampled
from benchmarks.yardstick_studies import VISION, truth_by_study
from components.cxr.bundle import load_bundle
from components.cxr.model.dataset import StudyDataset
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.evaluate.config import EvaluateConfig
from components.evaluate.predict import Job, run_model
from components.train.config import TrainConfig
from components.train.key import VERSION
from components.train.labeled import labels_kept
from components.train.train import train
from pipeline.synthetic.studies import Study

__all__ = ["CONDITIONS", "base_values", "keep_training", "labeled_studies"]

CONDITIONS: tuple[Literal["all", "image"], ...] = ("all", "image")


def base_values(seed: int) -> dict[str, Any]:
    """What all arms share: labels of 10 % of the patients, redrawn by the seed with weights and order; one thread.

    Without an expert of patches, which is an arm of its own.
    """
    return {
        "architecture": {"vision": {"model_type": "resnet", "config": VISION}, "patches": "none"},
        "labeled_fraction": 0.1, "labeled_seed": seed, "seed": 100 * seed, "num_threads": 1,
    }  # fmt: skip


def keep_training(
    values: Mapping[str, Any],
    *,
    told: Mapping[str, Any],
    loaded: LoadedManifest,
    studies: list[Study],
    root: Path,
    kept: Path,
) -> None:
    """Train, score the test patients against the truth, and keep the run; nothing where it is kept already.

    Args:
        values: section `train` of a configuration.
        told: what else the run's entry says, such as arm and seed.
        kept: the file of runs.
    """
    key = run_key(f"train {VERSION}", values, loaded)
    if key in read_runs(kept):
        return
    config = TrainConfig.parse(located(values, root=root), where="train")
    started, used = time.monotonic(), time.process_time()
    bundle = load_bundle(train(config, loaded=loaded, root=Root(root)))
    minutes, cpu_minutes = (time.monotonic() - started) / 60, (time.process_time() - used) / 60
    test = StudyDataset(loaded, splits=["test"], text=config.text)
    jobs = [Job(test, condition) for condition in CONDITIONS]
    answers = run_model(bundle, jobs, config=EvaluateConfig(batch_size=64))
    truth_SP = truth_by_study(test, studies)
    auroc = {
        condition: sampled(answer.score_SP.astype(np.float64), truth_SP, test.patient_ids)
        for condition, answer in zip(CONDITIONS, answers, strict=True)
    }
    run = {
        **told, "version": VERSION, "labeled_studies": labeled_studies(config, loaded),
        "test_studies": len(test), "test_patients": len(set(test.patient_ids)),
        "minutes": round(minutes, 1), "cpu_minutes": round(cpu_minutes, 1),
        **made_here(),
        "auroc_times_10000": auroc,
    }  # fmt: skip
    add_run(kept, key, run)
    shown = ", ".join(f"{condition} {samples[0] / 10_000:.4f}" for condition, samples in auroc.items())
    print(f"learning: {', '.join(str(each) for each in told.values())}: {shown}", flush=True)


def labeled_studies(config: TrainConfig, loaded: LoadedManifest) -> int:
    """How many training studies keep their labels."""
    data = StudyDataset(loaded, splits=["train"], text=config.text)
    kept_S = labels_kept(data.patient_ids, fraction=config.labeled_fraction, seed=config.labeled_seed)
    return int((data.labeled_S & kept_S).sum())
