"""Runs started by `submit` and by kfp's own command, both through kfp's real client against the API's answers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.compile import compile_pipeline
from pipeline.config import load_pipeline_config
from tests.pipeline.fake_kubeflow import DEMO, ROOT, FakeKubeflow


@pytest.fixture
def kubeflow() -> Iterator[FakeKubeflow]:
    with FakeKubeflow() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()


def command(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run with a home of its own: kfp keeps a context file there."""
    environment = {**os.environ, "HOME": str(home), "KF_PIPELINES_UI_ENDPOINT": "", **environment}
    environment = {name: value for name, value in environment.items() if value}
    return subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=600)


def submit(kubeflow: FakeKubeflow, *options: str, endpoint: str | None = None, **environment: str) -> Result:
    arguments = ["submit", "--config", str(DEMO), "--set", ROOT, "--endpoint", endpoint or kubeflow.url, *options]
    return CliRunner().invoke(app, arguments, env={"KF_PIPELINES_UI_ENDPOINT": None, "KFP_TOKEN": None, **environment})


def test_a_run_is_made_of_the_configuration_and_waited_for(kubeflow: FakeKubeflow, tmp_path: Path) -> None:
    overrides = ["--set", "platform.service_account=runner", "--set", "platform.partitions=3"]
    python = [sys.executable, "-m", "pipeline", "submit", "--config", str(DEMO), "--set", ROOT]
    done = command(*python, "--endpoint", kubeflow.url, "--experiment", "films", *overrides, home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (run,) = kubeflow.runs
    config = load_pipeline_config(DEMO, [ROOT])
    assert run["runtime_config"]["parameters"] == config.arguments
    assert run["service_account"] == "runner"
    assert run["experiment_id"] == "experiment-1"
    assert [experiment["display_name"] for experiment in kubeflow.experiments] == ["films"]
    version = kubeflow.versions[-1]
    ids = {name: version[name] for name in ("pipeline_id", "pipeline_version_id")}
    assert run["pipeline_version_reference"] == ids
    pipeline, platform = version["documents"]
    assert "[0, 1, 2]" in str(pipeline["root"]["dag"]["tasks"])
    assert "kubernetes" in platform["platforms"]
    link = f"{kubeflow.url}/#/runs/details/run-1"
    assert done.stdout.splitlines() == [
        f"submit: cxrflow {version['display_name']}, experiment films: {link}",
        "submit: pending",
        "submit: running",
        "submit: succeeded",
    ]


def test_only_a_changed_pipeline_is_a_new_version(kubeflow: FakeKubeflow) -> None:
    for options in ([], [], ["--set", "platform.partitions=5"]):
        done = submit(kubeflow, "--no-wait", *options)
        assert done.exit_code == 0, done.stderr
        assert len(done.stdout.splitlines()) == 1
    assert [pipeline["display_name"] for pipeline in kubeflow.pipelines] == ["cxrflow"]
    references = [run["pipeline_version_reference"]["pipeline_version_id"] for run in kubeflow.runs]
    assert references[0] == references[1] != references[2]
    assert len({version["display_name"] for version in kubeflow.versions}) == len(kubeflow.versions) == 3
    assert len(kubeflow.experiments) == 1


def test_a_version_is_found_among_any_number(kubeflow: FakeKubeflow) -> None:
    """The API refuses a second one of the same name."""
    assert submit(kubeflow, "--no-wait").exit_code == 0
    for i in range(150):
        kubeflow.added(kubeflow.versions, "pipeline_version", {"pipeline_id": "pipeline-1", "display_name": f"v{i}"})
    done = submit(kubeflow, "--no-wait")
    assert done.exit_code == 0, done.stderr
    first, second = (run["pipeline_version_reference"] for run in kubeflow.runs)
    assert first == second


@pytest.mark.parametrize(
    ("state", "failure", "message"),
    [
        (
            "FAILED",
            {
                "run_details": {
                    "task_details": [
                        {"display_name": "Train", "state": "FAILED", "error": {"code": 1, "message": "no\nspace"}},
                        {"display_name": "Collect the manifest", "state": "SUCCEEDED"},
                    ]
                }
            },
            "error: the run failed: Train: no space. See ",
        ),
        ("FAILED", {"error": {"code": 3, "message": "quota"}}, "error: the run failed: quota. See "),
        ("CANCELED", {}, "error: the run was canceled. See "),
    ],
)
def test_a_run_that_fails_is_one_line_and_a_code(
    kubeflow: FakeKubeflow, state: str, failure: dict[str, Any], message: str
) -> None:
    kubeflow.states, kubeflow.failure = ["RUNNING", state], failure
    done = submit(kubeflow)
    assert done.exit_code == 2
    assert (
        done.stderr
        == f"{message}{kubeflow.url}/#/runs/details/run-1  [run-{'failed' if state == 'FAILED' else 'stopped'}]\n"
    )


def test_the_wait_outlives_an_api_that_is_away_for_a_moment(kubeflow: FakeKubeflow) -> None:
    kubeflow.states, kubeflow.broken_answers = ["SUCCEEDED"], 2
    done = submit(kubeflow)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "submit: succeeded"
    assert kubeflow.broken_answers == 0


def test_the_token_comes_from_the_environment(kubeflow: FakeKubeflow) -> None:
    kubeflow.token = "s3cret"
    refused = submit(kubeflow, "--no-wait", KFP_TOKEN="old")
    expected = (
        f"error: Kubeflow Pipelines refuses: {kubeflow.url}; found 401. Set KFP_TOKEN to a valid token.  [kfp-refuses]"
    )
    assert (refused.exit_code, refused.stderr) == (2, f"{expected}\n")
    assert kubeflow.runs == []
    done = submit(kubeflow, "--no-wait", KFP_TOKEN="s3cret")
    assert (done.exit_code, done.stderr) == (0, "")
    assert len(kubeflow.runs) == 1
    assert "s3cret" not in done.stdout


def test_a_profiles_pipeline_and_experiment_are_in_its_namespace(kubeflow: FakeKubeflow) -> None:
    for _ in range(2):
        assert submit(kubeflow, "--no-wait", "--namespace", "radiology").exit_code == 0
    assert [pipeline["namespace"] for pipeline in kubeflow.pipelines] == ["radiology"]
    assert [experiment["namespace"] for experiment in kubeflow.experiments] == ["radiology"]


def test_interrupting_the_wait_says_that_the_run_goes_on(kubeflow: FakeKubeflow, tmp_path: Path) -> None:
    """And does not ask for the same command again, which would start another run."""
    kubeflow.states = ["RUNNING"]
    python = [sys.executable, "-m", "pipeline", "submit", "--config", str(DEMO), "--set", ROOT]
    environment = os.environ | {"HOME": str(tmp_path), "KF_PIPELINES_ENDPOINT": kubeflow.url}
    with subprocess.Popen(
        python, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            next(line for line in process.stdout if line == "submit: running\n")
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert error == f"submit: interrupted; the run goes on: {kubeflow.url}/#/runs/details/run-1\n"


def test_what_the_api_refuses_is_told_in_its_words(kubeflow: FakeKubeflow) -> None:
    kubeflow.refusal = "Invalid input error:\nservice account runner"
    done = submit(kubeflow)
    assert done.exit_code == 2
    assert done.stderr == (
        f"error: Kubeflow Pipelines refuses: {kubeflow.url}; found 400 Invalid input error: service account runner. "
        "Try `python -m pipeline doctor`.  [kfp-refuses]\n"
    )


def test_where_nothing_answers_or_pods_share_nothing(kubeflow: FakeKubeflow) -> None:
    dead = submit(kubeflow, endpoint="http://127.0.0.1:9")
    assert dead.exit_code == 2
    assert dead.stderr.startswith("error: Kubeflow Pipelines does not answer: http://127.0.0.1:9; found ")
    assert "port-forward" in dead.stderr
    assert dead.stderr.count("\n") == 1
    local = submit(kubeflow, "--set", "root=runs/demo")
    assert local.exit_code == 2
    assert (
        local.stderr == "error: pods do not share a local folder: root; found runs/demo, expected gs://bucket/prefix, "
        "or a folder under a mount of platform.claims  [root-not-shared]\n"
    )
    assert kubeflow.runs == kubeflow.versions == []


def kfp_command(kubeflow: FakeKubeflow, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kfp = str(Path(sys.executable).parent / "kfp")
    done = command(kfp, "--endpoint", kubeflow.url, "--output", "json", *arguments, home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_kfps_own_command_runs_the_yaml_with_the_configuration_as_defaults(
    kubeflow: FakeKubeflow, tmp_path: Path
) -> None:
    file = tmp_path / "cxr_pipeline.yaml"
    config = load_pipeline_config(DEMO)
    compile_pipeline(config, file, target="kfp")
    given = ["root=gs://cxr/root", 'train={"epochs": 3}']
    kfp_command(kubeflow, tmp_path, "run", "create", "-e", "cxr", "-f", str(file), *given)
    (run,) = kubeflow.runs
    assert run["runtime_config"]["parameters"] == {"root": "gs://cxr/root", "train": {"epochs": 3}}
    sent = run["pipeline_spec"]
    parameters = sent["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
    assert parameters["data"]["defaultValue"] == config.arguments["data"]
    mounts = sent["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train"]
    assert mounts["emptyDirMounts"][0]["mountPath"] == "/dev/shm"


def test_kfps_own_command_repeats_a_run(kubeflow: FakeKubeflow, tmp_path: Path) -> None:
    file = tmp_path / "cxr_pipeline.yaml"
    compile_pipeline(load_pipeline_config(DEMO, [ROOT]), file, target="kfp")
    options = ["--experiment-name", "cxr", "--job-name", "weekly", "--cron-expression", "0 0 3 * * 0", "--no-catchup"]
    kfp_command(kubeflow, tmp_path, "recurring-run", "create", *options, "--pipeline-package-path", str(file))
    (recurring,) = kubeflow.recurring
    assert recurring["display_name"] == "weekly"
    assert recurring["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * 0"
    assert recurring["no_catchup"] is True
    parameters = recurring["pipeline_spec"]["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
    assert parameters["root"]["defaultValue"] == "gs://cxr/root"
