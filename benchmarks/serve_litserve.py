"""`python -m benchmarks.serve_litserve`: the server beside LitServe with the same reading and the same passes.

LitServe batches, and decodes, in `--workers` processes of its own; the server has as many threads that read films. Both
answer films of 12 MB from one client and from many, in turns; ratios are of medians, with 95 % intervals from a
bootstrap over requests or turns. LitServe takes the film as one file of a form, which it hands to its workers as bytes:
an upload that Starlette has put into a temporary file, as it does above 1 MB, cannot go to another process. Needs
litserve, which the project does not: docs/benchmarks.md, section The server. Ends with a line of JSON.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from typing import Annotated, Any

import typer

from benchmarks.film_files import make_film
from benchmarks.serve import Client, at_a_time, deployed, ratio
from components.cxr.cli import run_cli
from components.cxr.errors import UserError
from components.serve.config import ServeConfig
from components.serve.golden import running_server

OURS, THEIRS = "cxrflow's", "LitServe"
START_S = 120


def main(
    root: Annotated[str, typer.Option(help="Of a finished run, whose deployed model is served.")] = "runs/demo",
    workers: Annotated[int, typer.Option(help="Processes of LitServe, and threads of ours that read films.")] = 2,
    wait_ms: Annotated[float, typer.Option(help="LitServe's wait for company; 0 keeps every worker spinning.")] = 5.0,
    requests: Annotated[int, typer.Option(help="Of one client.")] = 40,
    clients: Annotated[int, typer.Option(help="At a time.")] = 32,
    each: Annotated[int, typer.Option(help="Requests of each of them in a turn.")] = 3,
    turns: Annotated[int, typer.Option(help="Of the many clients.")] = 5,
) -> None:
    """One request, and requests per second of many clients."""
    if find_spec("litserve") is None:
        raise UserError("no-litserve", "litserve is not installed", remedy="pip install litserve")
    model = deployed(root)
    film = make_film(2500, 2400)
    config = ServeConfig(readers=workers, max_requests=4 * clients, max_uploads=4 * clients)
    with running_server(config, model) as ours, litserve(model.uri, workers=workers, wait_ms=wait_ms) as theirs:
        client_of = {
            OURS: functools.partial(Client, ours.address, film),
            THEIRS: functools.partial(Client, theirs, film, path="/predict", field="request"),
        }
        one: dict[str, list[float]] = {name: [] for name in client_of}
        many: dict[str, list[float]] = {name: [] for name in client_of}
        alone = {name: make() for name, make in client_of.items()}
        check_same(alone)
        for turn in range(requests + 3):
            for name, client in alone.items():
                start = time.perf_counter()
                client.ask()
                if turn >= 3:  # the first ones warm up
                    one[name].append(time.perf_counter() - start)
        every = {name: [make() for _ in range(clients)] for name, make in client_of.items()}
        for turn in range(turns + 1):
            for name, those in every.items():
                seconds = at_a_time([client.ask for client in those], each)
                if turn:
                    many[name].append(clients * each / seconds)
    found: dict[str, Any] = {
        "litserve": version("litserve"),
        "workers": workers,
        "wait_ms": wait_ms,
        "clients": clients,
    }
    for name in client_of:
        told = {"ms": 1000 * statistics.median(one[name]), "per_second": statistics.median(many[name])}
        found[name] = {key: round(value, 1) for key, value in told.items()}
        print(f"{name:12}{found[name]['ms']:>10} ms{found[name]['per_second']:>10} requests/s of {clients} clients")
    found["latency_ratio"] = ratio(one[OURS], one[THEIRS])
    found["throughput_ratio"] = ratio(many[OURS], many[THEIRS])
    print(json.dumps({"benchmark": "serve-litserve", **found}))


def check_same(clients: dict[str, Client]) -> None:
    """End the benchmark where the two do not give one answer."""
    ours = {name: told["probability"] for name, told in json.loads(clients[OURS].ask())["answers"].items()}
    theirs = json.loads(clients[THEIRS].ask())
    if any(abs(ours[name] - theirs[name]) > 1e-5 for name in ours):
        raise SystemExit("the two servers give different answers")


@contextmanager
def litserve(model: str, *, workers: int, wait_ms: float) -> Iterator[str]:
    """The address of a LitServe process, stopped afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = [model, str(port), str(workers), str(wait_ms)]
    command = [sys.executable, "-m", "benchmarks.serve_litserve_peer", *settings]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.2)
    raise SystemExit("LitServe does not start")


if __name__ == "__main__":
    run_cli(main)
