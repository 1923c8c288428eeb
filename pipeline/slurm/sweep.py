"""A sweep on a Slurm cluster: a job that makes data set and study, then an array that trains what is missing."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import yaml

from components.cxr.cli import load_config
from components.cxr.errors import UserError
from components.cxr.storage.storage import Root
from pipeline.config import PipelineConfig
from pipeline.slurm.plan import Job
from pipeline.slurm.prepare import COMMAND
from pipeline.slurm.run import follow_or_cancel, new_folder, queue
from pipeline.slurm.script import batch_script
from pipeline.sweep.space import ENSEMBLE, load_space
from pipeline.sweep.study import STORAGE_VARIABLE, check_storage
from pipeline.sweep.sweep import Wanted, sweep

__all__ = ["sweep_on_slurm"]

CONFIG, SPACE = "config.yaml", "space.yaml"
ENDED = re.compile(r"^sweep: trial \d+(?:  \d| ended early)", re.MULTILINE)
"""Of a log: a trial that counts."""


def sweep_on_slurm(pipeline: PipelineConfig, wanted: Wanted, *, wait: bool) -> Path | None:
    """Queue a sweep, follow it to its end and print the best, as `sweep` does on one machine.

    Args:
        wanted: its workers are elements of the array, each with one training at a time.
        wait: without it nothing is followed.

    Returns:
        As sweep; None without `wait`.

    Raises:
        UserError: as sweep, no Slurm, a job that it refuses, or one that failed; nothing is left in the queue then.
    """
    train = pipeline.arguments["train"]
    load_space(wanted.space_file, train | {ENSEMBLE: 1})
    if train["num_nodes"] > 1:
        raise UserError(
            "trial-of-several-nodes", "a trial trains on one node", where="train.num_nodes", found=train["num_nodes"],
            remedy="Add --set train.num_nodes=1; --workers says on how many nodes trials are trained at a time.",
        )  # fmt: skip
    check_storage(Root(pipeline.root), wanted.storage)
    if wanted.storage is not None:
        os.environ[STORAGE_VARIABLE] = wanted.storage  # which sbatch hands on; a command line is for all to see
    jobs = [Job("study", (), (), None)]
    if wanted.workers:
        jobs.append(Job("workers", (), ("study",), min(wanted.workers, wanted.trials)))
    with new_folder(pipeline) as run:
        (run / CONFIG).write_text(yaml.safe_dump(load_config(wanted.config_file, wanted.overrides), sort_keys=False))
        shutil.copyfile(wanted.space_file, run / SPACE)
        for job in jobs:
            command = _command(pipeline, run, job, wanted)
            for folder in job.folders(run):
                folder.mkdir()
                (folder / COMMAND).write_text(command)
        ids = queue(jobs, run, {job.name: batch_script(pipeline, job, run) for job in jobs})
    if not wait:
        return None
    follow_or_cancel(jobs, run, ids, more=lambda: _ended(run))
    return sweep(pipeline, wanted._replace(config_file=run / CONFIG, overrides=[], space_file=run / SPACE, workers=0))


def _command(pipeline: PipelineConfig, run: Path, job: Job, wanted: Wanted) -> str:
    """What a job's script runs by bash: the sweep of one machine, on what the run's folder keeps of its files."""
    slurm = pipeline.platform.slurm
    python = shlex.quote(sys.executable) if slurm.container is None else f"{slurm.container_of(job.step)} python"
    words = ["-m", "pipeline", "sweep", "--config", str(run / CONFIG), "--space", str(run / SPACE)]
    words += ["--trials", str(wanted.trials), "--workers", str(int(job.name == "workers"))]
    words += [] if wanted.prune else ["--no-prune"]
    return f"exec {python} {shlex.join(words)}\n"


def _ended(run: Path) -> str:
    """How many trials of this run have ended, as its logs say."""
    number = sum(len(ENDED.findall(log.read_text(errors="replace"))) for log in run.glob("workers-*.log"))
    return f", {number} trial{'s' * (number > 1)} ended" if number else ""
