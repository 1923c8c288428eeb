"""The pipeline on a Slurm cluster: one job a task, each waiting for those before it, and who follows them."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from components.cxr.errors import UserError
from components.cxr.storage.storage import Root, Storage, open_storage
from pipeline.config import PipelineConfig
from pipeline.slurm.commands import cancel, submit, uninterrupted
from pipeline.slurm.follow import follow
from pipeline.slurm.plan import PIPELINE, Job, Plan, load_plan
from pipeline.slurm.prepare import PLATFORM
from pipeline.slurm.script import batch_script

__all__ = ["follow_or_cancel", "new_folder", "queue", "run_on_slurm"]

JOBS = "jobs.json"
"""Ids of a run's jobs by name."""


def run_on_slurm(config: PipelineConfig, *, wait: bool) -> Storage | None:
    """Queue every task and return the evaluation's folder, once all are done; without `wait` None at once.

    Ctrl-C cancels the jobs. Scripts, logs and the tasks' pointers stay in a folder of the run.

    Raises:
        UserError: no Slurm, a job that it refuses, or one that failed; nothing of the run is left in the queue then.
    """
    with new_folder(config) as run:
        plan = _compiled(config, run)
        ids = queue(plan.jobs, run, {job.name: batch_script(config, job, run) for job in plan.jobs})
    if not wait:
        return None
    follow_or_cancel(plan.jobs, run, ids)
    return open_storage(json.loads((run / "evaluate" / "evaluation").read_text())["uri"])


def queue(jobs: Sequence[Job], run: Path, scripts: Mapping[str, str]) -> dict[str, str]:
    """Queue jobs, each after those that it waits for, and return their ids by name; none of them if one is refused.

    Args:
        run: the run's folder, which keeps the scripts and the ids.
        scripts: by a job's name what sbatch gets.
    """
    ids: dict[str, str] = {}
    try:
        for job in jobs:
            script = run / f"{job.name}.sh"
            script.write_text(scripts[job.name])
            with uninterrupted():
                ids[job.name] = submit(script, after=[ids[name] for name in job.after])
        (run / JOBS).write_text(json.dumps(ids, indent=2) + "\n")
    except BaseException:
        cancel(ids.values())
        raise
    print(f"slurm: queued {', '.join(f'{name} {id}' for name, id in ids.items())}; logs in {run}", flush=True)
    return ids


def follow_or_cancel(
    jobs: Sequence[Job], run: Path, ids: Mapping[str, str], *, more: Callable[[], str] = lambda: ""
) -> None:
    """Return once all jobs have succeeded; whatever else happens ends those that are left.

    Args:
        more: as follow's.

    Raises:
        UserError: as follow.
    """
    try:
        follow(jobs, run, ids, more=more)
    except BaseException as error:
        cancel(ids.values())
        if isinstance(error, KeyboardInterrupt):
            print(f"slurm: canceled the jobs {', '.join(ids.values())}", file=sys.stderr, flush=True)
        raise


def _compiled(config: PipelineConfig, run: Path) -> Plan:
    from pipeline.compile import compile_pipeline

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kfp's own
        compile_pipeline(config, run / PIPELINE)
        (run / PLATFORM).write_text(config.platform.model_dump_json(indent=2) + "\n")
        return load_plan(run)


@contextlib.contextmanager
def new_folder(config: PipelineConfig) -> Iterator[Path]:
    """A new folder for a run, named by the second it begins; gone again where the block fails.

    Raises:
        UserError: no folder that nodes could share, or one that cannot be made.
    """
    run = _made(config)
    try:
        yield run
    except BaseException:
        shutil.rmtree(run, ignore_errors=True)
        with contextlib.suppress(OSError):  # other runs are in it
            run.parent.rmdir()
        raise


def _made(config: PipelineConfig) -> Path:
    root = Root(config.root).storage.local_path("slurm")
    where = Path(config.platform.slurm.folder).expanduser().absolute() if config.platform.slurm.folder else root
    if where is None:
        raise UserError(
            "no-slurm-folder",
            "no place for scripts and logs",
            where="platform.slurm.folder",
            expected="a folder that all nodes share, as the root is a bucket",
        )
    while True:
        run = where / f"cxrflow-{datetime.now(UTC):%Y%m%d%H%M%S}"
        try:
            run.mkdir(parents=True)
        except FileExistsError:
            time.sleep(0.2)
            continue
        except OSError as error:
            raise UserError("no-slurm-folder", "cannot make a folder", where=where, found=error.strerror) from None
        return run
