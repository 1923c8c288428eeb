"""The pipeline on a Slurm cluster: one job a task, each waiting for those before it, and who follows them."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path

from components.cxr.errors import UserError
from components.cxr.storage.storage import Root, Storage, open_storage
from pipeline.config import PipelineConfig
from pipeline.slurm.commands import cancel, submit, uninterrupted
from pipeline.slurm.follow import follow
from pipeline.slurm.plan import PIPELINE, Plan, load_plan
from pipeline.slurm.prepare import PLATFORM
from pipeline.slurm.script import batch_script

__all__ = ["run_on_slurm"]

JOBS = "jobs.json"
"""Ids of a run's jobs by name."""


def run_on_slurm(config: PipelineConfig, *, wait: bool) -> Storage | None:
    """Queue every task and return the evaluation's folder, once all are done; without `wait` None at once.

    Ctrl-C cancels the jobs. Scripts, logs and the tasks' pointers stay in a folder of the run.

    Raises:
        UserError: no Slurm, a job that it refuses, or one that failed; nothing of the run is left in the queue then.
    """
    run = _folder(config)
    ids: dict[str, str] = {}
    try:
        plan = _compiled(config, run)
        for job in plan.jobs:
            script = run / f"{job.name}.sh"
            script.write_text(batch_script(config, job, run))
            with uninterrupted():
                ids[job.name] = submit(script, after=[ids[name] for name in job.after])
        (run / JOBS).write_text(json.dumps(ids, indent=2) + "\n")
    except BaseException:
        cancel(ids.values())
        shutil.rmtree(run, ignore_errors=True)
        with contextlib.suppress(OSError):  # other runs are in it
            run.parent.rmdir()
        raise
    print(f"slurm: queued {', '.join(f'{name} {id}' for name, id in ids.items())}; logs in {run}", flush=True)
    if not wait:
        return None
    try:
        follow(plan, run, ids)
    except BaseException as error:
        cancel(ids.values())
        if isinstance(error, KeyboardInterrupt):
            print(f"slurm: canceled the jobs {', '.join(ids.values())}", file=sys.stderr, flush=True)
        raise
    return open_storage(json.loads((run / "evaluate" / "evaluation").read_text())["uri"])


def _compiled(config: PipelineConfig, run: Path) -> Plan:
    from pipeline.compile import compile_pipeline

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kfp's own
        compile_pipeline(config, run / PIPELINE)
        (run / PLATFORM).write_text(config.platform.model_dump_json(indent=2) + "\n")
        return load_plan(run)


def _folder(config: PipelineConfig) -> Path:
    """A new folder for the run, named by the second it begins."""
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
