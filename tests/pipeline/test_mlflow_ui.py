"""`python -m pipeline mlflow`: the real server on a real database, opened where the runs are, ended by Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from components.cxr.errors import UserError
from components.cxr.storage.storage import Root
from components.cxr.tracking.tracking import joined_run
from pipeline.mlflow_ui import show_runs
from tests.terminal import IN_A_TERMINAL

REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def _start(folder: Path, *options: str, port: int) -> subprocess.Popen[str]:
    config = folder / "pipeline.yaml"
    config.write_text(f"root: {folder}/root\ndata: {{adapter: mimic-cxr, dir: {folder}}}\n")
    command = [
        *IN_A_TERMINAL,
        sys.executable,
        "-m",
        "pipeline",
        "mlflow",
        "--config",
        str(config),
        "--port",
        str(port),
        *options,
    ]
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_it_prints_the_page_of_the_trainings_and_ends_by_ctrl_c_without_a_traceback(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    with joined_run(Root(tmp_path / "root"), experiment="cxrflow", run_name="first") as run:
        pass
    port = _port()
    process = _start(tmp_path, port=port)
    assert process.stdout is not None
    try:
        lines = iter(process.stdout.readline, "")
        line = next(line for line in lines if line.startswith("MLflow: "))
        found = re.fullmatch(
            rf"MLflow: http://127\.0\.0\.1:{port}/#/experiments/(\d+)/runs\?workflowType=machine_learning "
            r"\(Ctrl-C ends it\)\n",
            line,
        )
        assert found
        api = f"http://127.0.0.1:{port}/api/2.0/mlflow/runs/get?run_id={run.id}"
        with urllib.request.urlopen(api) as answer:
            assert json.load(answer)["run"]["info"]["experiment_id"] == found[1]
        os.killpg(process.pid, number)  # as a terminal does
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    assert "Traceback" not in error
    with socket.socket() as probe:  # and the server is gone
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    """As by MLflow on another root, which answers and would be taken for this one."""
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as other:
        taken = rf"does not start: http://127\.0\.0\.1:{other.server_port}; found Address already in use\. Try another"
        with pytest.raises(UserError, match=taken):
            show_runs(Root(tmp_path), experiment="cxrflow", port=other.server_port, browse=False)


def test_a_server_elsewhere_that_is_away_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"does not answer: http://127\.0\.0\.1:9; .*Check MLFLOW_TRACKING_URI"):
        show_runs(Root(tmp_path), experiment="cxrflow", port=5000, browse=False)
