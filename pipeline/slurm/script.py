"""The batch script of a job: what it asks the cluster for, and what becomes of a try that ends early."""

from __future__ import annotations

import math
import shlex
import sys
from pathlib import Path

from components.cxr.config import Config
from pipeline.config import PipelineConfig
from pipeline.slurm.plan import Job
from pipeline.slurm.prepare import COMMAND, SKIPPED

__all__ = ["DONE", "batch_script", "log_of"]

SOURCE = Path(__file__).resolve().parents[2]
RESUMED = ("preprocess", "train", "study", "workers")
"""Jobs that go on where they were stopped; the others begin again, for which another limit is no help."""
DONE = "done"
"""In a job's folder once it has succeeded."""
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}

END = """
while kill -0 "$step" 2>/dev/null; do wait "$step"; done # a signal interrupts the wait
wait "$step"; code=$?
[ "$code" = 0 ] && { touch "$folder/DONE"; exit 0; }
job=$SLURM_JOB_ID # of the last element that of its whole array
[ -z "${SLURM_ARRAY_TASK_ID:-}" ] || job="${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
again() {
  # A job that was canceled is no longer running, and is not brought back.
  [ "$(squeue -h -j "$job" -o %T)" = RUNNING ] || exit "$code"
  echo "slurm: $1; queued again"
  scontrol requeue "$job"
  exit "$code"
}
if [ "$code" = 143 ]; then
  [ "${SLURM_RESTART_COUNT:-0}" -ge MAX_REQUEUES ] || again "stopped ${asked:-to give way}"
elif [ "$code" != 2 ]; then # 2: a mistake of the user, which no further try mends
  echo "$code on ${SLURM_JOB_NODELIST:-?}" >>"$folder/failed"
  [ "$(wc -l <"$folder/failed")" -gt RETRIES ] || again "ended with code $code"
fi
exit "$code"
"""


def log_of(run: Path, job: Job, element: int | None = None) -> Path:
    """Where a job's output goes, of all its tries."""
    return run / (f"{job.name}.log" if element is None else f"{job.name}-{element}.log")


def batch_script(config: PipelineConfig, job: Job, run: Path) -> str:
    """What `sbatch` gets; a training of several nodes is started on each of them by srun.

    A sweep's job finds its command in its folder, a task of the pipeline writes it from what those before it left.

    Args:
        run: the run's folder, which all nodes see.
    """
    platform, slurm = config.platform, config.platform.slurm
    nodes = config.arguments["train"]["num_nodes"] if job.name == "train" else 1
    lines = [
        f"#!/bin/bash{' -l' if slurm.modules else ''}",
        *(f"#SBATCH {option}" for option in _options(config, job, run)),
    ]
    # srun takes SIGTERM for an order to kill, so that of several nodes goes to the step itself.
    stop, start = 'kill -TERM "$step"', "bash"
    if nodes > 1:
        cpu = platform.step(job.step).cpu
        cores = f"--cpus-per-task={_cores(cpu)} " if cpu else ""  # which srun does not take over from sbatch
        stop, start = (
            'scancel --signal=TERM "$SLURM_JOB_ID"',
            f"srun --nodes={nodes} --ntasks-per-node=1 {cores}--wait=60 bash",
        )
    lines += [
        "asked= step=",
        f"stop() {{ asked='before the time limit'; [ -z \"$step\" ] || {stop}; }}",
        "trap stop USR1",
    ]
    # Slurm ends a job by SIGTERM to all of its processes; what is left when this script ends, it kills.
    lines += ["trap : TERM"]
    lines += [f"module load {shlex.quote(name)} || exit" for name in slurm.modules]
    element = "" if job.copies is None else "-$SLURM_ARRAY_TASK_ID"
    lines += [f"folder={shlex.quote(str(run / job.name))}{element}"]
    exports = {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_WAIT_POLICY": "PASSIVE", **platform.env}
    if job.name == "train":
        exports["OMP_NUM_THREADS"] = str(config.arguments["train"]["num_threads"])
    lines += [f"export {name}={shlex.quote(value)}" for name, value in exports.items()]
    lines += [f'export PYTHONPATH={shlex.quote(str(SOURCE))}"${{PYTHONPATH:+:$PYTHONPATH}}"']
    lines += ['echo "slurm: try $((${SLURM_RESTART_COUNT:-0} + 1)) of job $SLURM_JOB_ID on $SLURM_JOB_NODELIST"']
    if job.path:
        python = shlex.quote(sys.executable)
        lines += [f"{python} -m pipeline.slurm.prepare {shlex.quote(str(run))} {job.name} || exit"]
        lines += [f'[ ! -e "$folder/{SKIPPED}" ] || exit 0', ""]
    lines += [f'{start} "$folder/{COMMAND}" &', "step=$!", '[ -z "$asked" ] || stop']
    end = (
        END.replace("DONE", DONE)
        .replace("MAX_REQUEUES", str(slurm.max_requeues))
        .replace("RETRIES", str(platform.retries.count))
    )
    return "\n".join(lines) + end


def _options(config: PipelineConfig, job: Job, run: Path) -> list[str]:
    platform = config.platform
    wanted, resources = platform.slurm.job(job.step), platform.step(job.step)
    log = log_of(run, job) if job.copies is None else run / f"{job.name}-%a.log"
    options = [f"--job-name=cxrflow-{job.name}", f"--output={shlex.quote(str(log))}"]
    options += ["--open-mode=append", "--requeue"]
    if job.copies is not None:
        options.append(f"--array=0-{job.copies - 1}")
    nodes = config.arguments["train"]["num_nodes"] if job.name == "train" else 1
    options += [f"--nodes={nodes}", "--ntasks-per-node=1"]
    options += [f"--{name}={value}" for name, value in _given(wanted)]
    if job.name in RESUMED:
        options.append(f"--signal=B:USR1@{platform.slurm.stop_before_s}")
    if resources.cpu:
        options.append(f"--cpus-per-task={_cores(resources.cpu)}")
    if resources.memory:
        options.append(f"--mem={_mebibytes(resources.memory)}M")
    if resources.gpus:
        kind = f"{resources.gpu_type}:" if resources.gpu_type else ""
        options.append(f"--gres=gpu:{kind}{resources.gpus}")
    return [*options, *platform.slurm.options]


def _given(wanted: Config) -> list[tuple[str, str]]:
    return list(wanted.model_dump(exclude_none=True).items())


def _cores(cpu: str) -> int:
    """Kubernetes' 500m or 4 as whole cores."""
    return max(1, math.ceil(float(cpu[:-1]) / 1000 if cpu.endswith("m") else float(cpu)))


def _mebibytes(memory: str) -> int:
    """Kubernetes' 16Gi or 16G as MiB, Slurm's M."""
    number, binary = memory.rstrip("KMGTPEi"), memory.endswith("i")
    unit = memory[len(number) :].rstrip("i")
    factor = 1024 ** list(UNITS).index(unit) if binary else UNITS[unit]
    return max(1, math.ceil(int(number) * factor / 1024**2))
