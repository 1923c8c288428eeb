"""A sweep whose workers are the elements of an array, on both nodes of a real cluster."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState

from components.cxr.storage.storage import Root
from pipeline.sweep.study import OWNER, opened_study
from tests.infra.slurm.conftest import queued

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(400)]


def test_nodes_share_the_trials_of_a_sweep(blob_config: Path, tmp_path: Path) -> None:
    values = yaml.safe_load(blob_config.read_text()) | {"root": str(tmp_path / "root")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "space.yaml").write_text("learning_rate: {low: 1.0e-3, high: 5.0e-3, log: true}\n")
    words = [sys.executable, "-m", "pipeline", "sweep", "--config", str(tmp_path / "config.yaml")]
    words += ["--space", str(tmp_path / "space.yaml"), "--trials", "3"]
    first = subprocess.run([*words, "--workers", "0"], check=True, capture_output=True, text=True, timeout=120)
    found = re.search(r"study (\w+), 0 of 3 trials ended", first.stdout)
    assert found is not None
    array = ["sbatch", "--wait", "--array=0-1", "--cpus-per-task=2", f"--output={tmp_path}/sweep-%a.log"]
    array += ["--requeue", "--signal=B:TERM@60", "--wrap", f"exec {' '.join(words)}"]
    done = subprocess.run(array, capture_output=True, text=True, timeout=300)
    logs = "\n".join(path.read_text() for path in tmp_path.glob("sweep-*.log"))
    assert done.returncode == 0, done.stderr + logs
    assert queued() == []
    with opened_study(Root(tmp_path / "root"), found[1], storage=None, seed=0, prune=True) as study:
        trials = study.get_trials(states=(TrialState.COMPLETE,))
    assert len(trials) in (3, 4), "one more where two are drawn in the same moment"
    assert len({trial.params["learning_rate"] for trial in trials}) == len(trials), "none twice"
    assert len({trial.user_attrs[OWNER][1] for trial in trials}) == 2, "both elements trained"
    (best,) = (tmp_path / "root").glob("sweeps/*/best.yaml")
    highest = max(trials, key=lambda trial: trial.value or 0.0)
    assert yaml.safe_load(best.read_text())["train"]["learning_rate"] == highest.params["learning_rate"]
