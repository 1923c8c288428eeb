"""The whole pipeline as jobs of a real cluster of two nodes, and what becomes of it when something fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from safetensors.numpy import load

from components.cxr.report import load_report
from components.cxr.storage.pointers import read_pointer
from components.cxr.storage.storage import Root, open_storage
from pipeline.slurm.commands import describe
from tests.conftest import new_bucket
from tests.infra.slurm.conftest import lose_node, queued, wait_until
from tests.terminal import IN_A_TERMINAL

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
TRAINING = ("train.learning_rate=0.001", "train.epochs=10", "train.checkpoint_every=2")


def command(config: Path, root: Path | str, *overrides: str, options: tuple[str, ...] = ()) -> list[str]:
    words = [sys.executable, "-m", "pipeline", "run", "--config", str(config), "--runner", "slurm", *options]
    return words + [word for override in (f"root={root}", *overrides) for word in ("--set", override)]


def run(
    config: Path, root: Path | str, *overrides: str, options: tuple[str, ...] = (), code: int = 0
) -> subprocess.CompletedProcess[str]:
    words = command(config, root, *overrides, options=options)
    done = subprocess.run(words, capture_output=True, text=True, timeout=500)
    assert done.returncode == code, done.stdout + done.stderr + logs(root)
    return done


def logs(root: Path | str) -> str:
    return "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted(Path(root).glob("slurm/*/*.log")))


def weights(root: Path | str) -> dict[str, Any]:
    bundles = open_storage(f"{root}/bundles")
    (name,) = (name for name in bundles.sizes() if name.endswith("/weights.safetensors"))
    return load(bundles.read(name).data)


def largest_difference(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    assert ours.keys() == theirs.keys()
    return max(float(abs(ours[name] - theirs[name]).max()) for name in ours)


class Whole(NamedTuple):
    """A whole run with a training on two nodes."""

    root: str
    """In a bucket."""
    folder: Path
    """Of scripts and logs."""
    cache: Path
    """That an environment module told the steps to use."""
    output: str
    jobs: dict[str, dict[str, str]]
    """What Slurm said of the training's and the evaluation's job."""


@pytest.fixture(scope="module")
def whole(
    blob_config: Path,
    gcs_server: str,
    mlflow_server: str,
    cluster_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Whole:
    place, root = tmp_path_factory.mktemp("whole"), f"{new_bucket(gcs_server)}/chest"
    (place / "modules" / "chest").mkdir(parents=True)
    (place / "modules" / "chest" / "1.0").write_text(f"#%Module\nsetenv CXRFLOW_CACHE {place}/cache\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODULEPATH", str(place / "modules"))
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
        done = run(
            blob_config,
            root,
            *TRAINING,
            "train.num_nodes=2",
            f"platform.slurm={{folder: {place}/slurm, modules: [chest/1.0], steps: {{evaluate: {{constraint: ib}}}}}}",
            "platform.steps={train: {cpu: 2, memory: 1500M, gpus: 1, gpu_type: a100}}",
        )
        (folder,) = (place / "slurm").iterdir()
        ids = json.loads((folder / "jobs.json").read_text())
        jobs = {step: describe(ids[step]) for step in ("train", "evaluate")}
    assert done.stderr == ""
    return Whole(root, folder, place / "cache", done.stdout, jobs)


def with_data(whole: Whole, root: Path) -> Path:
    """A root in which the data set is there and nothing else."""
    data = open_storage(f"{whole.root}/data")
    for name in data.sizes():
        (root / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        data.download(name, root / "data" / name)
    return root


def test_the_whole_pipeline_ends_with_a_deployed_model(whole: Whole) -> None:
    assert re.search(r"queued preprocess \d+, collect \d+, train \d+, evaluate \d+, deploy \d+; logs in", whole.output)
    assert "slurm: preprocess 2/2, collect done, train done, evaluate done, deploy done" in whole.output
    assert "train runs on n[1-2]" in whole.output
    root = Root(whole.root)
    current = json.loads(root.at("deployed").read("current.json").data)
    assert root.at(current["bundle"]).exists("weights.safetensors")
    evaluation = open_storage(read_pointer(root, "evaluation", made_by="evaluate"))
    assert load_report(evaluation).headline.mean.auroc > 0.8
    assert f"Everything is under {whole.root}:\n" in whole.output
    names = {name.split("/")[0] for name in open_storage(whole.root).sizes()}
    assert names >= {"data", "checkpoints", "bundles", "predictions", "evaluations", "decisions", "latest"}
    assert queued() == []


def test_jobs_get_what_they_ask_for(whole: Whole) -> None:
    train = whole.jobs["train"]
    assert train["TresPerNode"] == "gres:gpu:a100:1"
    assert (train["NumNodes"], train["NumCPUs"], train["MinMemoryNode"]) == ("2", "4", "1431M")
    assert whole.jobs["evaluate"]["NodeList"] == "n2", "the one with InfiniBand"
    assert [*whole.cache.iterdir()], "the steps saw the module's variable"


def test_a_module_that_is_not_there_is_told(blob_config: Path, tmp_path: Path) -> None:
    done = run(blob_config, tmp_path / "root", "platform.slurm.modules=[chest/2.0]", code=2)
    assert re.search(r"step preprocess, element 0 of 2, failed \(1 more\).*chest/2\.0", done.stderr, re.DOTALL)


def test_no_patient_or_text_is_in_the_logs(whole: Whole) -> None:
    text = whole.output + "".join(path.read_text() for path in whole.folder.glob("*.log"))
    assert "train: wrote bundles/" in text
    for secret in ("cough", "train001", "test12", "validate003"):
        assert secret not in text


def step_of(root: Path) -> int:
    """Steps in the newest checkpoint, 0 before the first."""
    found = [*root.glob("checkpoints/*/latest.json")]
    return int(json.loads(found[0].read_text())["checkpoint"][5:-3]) if found else 0


def started(config: Path, root: Path, *overrides: str) -> tuple[dict[str, str], Path]:
    """Ids of a run's jobs and its training's log, once there is a checkpoint beyond what there was."""
    run(config, root, *overrides, options=("--no-wait",))
    (folder,) = (root / "slurm").iterdir()
    wait_until(lambda: step_of(root) > 0, timeout_s=120, what=logs(root))
    return json.loads((folder / "jobs.json").read_text()), folder / "train.log"


def preempted(job: str) -> None:
    """Let a job of the first partition take both nodes for a moment, once they are given to it."""
    words = ["srun", "--partition=first", "--nodes=2", "--cpus-per-task=2", "--job-name=first", "true"]
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    assert queued(f"--jobs={job}") == [f"{job} PENDING"]


def test_one_process_that_was_preempted_ends_with_the_weights_of_two_nodes(
    whole: Whole, blob_config: Path, cluster_folder: Path, tmp_path: Path
) -> None:
    root = with_data(whole, tmp_path / "root")
    place = "platform.slurm={stop_before_s: 1, steps: {train: {partition: short}}}"
    jobs, log = started(blob_config, root, *TRAINING, place)
    preempted(jobs["train"])
    stopped = step_of(root)
    assert f"train: stopped at step {stopped}" in log.read_text(), "KillWait was long enough for a checkpoint"
    wait_until(lambda: not queued(f"--jobs={jobs['train']}"), timeout_s=120, what=logs(root))
    subprocess.run(["scancel", *jobs.values()], check=True)
    assert f"at step {stopped} of 60" in log.read_text()
    assert not (log.parent / "train" / "failed").exists(), "no try is used up"
    assert largest_difference(weights(whole.root), weights(root)) < 1e-4, "60 steps, sums in another order"


def test_a_training_that_meets_its_limit_is_preempted_and_loses_a_node_ends_as_an_unbroken_one(
    whole: Whole, blob_config: Path, cluster_folder: Path, tmp_path: Path
) -> None:
    root = with_data(whole, tmp_path / "root")
    jobs, log = started(blob_config, root, *TRAINING, "train.num_nodes=2")
    train, pending = f"--jobs={jobs['train']}", [f"{jobs['train']} PENDING"]
    subprocess.run(["scancel", "--batch", "--signal=USR1", jobs["train"]], check=True)  # as Slurm does before the limit
    wait_until(lambda: queued(train) == pending, timeout_s=60, what=logs(root))
    assert "slurm: stopped before the time limit; queued again" in log.read_text()
    stopped = step_of(root)
    assert f"train: stopped at step {stopped}" in log.read_text()

    wait_until(lambda: step_of(root) > stopped, timeout_s=120, what=logs(root))
    assert f"at step {stopped} of 60" in log.read_text()
    preempted(jobs["train"])
    assert "slurm: stopped to give way; queued again" in log.read_text()
    stopped = step_of(root)
    assert f"train: stopped at step {stopped}" in log.read_text()
    assert not (log.parent / "train" / "failed").exists(), "no try is used up"

    wait_until(lambda: step_of(root) > stopped, timeout_s=120, what=logs(root))
    assert f"at step {stopped} of 60" in log.read_text()
    lose_node("n2", cluster_folder)
    try:
        wait_until(lambda: queued(train) == pending, timeout_s=120, what=logs(root))
        assert not (root / "bundles").exists()
    finally:
        subprocess.run(["slurmd", "-N", "n2"], check=True)
    lost = step_of(root)
    wait_until(lambda: not queued(train), timeout_s=180, what=logs(root))
    subprocess.run(["scancel", *jobs.values()], check=True)
    assert f"at step {lost} of 60" in log.read_text()
    assert "slurm: try 4 of job" in log.read_text()
    assert largest_difference(weights(whole.root), weights(root)) == 0.0


def test_a_failing_element_of_the_array_is_told_by_name(blob_config: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    unlucky = '[ "$SLURM_ARRAY_TASK_ID" = 1 ] && echo out of luck >&2 && exit 1'
    container = f"bash -c '{unlucky}; shift; exec {sys.executable} \"$@\"' --"
    override = f"platform.slurm.container={json.dumps(container)}"
    done = run(blob_config, root, "platform.retries.count=1", override, code=2)
    tries = [(path.name, path.read_text().count("slurm: try ")) for path in root.glob("slurm/*/preprocess-?.log")]
    assert sorted(tries) == [("preprocess-0.log", 1), ("preprocess-1.log", 2)], "each is tried again by itself"
    assert "slurm: preprocess 1/2 (1 failed)" in done.stdout
    assert re.match(
        r"error: step preprocess, element 1 of 2, failed: job \d+_1 on n[12]; found FAILED, exit code 1:0, "
        r"reason NonZeroExitCode\. Everything is in \S+/preprocess-1\.log, its end:\n",
        done.stderr,
    )
    assert "out of luck" in done.stderr
    assert done.stderr.endswith("[step-failed]\n")
    assert queued() == []


def test_what_slurm_refuses_is_one_line_and_leaves_no_job(blob_config: Path, tmp_path: Path) -> None:
    done = run(blob_config, tmp_path / "root", "platform.slurm.steps.serve.partition=nowhere", code=2)
    assert done.stdout == ""
    assert done.stderr.startswith("error: sbatch failed: job deploy; found ")
    assert "Invalid partition name specified" in done.stderr
    assert done.stderr.count("\n") == 1
    wait_until(lambda: queued() == [], timeout_s=30, what="jobs are left")
    assert not (tmp_path / "root" / "slurm").exists()


def test_ctrl_c_cancels_the_jobs(blob_config: Path, tmp_path: Path) -> None:
    words = [*IN_A_TERMINAL, *command(blob_config, tmp_path / "root")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "slurm: queued" in process.stdout.readline()
        assert len(queued()) >= 5
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "slurm: canceled the jobs" in stderr
    assert stderr.endswith("error: interrupted; run the same command again to continue\n")
    wait_until(lambda: queued() == [], timeout_s=30, what="jobs are left")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a process a file system of its own")
def test_a_root_that_the_nodes_do_not_see_is_told(blob_config: Path, tmp_path: Path) -> None:
    words = command(blob_config, tmp_path / "root", "platform.retries.count=0")
    alone = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(tmp_path), *words]
    done = subprocess.run(alone, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "exit code 0:53" in done.stderr
    assert done.stderr.endswith("on a file system that all nodes share.  [root-not-shared]\n")
