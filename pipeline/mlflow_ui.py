"""MLflow's pages on the runs of a local root, opened where the trainings are."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import webbrowser
from typing import Any

from components.cxr.errors import UserError
from components.cxr.storage.storage import Root
from components.cxr.termination import sigterm_raises
from components.cxr.tracking.identity import experiment_link
from components.cxr.tracking.mlflow_server import (
    QUIET_ENVIRONMENT,
    MlflowError,
    tracking_uri,
    with_client,
    without_secret,
)

__all__ = ["show_runs"]

READY_S, END_S, POLL_S = 120.0, 10.0, 0.2


def show_runs(root: Root, *, experiment: str, port: int, browse: bool) -> None:
    """Serve MLflow's pages until Ctrl-C; with a tracking server elsewhere only print the address.

    Args:
        experiment: whose runs are shown first.
        browse: open a browser too, where this machine has a screen.

    Raises:
        UserError: the server does not start, such as on a port that is taken, or one elsewhere does not answer.
    """
    uri = tracking_uri(root)
    try:
        experiment_id = with_client(root, lambda client: _id_of(client.get_experiment_by_name(experiment)))
    except MlflowError as error:
        raise UserError(
            "no-mlflow",
            "MLflow refuses or does not answer",
            where=without_secret(uri),
            found=str(error),
            remedy="Check MLFLOW_TRACKING_URI.",
        ) from None
    if not uri.startswith("sqlite:"):
        print(f"runs are tracked by a server: {experiment_link(without_secret(uri), experiment_id)}")
        return
    server = f"http://127.0.0.1:{port}"
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:  # such as MLflow on another root, whose pages would be taken for these
        raise UserError(
            "no-mlflow",
            "MLflow's server does not start",
            where=server,
            found=os.strerror(error.errno or 0),
            remedy="Try another --port.",
        ) from None
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    # A session of its own: Ctrl-C reaches this process alone, which then ends the server without its traceback.
    process = subprocess.Popen(command, env=QUIET_ENVIRONMENT | os.environ, start_new_session=True)
    try:
        with sigterm_raises():
            _wait(process, server)
            link = experiment_link(server, experiment_id)
            print(f"MLflow: {link} (Ctrl-C ends it)", flush=True)
            if browse and (sys.platform in ("darwin", "win32") or os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}):
                webbrowser.open(link)
            while process.poll() is None:  # Polars, which MLflow loads, lets no Ctrl-C wake a wait without end
                time.sleep(POLL_S)
    except KeyboardInterrupt:
        pass
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server with all that it started, which lives on where it only ends itself."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _id_of(experiment: Any) -> str:
    return "0" if experiment is None else str(experiment.experiment_id)


def _wait(process: subprocess.Popen[bytes], server: str) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{server}/health", timeout=5):
            if process.poll() is None:
                return
        time.sleep(0.2)
    raise UserError(
        "no-mlflow", "MLflow's server does not start", where=server, remedy="Its message is above; try another --port."
    )
