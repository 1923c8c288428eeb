"""A sweep as an array of a real cluster of two nodes, which is stopped and goes on, by a file and by a database."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState

from components.cxr.storage.storage import Root
from pipeline.sweep.study import opened_study
from tests.infra.slurm.conftest import queued, wait_until
from tests.postgres import PASSWORD, Postgres, postgres
from tests.terminal import IN_A_TERMINAL

__all__ = ["postgres"]

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(500)]


class Place(NamedTuple):
    """Where a sweep's files are."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def command(self, *options: str) -> list[str]:
        words = [sys.executable, "-m", "pipeline", "sweep", "--runner", "slurm", "--workers", "2"]
        return [*words, "--config", f"{self.folder}/config.yaml", "--space", f"{self.folder}/space.yaml", *options]

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.root.glob("slurm/*/*.log")))

    def trials(self) -> list[FrozenTrial]:
        (key,) = (path.parent.name for path in self.root.glob("sweeps/*/trials.log"))
        with opened_study(Root(self.root), key, storage=None, seed=0, prune=True) as study:
            return study.get_trials()


@pytest.fixture(scope="module")
def place(blob_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("sweep")
    values = yaml.safe_load(blob_config.read_text()) | {"root": str(folder / "root")}
    values["train"] |= {"epochs": 30, "checkpoint_every": 2}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    (folder / "space.yaml").write_text("learning_rate: {low: 1.0e-3, high: 5.0e-3, log: true}\n")
    return Place(folder)


def test_a_sweep_that_meets_its_limit_goes_on_and_writes_the_best(place: Place) -> None:
    with subprocess.Popen(
        place.command("--trials", "2"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        found = re.search(r"slurm: queued study \d+, workers (\d+); logs in", process.stdout.readline())
        assert found is not None
        wait_until(lambda: any(place.root.glob("checkpoints/*/latest.json")), timeout_s=240, what=place.logs())
        subprocess.run(["scancel", "--batch", "--signal=USR1", found[1]], check=True)  # as Slurm does before the limit
        stdout, stderr = process.communicate(timeout=400)
    assert process.returncode == 0, stderr + place.logs()
    assert stderr == ""
    assert queued() == []
    assert "slurm: stopped before the time limit; queued again" in place.logs()
    lost = [trial for trial in place.trials() if trial.state is TrialState.FAIL]
    trials = [trial for trial in place.trials() if trial.state is TrialState.COMPLETE]
    assert lost, "a trial was given back"
    rates = [trial.params["learning_rate"] for trial in trials]
    assert {trial.params["learning_rate"] for trial in lost} <= {*rates}, "and taken again"
    assert len(trials) in (2, 3), "one more where two are drawn in the same moment"
    assert len({*rates}) == len(trials), "none twice"
    assert len(list(place.root.glob("checkpoints/*/metrics.jsonl"))) == len(trials), "from its checkpoint"
    told = [int(number) for number in re.findall(r"^sweep: trial (\d+)  [01]\.", place.logs(), re.MULTILINE)]
    assert sorted(told) == [trial.number for trial in trials], "each is told by one of the workers"
    assert f"slurm: study done, workers 2/2, {len(trials)} trials ended\n" in stdout
    (best,) = place.root.glob("sweeps/*/best.yaml")
    assert f"--config {best}" in stdout
    highest = max(trials, key=lambda trial: trial.value or 0.0)
    assert yaml.safe_load(best.read_text())["train"]["learning_rate"] == highest.params["learning_rate"]


def test_workers_share_a_database_that_nothing_on_the_disk_names(place: Place, postgres: Postgres) -> None:
    storage = f"postgresql://mlflow:{quote(PASSWORD, safe='')}@127.0.0.1:{postgres.port}/mlflow"
    environment = os.environ | {"CXRFLOW_SWEEP_STORAGE": storage}
    words = place.command("--trials", "2", "--set", "train.epochs=5")
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr + place.logs()
    assert "2 trials ended" in done.stdout or "3 trials ended" in done.stdout
    (key,) = (path.name for path in place.root.glob("sweeps/*") if not (path / "trials.log").exists())
    with opened_study(Root(place.root), key, storage=storage, seed=0, prune=True) as study:
        rates = [trial.params["learning_rate"] for trial in study.trials if trial.state is TrialState.COMPLETE]
    assert len(rates) == len({*rates}) >= 2
    assert (place.root / "sweeps" / key / "best.yaml").exists()
    files = [path for path in place.root.rglob("*") if path.is_file()]
    assert not any(quote(PASSWORD, safe="").encode() in path.read_bytes() for path in files)


def test_ctrl_c_cancels_the_workers_and_what_fails_is_told(place: Place) -> None:
    with subprocess.Popen(
        [*IN_A_TERMINAL, *place.command("--trials", "9")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "slurm: queued study" in process.stdout.readline()
        assert len(queued()) >= 2
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "slurm: canceled the jobs" in stderr
    wait_until(lambda: queued() == [], timeout_s=60, what="jobs are left")
    words = place.command("--trials", "9", "--set", f"data.table={place.folder}/nowhere.csv")
    failed = subprocess.run(words, capture_output=True, text=True, timeout=200)
    assert failed.returncode == 2
    assert re.match(r"error: step study failed: job \d+ on n[12]; found FAILED, exit code 2:0, ", failed.stderr)
    assert "nowhere.csv" in failed.stderr
    assert queued() == []
