"""The jobs that the compiled pipeline becomes, what each is given, and its batch script; no cluster is needed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.cxr.errors import UserError
from pipeline.compile import compile_pipeline
from pipeline.config import CONFIGS, PipelineConfig, load_pipeline_config
from pipeline.slurm.plan import PIPELINE, Job, load_plan
from pipeline.slurm.prepare import COMMAND, INPUT, PLATFORM, SKIPPED, prepare
from pipeline.slurm.run import run_on_slurm
from pipeline.slurm.script import batch_script

Run = Callable[..., tuple[PipelineConfig, Path]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`run("train.num_nodes=2")`: the demo's configuration, and a run's folder in which nothing has begun."""

    def made(*overrides: str) -> tuple[PipelineConfig, Path]:
        config = load_pipeline_config(CONFIGS / "demo.yaml", ["platform.partitions=3", *overrides])
        compile_pipeline(config, tmp_path / PIPELINE)
        (tmp_path / PLATFORM).write_text(config.platform.model_dump_json())
        return config, tmp_path

    return made


def leave(folder: Path, **values: Any) -> None:
    """What a task leaves: values, and for each of its artifacts a file beside its input."""
    given = json.loads((folder / INPUT).read_text())
    artifacts = given["outputs"].get("artifacts", {})
    left = {"parameterValues": values, "artifacts": artifacts}
    Path(given["outputs"]["outputFile"]).write_text(json.dumps(left))


def inputs(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The values that a task is given, and where the artifacts are."""
    given = json.loads((folder / INPUT).read_text())["inputs"]
    return given["parameterValues"], {
        name: found["artifacts"][0]["uri"] for name, found in given.get("artifacts", {}).items()
    }


def prepare_all(folder: Path, *, promoted: bool) -> None:
    """Go through the pipeline as its jobs do, without the steps' own work."""
    for element in range(3):
        prepare(folder, "preprocess", element=element)
        leave(folder / f"preprocess-{element}", Output=element)
    for name in ("collect", "train"):
        prepare(folder, name)
        leave(folder / name)
    prepare(folder, "evaluate")
    leave(folder / "evaluate", Output=promoted)
    prepare(folder, "deploy")


def test_a_loop_is_an_array_and_what_follows_waits_for_all_of_it(run: Run) -> None:
    _, folder = run()
    jobs = {job.name: job for job in load_plan(folder).jobs}
    assert list(jobs) == ["preprocess", "collect", "train", "evaluate", "deploy"]
    assert {name: job.copies for name, job in jobs.items() if job.copies is not None} == {"preprocess": 3}
    assert {name: set(job.after) for name, job in jobs.items()} == {
        "preprocess": set(),
        "collect": {"preprocess"},
        "train": {"collect"},
        "evaluate": {"collect", "train"},
        "deploy": {"collect", "train", "evaluate"},
    }


@pytest.mark.filterwarnings("ignore")  # kfp's own
def test_each_job_gets_its_own_section_and_the_results_before_it(run: Run) -> None:
    config, folder = run()
    prepare_all(folder, promoted=True)
    for element in range(3):
        values, _ = inputs(folder / f"preprocess-{element}")
        assert values["partition"] == element
        assert values["num_partitions"] == 3
        assert values["data"] == config.arguments["data"]
    assert inputs(folder / "collect")[0]["partitions"] == [0, 1, 2]
    for name, section in (("collect", "preprocess"), ("train", "train"), ("evaluate", "evaluate"), ("deploy", "serve")):
        assert inputs(folder / name)[0]["config"] == config.arguments[section]
        assert inputs(folder / name)[0]["root"] == config.root
    assert f'"pipeline_run": "{folder.name}"' in (folder / "train" / COMMAND).read_text()
    assert inputs(folder / "deploy")[1] == {
        "manifest": str(folder / "collect" / "manifest"),
        "bundle": str(folder / "train" / "bundle"),
        "evaluation": str(folder / "evaluate" / "evaluation"),
    }
    assert (folder / "deploy" / COMMAND).exists()
    assert not (folder / "deploy" / SKIPPED).exists()


@pytest.mark.filterwarnings("ignore")  # kfp's own
def test_a_model_that_is_not_promoted_is_not_deployed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    _, folder = run()
    prepare_all(folder, promoted=False)
    assert (folder / "deploy" / SKIPPED).exists()
    assert not (folder / "deploy" / COMMAND).exists()
    assert "nothing to do for deploy" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")  # kfp's own
def test_nodes_of_a_training_meet_at_the_first_and_containers_are_asked_for_by_step(run: Run) -> None:
    _, folder = run(
        "train.num_nodes=4", "train.num_processes=2", "platform.slurm.container='run -B ${TMPDIR} {step}.sif'"
    )
    prepare_all(folder, promoted=True)
    train = (folder / "train" / COMMAND).read_text()
    assert "exec run -B ${TMPDIR} train.sif python -m components.train.torchrun --nnodes=4 --nproc-per-node=2 " in train
    assert '--node-rank="$SLURM_NODEID" --master-addr="$SLURM_LAUNCH_NODE_IPADDR" --master-port=' in train
    assert (
        "exec run -B ${TMPDIR} preprocess.sif python -m kfp.dsl.executor_main "
        in (folder / "collect" / COMMAND).read_text()
    )
    assert (
        "exec run -B ${TMPDIR} serve.sif python -m kfp.dsl.executor_main " in (folder / "deploy" / COMMAND).read_text()
    )


def test_a_script_asks_for_what_the_platform_says(run: Run) -> None:
    config, folder = run(
        "train.num_nodes=2",
        "platform.slurm={partition: cpu, account: chest, time: 60, constraint: skylake, options: [--exclusive], "
        "modules: [cuda/12.4], steps: {train: {partition: gpu, time: 1-00:00:00}}}",
        "platform.steps={train: {cpu: 7500m, memory: 64Gi, gpus: 4, gpu_type: a100}, preprocess: {memory: 2G}}",
        "platform.env={MLFLOW_TRACKING_URI: 'https://mlflow.example'}",
    )
    scripts = {job.name: batch_script(config, job, folder) for job in load_plan(folder).jobs}
    train = set(re.findall(r"^#SBATCH (.*)", scripts["train"], re.MULTILINE))
    assert train >= {
        "--partition=gpu", "--account=chest", "--time=1-00:00:00", "--constraint=skylake", "--exclusive", "--nodes=2",
        "--cpus-per-task=8", "--mem=65536M", "--gres=gpu:a100:4", "--signal=B:USR1@120", "--requeue",
        f"--output={folder}/train.log",
    }  # fmt: skip
    preprocess = set(re.findall(r"^#SBATCH (.*)", scripts["preprocess"], re.MULTILINE))
    assert preprocess >= {"--partition=cpu", "--time=60", "--array=0-2", "--mem=1908M", "--nodes=1"}
    assert f"--output={folder}/preprocess-%a.log" in preprocess
    assert "--signal" not in scripts["evaluate"], "another limit is no help to what begins anew"
    assert "srun --nodes=2 --ntasks-per-node=1 --cpus-per-task=8 " in scripts["train"]
    assert "srun" not in scripts["preprocess"]
    for script in scripts.values():
        assert script.startswith("#!/bin/bash -l\n")
        assert "\nmodule load cuda/12.4 || exit\n" in script
        assert "\nexport MLFLOW_TRACKING_URI=https://mlflow.example\n" in script
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_a_root_may_have_a_blank_in_its_name(run: Run) -> None:
    """sbatch takes what follows a blank for the next option, unless it is quoted."""
    config, folder = run()
    for job in load_plan(folder).jobs:
        script = batch_script(config, job, folder / "chest films")
        name = job.name if job.copies is None else f"{job.name}-%a"
        assert f"\n#SBATCH --output='{folder}/chest films/{name}.log'\n" in script
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_what_the_page_asks_for_can_be_asked_for(tmp_path: Path) -> None:
    text = (CONFIGS.parents[1] / "docs/slurm.md").read_text()
    blocks = [
        yaml.safe_load(block) for block in re.findall(r"^ *```yaml\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    ]
    assert {"slurm", "steps"} <= blocks[0]["platform"].keys()
    for number, block in enumerate(blocks):
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump({"root": "runs", "data": {"adapter": "dicom-folder", "dir": "films"}} | block))
        config = load_pipeline_config(file)
        for name in ("preprocess", "train"):
            batch_script(config, Job(name, (name,), (), None), tmp_path)
    train = batch_script(load_pipeline_config(tmp_path / "0.yaml"), Job("train", ("train",), (), None), tmp_path)
    assert "#SBATCH --gres=gpu:a100:4\n" in train, "as the page's comment says"


COMMANDS = {
    "squeue": 'echo "$STATE"',
    "scontrol": 'echo "$@" >>"$CALLS"',
    "scancel": 'echo "$@" >>"$CALLS"',
}
"""Slurm's part in the end of a script: how a cluster itself does this is in tests/infra/slurm."""


STOPS = "trap 'sleep 0.3; exit 143' TERM; "
ASK, GIVE_WAY, END_ALL = "kill -USR1 $PPID", "kill -TERM $$", "kill -TERM $PPID $$"
"""Before the limit; Slurm's word to a step that gives way; to all processes of a job that ends."""


@pytest.mark.parametrize(
    ("job", "step", "state", "restarts", "requeued"),
    [
        ("train", "exit 0", "RUNNING", 0, None),
        ("train", f"{STOPS}{ASK}; sleep 30 & wait", "RUNNING", 0, "7"),
        ("train", f"{STOPS}{ASK}; sleep 30 & wait", "RUNNING", 100, None),
        ("train", f"{STOPS}{ASK}; sleep 30 & wait", "COMPLETING", 0, None),
        ("train", f"trap 'exit 0' TERM; {ASK}; sleep 30 & wait", "RUNNING", 0, None),
        ("train", f"{STOPS}{GIVE_WAY}; sleep 30 & wait", "RUNNING", 3, "7"),
        ("train", f"{STOPS}{END_ALL}; sleep 30 & wait", "RUNNING", 0, "7"),
        ("train", "exit 2", "RUNNING", 0, None),
        ("train", "exit 1", "RUNNING", 0, "7"),
        ("train", "exit 1; exit 1; exit 1", "RUNNING", 2, "7"),
        ("preprocess", "exit 1", "RUNNING", 0, "7_2"),
    ],
    ids=[
        "done", "limit", "limit-too-often", "canceled", "done-in-time", "gives-way", "all-are-ended", "users-mistake",
        "failure", "second-failure", "last-element-of-an-array",
    ],
)  # fmt: skip
def test_a_script_queues_again_what_another_try_helps(
    job: str, step: str, state: str, restarts: int, requeued: str | None, run: Run, tmp_path: Path
) -> None:
    config, folder = run()
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in COMMANDS.items():
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)
    planned = load_plan(folder).job(job)
    script = batch_script(config, planned, folder)
    script = re.sub(r"^\S+ -m pipeline\.slurm\.prepare .*$", "", script, flags=re.MULTILINE)
    own = planned.folders(folder)[-1]
    own.mkdir()
    (own / COMMAND).write_text(step + "\n")
    calls = tmp_path / "calls"
    environment = {"STATE": state, "CALLS": str(calls), "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": str(restarts)}
    if planned.copies is not None:  # the last element's own id is the array's
        environment |= {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(planned.copies - 1)}
    path = {"PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=os.environ | environment | path, timeout=60, check=False)
    assert done.returncode >= 0, "the script outlives its step"
    assert (calls.read_text() if calls.exists() else "") == (f"requeue {requeued}\n" if requeued else "")
    assert (own / "failed").exists() == step.startswith("exit 1")
    assert (own / "done").exists() == (done.returncode == 0)


@pytest.mark.parametrize("root", ["here", "gs://bucket/prefix"])
def test_without_slurm_nothing_is_left(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    place = str(tmp_path / root) if root == "here" else root
    config = load_pipeline_config(CONFIGS / "demo.yaml", [f"root={place}"])
    with pytest.raises(UserError) as error:
        run_on_slurm(config, wait=True)
    assert error.value.code == ("no-slurm" if root == "here" else "no-slurm-folder")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_blank_cannot_begin_another_option() -> None:
    with pytest.raises(UserError, match=r"platform\.slurm\.partition"):
        load_pipeline_config(CONFIGS / "demo.yaml", ["platform.slurm.partition='gpu --uid=0'"])


def test_only_jobs_of_a_cluster_go_on_alone() -> None:
    words = [sys.executable, "-m", "pipeline", "run", "--config", str(CONFIGS / "demo.yaml"), "--no-wait"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert done.stderr.endswith("Add --runner slurm.  [no-queue]\n")


def test_a_log_that_no_job_of_a_cluster_would_write_is_refused(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "pipeline", "run", "--config", str(CONFIGS / "demo.yaml"), "--runner", "slurm"]
    done = subprocess.run([*words, "--log", str(tmp_path / "log")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.endswith("--log. Leave out --log.  [no-log]\n")
