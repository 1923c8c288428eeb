"""The compiled pipeline run whole here, both ways past the promotion condition, and what a user sees of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from components.cxr.errors import UserError
from components.cxr.report import load_report
from components.cxr.storage.storage import open_storage
from pipeline.config import CONFIGS, load_pipeline_config
from pipeline.run import _evaluation, _opened, run_locally

pytestmark = pytest.mark.timeout(900)  # whole pipelines; seconds each on an idle machine


def run(config: Path, *overrides: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "run",
        "--config",
        str(config),
        "--log",
        str(config.with_suffix(".log")),
    ]
    for override in overrides:
        command += ["--set", override]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def first(blob_config: Path) -> subprocess.CompletedProcess[str]:
    return run(blob_config)


@pytest.fixture(scope="module")
def root(blob_config: Path, first: subprocess.CompletedProcess[str]) -> Path:
    return Path(yaml.safe_load(blob_config.read_text())["root"])


def test_a_first_good_model_is_deployed(first: subprocess.CompletedProcess[str], root: Path) -> None:
    current = json.loads((root / "deployed" / "current.json").read_text())
    assert (root / current["bundle"] / "weights.safetensors").is_file()
    assert (root / current["bundle"] / "MODEL_CARD.md").is_file()
    assert "promoted" in first.stdout


def test_the_table_has_every_pathology_with_its_interval(first: subprocess.CompletedProcess[str], root: Path) -> None:
    evaluation = open_storage(json.loads((root / "latest" / "evaluation.json").read_text())["uri"])
    report = load_report(evaluation)
    for name, score in report.headline.pathologies.items():
        assert score.auroc is not None
        assert score.auroc > 0.8, "a blob is easy"
        row = rf"{name} +{score.auroc:.3f} +\d\.\d\d\d–\d\.\d\d\d .* {score.positives} +{score.negatives}\n"
        assert re.search(row, first.stdout)
    assert f"Everything is under {root}:\n" in first.stdout
    for name in ("data", "model", "evaluation", "deployed"):
        assert re.search(rf"^  {name} +{root}/\S+$", first.stdout, re.MULTILINE), name
    assert re.search(r"^Next:\n  make mlflow CONFIG=\S+ .*\n  make serve CONFIG=\S+ ", first.stdout, re.MULTILINE)


def test_kfps_noise_stays_in_the_log(first: subprocess.CompletedProcess[str], blob_config: Path) -> None:
    log = blob_config.with_suffix(".log").read_text()
    assert "KFP Executor" in log
    assert first.stderr == ""
    for noise in ("KFP", "Warning", "Executing task", "{", "alembic", "ephemeral"):
        assert noise not in first.stdout
    steps = [line[7:].split(":")[0] for line in first.stdout.splitlines() if re.match(r" ?\d+:\d\d  ", line)]
    assert list(dict.fromkeys(steps)) == ["preprocess", "train", "evaluate", "serve"]


def test_no_patient_or_text_is_in_the_log(first: subprocess.CompletedProcess[str], blob_config: Path) -> None:
    log = blob_config.with_suffix(".log").read_text() + first.stdout
    for secret in ("cough", "train001", "test12", "validate003"):
        assert secret not in log


@pytest.mark.filterwarnings("ignore")  # SQLAlchemy's, about MLflow's queries
def test_mlflow_has_one_run_with_everything(root: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{root}/mlflow/mlflow.db")
    runs = [run for e in client.search_experiments() for run in client.search_runs([e.experiment_id])]
    assert len(runs) == 1
    data = runs[0].data
    assert runs[0].info.status == "FINISHED"
    assert data.params["train.epochs"] == "10"
    assert {f"test/auroc/{name}" for name in ("Edema", "Pneumonia", "Fracture")} <= set(data.metrics)
    assert len(client.get_metric_history(runs[0].info.run_id, "train/supervised_loss")) > 5
    assert re.fullmatch(r"cxrflow-\d{14}|\d{1,8}", data.tags["pipeline_run"])
    version = client.get_model_version_by_alias("cxrflow", "champion")
    assert version.run_id == runs[0].info.run_id
    assert client.get_model_version_by_alias("cxrflow", "challenger").version == version.version


def test_the_same_run_again_reuses_every_step(blob_config: Path, root: Path) -> None:
    before = (root / "deployed" / "current.json").read_text()
    again = run(blob_config)
    for step in ("preprocess: reused data/", "train: reused bundles/", "evaluate: reused evaluations/"):
        assert step in again.stdout
    assert (root / "deployed" / "current.json").read_text() == before
    assert re.search(r"^Not promoted: .*already", again.stdout, re.MULTILINE)


@pytest.mark.parametrize("step", ["train", "evaluate"])
def test_a_step_whose_result_is_there_does_not_wait_for_torch(step: str, blob_config: Path, root: Path) -> None:
    script = f"""
import runpy, sys
sys.argv = ["{step}", "--config", "{blob_config}"]
try:
    runpy.run_module("components.{step}", run_name="__main__")
finally:
    print(sorted({{"torch", "transformers"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{step}: reused " in done.stdout
    assert done.stdout.endswith("\n[]\n")


def test_a_model_that_is_not_better_is_not_deployed(blob_config: Path, root: Path) -> None:
    before = (root / "deployed" / "current.json").read_text()
    worse = run(blob_config, "train.epochs=1")
    assert "Not promoted" in worse.stdout
    assert "serve:" not in worse.stdout
    told = f"--config {blob_config} --set train.epochs=1 "
    for command in (f"  python -m pipeline mlflow {told}", f"  python -m components.serve {told}"):
        assert command in worse.stdout, "the file alone may name another root"
    assert (root / "deployed" / "current.json").read_text() == before


@pytest.mark.parametrize("log", ["", "file/pipeline.log"])
def test_a_log_that_cannot_be_written_is_one_line(log: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = load_pipeline_config(CONFIGS / "demo.yaml")
    with pytest.raises(UserError, match=r"cannot write the log: .*Set --log to another file\."):
        run_locally(config, log=tmp_path / log)


def test_two_runs_do_not_write_one_log(tmp_path: Path) -> None:
    config, log = load_pipeline_config(CONFIGS / "demo.yaml"), tmp_path / "log"
    log.write_text("of an earlier run\n")
    with _opened(log) as first:
        print("a line", file=first, flush=True)
        with pytest.raises(UserError, match=r"another run writes this log: .*Set --log to another file\."):
            run_locally(config, log=log)
        print("another", file=first)
    assert log.read_text() == "a line\nanother\n"
    with _opened(log):
        assert not log.read_text()


@pytest.mark.parametrize("promoted", [True, False])
def test_a_run_succeeds_only_if_every_task_left_its_result(promoted: bool, tmp_path: Path) -> None:
    """KFP's runner in containers can call a task that died a success."""
    pointers = [tmp_path / "run" / name for name in ("1/preprocess", "2/preprocess", "collect", "train", "evaluate")]
    pointers += [tmp_path / "run" / "deploy"] if promoted else []
    for folder in pointers:
        folder.mkdir(parents=True)
        (folder / "executor_output.json").write_text(json.dumps({"parameterValues": {"Output": promoted}}))
    (tmp_path / "run" / "evaluate" / "evaluation").write_text(json.dumps({"uri": f"{tmp_path}/evaluations/k"}))
    assert _evaluation(tmp_path, 2, log=tmp_path / "log").uri == f"{tmp_path}/evaluations/k"
    for folder in pointers:
        lost = (folder / "executor_output.json").rename(tmp_path / "lost")
        with pytest.raises(UserError, match="a step left no result"):
            _evaluation(tmp_path, 2, log=tmp_path / "log")
        lost.rename(folder / "executor_output.json")


def test_a_failed_step_is_one_clean_line(blob_config: Path, tmp_path: Path) -> None:
    done = run(blob_config, f"data.table={tmp_path}/nowhere.csv", f"root={tmp_path}/root", code=2)
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert "nowhere.csv" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not list((tmp_path / "root").rglob("manifest.json"))


def test_sigterm_ends_the_step_too_which_leaves_a_checkpoint(blob_config: Path, tmp_path: Path) -> None:
    """What `timeout` or a service manager sends, to the command alone and not to what it started."""
    root = tmp_path / "root"
    command = [sys.executable, "-m", "pipeline", "run", "--config", str(blob_config), "--log", f"{tmp_path}/log"]
    command += ["--set", f"root={root}", "--set", "train.epochs=100000", "--set", "train.checkpoint_every=1000000"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not list(root.glob("checkpoints/*/metrics.jsonl")):
            time.sleep(0.1)
        process.terminate()
        try:
            _, error = process.communicate(timeout=300)
        finally:
            process.kill()
    assert (process.returncode, error) == (143, "error: terminated; run the same command again to continue\n")
    names = {path.name for path in root.glob("checkpoints/*/*")}
    assert "lease.json" not in names, "whoever comes next need not wait"
    assert any(name.startswith("step-") for name in names), names
    started = (" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"]))
    assert not [line for line in started if str(root) in line]
