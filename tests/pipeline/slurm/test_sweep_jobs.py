"""The jobs that a sweep becomes, and what is said before one is queued; no cluster is needed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.cxr.errors import UserError
from pipeline.config import CONFIGS, load_pipeline_config
from pipeline.slurm.prepare import COMMAND
from pipeline.slurm.sweep import sweep_on_slurm
from pipeline.sweep.sweep import Wanted

SECRET = "geheim"


def queue_sweep(folder: Path, *overrides: str, space: str = "epochs: {low: 1, high: 3}\n", **options: Any) -> None:
    (folder / "space.yaml").write_text(space)
    given = [f"root={folder}/root", *overrides]
    pipeline = load_pipeline_config(CONFIGS / "demo.yaml", given)
    wanted = Wanted(CONFIGS / "demo.yaml", given, folder / "space.yaml", trials=9, workers=3, storage=None, prune=True)
    assert sweep_on_slurm(pipeline, wanted._replace(**options), wait=False) is None


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with how sbatch was called, a line a job, and the database that it would hand on."""
    tools, calls = tmp_path / "bin", tmp_path / "calls"
    tools.mkdir()
    script = f'#!/bin/bash\necho "$CXRFLOW_SWEEP_STORAGE $@" >>{calls}\nwc -l <{calls}\n'
    (tools / "sbatch").write_text(script)
    (tools / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("CXRFLOW_SWEEP_STORAGE", "")
    return calls


def test_the_workers_are_an_array_behind_the_study(sbatch: Path, tmp_path: Path) -> None:
    slurm = "{partition: cpu, stop_before_s: 300, steps: {train: {partition: gpu, time: 1-00:00:00}}}"
    steps = "{train: {cpu: 8, gpus: 1}, preprocess: {cpu: 4}}"
    queue_sweep(tmp_path, f"platform.slurm={slurm}", f"platform.steps={steps}", "train.num_models=3", prune=False)
    (run,) = (tmp_path / "root" / "slurm").iterdir()
    assert json.loads((run / "jobs.json").read_text()) == {"study": "1", "workers": "2"}
    first, second = sbatch.read_text().splitlines()
    assert first.split() == ["--parsable", f"{run}/study.sh"]
    assert second.split() == ["--parsable", "--dependency=afterok:1", "--kill-on-invalid-dep=yes", f"{run}/workers.sh"]
    study, workers = ((run / f"{name}.sh").read_text() for name in ("study", "workers"))
    assert set(re.findall(r"^#SBATCH (.*)", workers, re.MULTILINE)) >= {
        "--array=0-2", "--nodes=1", "--partition=gpu", "--time=1-00:00:00", "--gres=gpu:1", "--cpus-per-task=8",
        "--signal=B:USR1@300", f"--output={run}/workers-%a.log",
    }  # fmt: skip
    assert set(re.findall(r"^#SBATCH (.*)", study, re.MULTILINE)) >= {"--partition=cpu", "--cpus-per-task=4"}
    assert "--array" not in study
    for script in (study, workers):
        assert "pipeline.slurm.prepare" not in script
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    commands = [(run / name / COMMAND).read_text() for name in ("workers-0", "workers-2", "study")]
    assert commands[0] == commands[1]
    assert commands[0].startswith(f"exec {sys.executable} -m pipeline sweep --config {run}/config.yaml ")
    assert commands[0].endswith(" --trials 9 --workers 1 --no-prune\n")
    assert commands[2].endswith(" --trials 9 --workers 0 --no-prune\n")
    kept = yaml.safe_load((run / "config.yaml").read_text())
    assert (kept["root"], kept["train"]["num_models"]) == (f"{tmp_path}/root", 3), "with what --set said"
    assert (run / "space.yaml").read_text() == "epochs: {low: 1, high: 3}\n"


def test_there_are_no_more_workers_than_trials_and_none_for_the_study_alone(sbatch: Path, tmp_path: Path) -> None:
    queue_sweep(tmp_path, trials=2, workers=8)
    (run,) = (tmp_path / "root" / "slurm").iterdir()
    assert "#SBATCH --array=0-1\n" in (run / "workers.sh").read_text()
    queue_sweep(tmp_path, workers=0)
    assert len(sbatch.read_text().splitlines()) == 3


def test_a_database_is_handed_on_and_written_nowhere(sbatch: Path, tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/{SECRET}.db"
    queue_sweep(tmp_path, storage=address)
    assert [line.split()[0] for line in sbatch.read_text().splitlines()] == 2 * [address]
    files = [path for path in (tmp_path / "root").rglob("*") if path.is_file()]
    assert files
    assert not any(SECRET.encode() in path.read_bytes() for path in files)


@pytest.mark.parametrize(
    ("override", "options", "code"),
    [
        ("train.epochs=3", {"space": "{}"}, "empty-space"),
        ("train.epochs=3", {"space": "epoch: {low: 1, high: 3}"}, "unknown-config-field"),
        ("train.num_nodes=2", {}, "trial-of-several-nodes"),
        ("root=gs://bucket/runs", {}, "no-sweep-storage"),
        ("train.epochs=3", {"storage": f"postgresql://me:{SECRET}@127.0.0.1:1/none"}, "no-sweep-storage"),
        ("root=gs://bucket/runs", {"storage": "sqlite://"}, "no-slurm-folder"),
        ("train.epochs=3", {}, "no-slurm"),
    ],
)
def test_what_cannot_work_is_one_error_before_anything_is_queued(
    override: str, options: dict[str, Any], code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXRFLOW_SWEEP_STORAGE", "")
    with pytest.raises(UserError) as error:
        queue_sweep(tmp_path, override, **options)
    assert error.value.code == code
    assert SECRET not in error.value.line
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["space.yaml"]
