"""A sweep that is stopped, killed, or whose trials are: what goes on, and what ends early."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from pipeline.config import load_pipeline_config
from pipeline.sweep import study as study_module
from pipeline.sweep import sweep as sweep_module
from pipeline.sweep.sweep import Wanted, sweep
from tests.components.processes import wait_for
from tests.pipeline.test_sweep import REPOSITORY, command, space_file, start, trials_of
from tests.terminal import IN_A_TERMINAL

pytestmark = pytest.mark.slow


def test_a_sweep_that_was_stopped_and_killed_goes_on_with_its_training(blob_config: Path, tmp_path: Path) -> None:
    values = yaml.safe_load(blob_config.read_text()) | {"root": str(tmp_path / "root")}
    values["train"]["epochs"] = 40
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(values))
    space_file(tmp_path, "learning_rate: {low: 1.0e-3, high: 5.0e-3}\n")

    def steps() -> list[str]:
        journals = (tmp_path / "root").glob("checkpoints/*/metrics.jsonl")
        return [line for path in journals for line in path.read_text().splitlines()]

    for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        before = len(steps())
        with subprocess.Popen(
            [*IN_A_TERMINAL, *command(config, 1)],
            cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            wait_for(lambda p=process, known=before: p.poll() is not None or len(steps()) > known, 300)
            assert process.poll() is None, process.communicate()
            process.send_signal(number)
            _, error = process.communicate(timeout=300)
        assert process.returncode == code
        assert "Traceback" not in error
        if number == signal.SIGINT:
            assert not leftover(tmp_path), "no training goes on"
    done = start(config, trials=1)
    assert done.returncode == 0, done.stderr
    *lost, last = trials_of(tmp_path / "root")
    assert [trial.state for trial in lost] == 2 * [TrialState.FAIL]
    assert last.state is TrialState.COMPLETE
    assert all(trial.params == last.params for trial in lost)
    assert len(list((tmp_path / "root").glob("checkpoints/*/metrics.jsonl"))) == 1, "the same training"


def test_a_training_below_the_median_ends_early(
    blob_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_module, "STARTUP_TRIALS", 1)
    values = yaml.safe_load(blob_config.read_text()) | {"root": str(tmp_path / "root")}
    values["train"]["epochs"] = 20
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    space = space_file(tmp_path, "learning_rate: {choices: [1.0e-7, 5.0e-3]}\n")
    pipeline = load_pipeline_config(tmp_path / "config.yaml")
    asked = optuna.Study.ask
    drawn = iter(("0.005", "1e-07"))

    def ask(study: optuna.Study, distributions: Any) -> optuna.Trial:
        study.enqueue_trial({"learning_rate": next(drawn)})
        return asked(study, distributions)

    monkeypatch.setattr(sweep_module.optuna.Study, "ask", ask)
    wanted = Wanted(tmp_path / "config.yaml", [], space, trials=2, workers=1, storage=None, prune=True)
    sweep(pipeline, wanted)
    states = [trial.state for trial in trials_of(tmp_path / "root")]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED]
    assert len(list((tmp_path / "root").glob("bundles/*/bundle.json"))) == 1


def leftover(folder: Path) -> list[str]:
    """Command lines of processes that know the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "components.train" in line and str(folder) in line and int(entry.parent.name) != os.getpid():
            found.append(line)
    return found
