"""`python -m benchmarks.serve`: what the server adds to reading a film and running the model on it.

A real server process on loopback answers films of 12 MB from one client and from 32, beside the same work without a
server: latency against reading, a bare forward pass and 5 ms, with what a plain socket takes for the same bytes, which
is in the latency and not in what it is held against; throughput against the offline rate, films read by as
many threads as the server has and answered in batches as large. Plain sockets and the offline work, one after the
other on the same cores, would reach `ratio_without_a_server` of that rate. All take turns; ratios are of medians, with
95 % intervals from a bootstrap over requests or turns. A process of its own asks /healthz every 20 ms meanwhile. The
client sends from the same cores. Ends with a line of JSON.
"""

from __future__ import annotations

import functools
import http.client
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
import typer
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1
from scipy.stats import bootstrap

from benchmarks.film_files import make_film, transcode
from benchmarks.serve_model import with_encoder
from benchmarks.serve_sink import sink
from components.cxr.model.batch import Study
from components.cxr.model.predictor import predict
from components.cxr.storage.storage import Root, Storage, open_storage
from components.serve.config import ServeConfig
from components.serve.deployment import nothing_deployed, read_deployment
from components.serve.golden import RunningServer, running_server
from components.serve.predictor import StudyPredictor
from components.serve.server import READY_AFTER

__all__ = ["ENCODERS", "deployed", "measure"]

ENCODINGS = {"raw": None, "jpeg-lossless": JPEGLosslessSV1, "jpeg2000": JPEG2000Lossless}
ALLOWED_MS = 5.0
PARTS = ("upload", "form", "read", "model")
"""Of a request, as the server's log has them."""
ENCODERS: dict[str, dict[str, Any]] = {
    "resnet-50": {"model_type": "resnet"},
    "convnextv2-tiny": {"model_type": "convnextv2"},
}
"""In the shape that the transformers library has for each type."""


def main(
    root: Annotated[str, typer.Option(help="Of a finished run, whose deployed model is served.")] = "runs/demo",
    bundle: Annotated[str | None, typer.Option(help="Serve this model in place of the root's.")] = None,
    evaluation: Annotated[str | None, typer.Option(help="Its operating points.")] = None,
    encoder: Annotated[
        str | None, typer.Option(help=f"Give the model this encoder with random weights: {', '.join(ENCODERS)}.")
    ] = None,
    size: Annotated[int, typer.Option(help="Side of that encoder's films in pixels.")] = 224,
    engine: Annotated[Literal["torch", "onnx"], typer.Option(help="As in serve.engine.")] = "torch",
    requests: Annotated[int, typer.Option(help="Of one client, for each encoding.")] = 40,
    clients: Annotated[int, typer.Option(help="At a time.")] = 32,
    each: Annotated[int, typer.Option(help="Requests of each of them in a turn.")] = 3,
    turns: Annotated[int, typer.Option(help="Of the clients and of the offline work.")] = 5,
    encoding: Annotated[list[str] | None, typer.Option(help=f"Any of {', '.join(ENCODINGS)}; all by default.")] = None,
    quick: Annotated[bool, typer.Option(help="Small films and few: whether it runs.")] = False,
) -> None:
    """Latency, throughput, health under load and time to start of the server."""
    with tempfile.TemporaryDirectory() as temporary:
        points = None if evaluation is None else open_storage(evaluation)
        model = deployed(root) if bundle is None else open_storage(bundle)
        if encoder is not None:
            model, points = with_encoder(model, points, Path(temporary), ENCODERS[encoder], size=size), None
        shape, counts = (2500, 2400), (requests, clients, each, turns)
        if quick:
            shape, counts = (250, 240), (4, 4, 1, 2)
        found = measure(
            model,
            points,
            shape,
            encodings=encoding or list(ENCODINGS),
            engine=engine,
            requests=counts[0],
            clients=counts[1],
            each=counts[2],
            turns=counts[3],
        )
        print(json.dumps({"benchmark": "serve", "encoder": encoder or "the bundle's", "engine": engine, **found}))


def measure(
    model: Storage, points: Storage | None, shape: tuple[int, int], *, encodings: Sequence[str],
    requests: int, clients: int, each: int, turns: int, engine: Literal["torch", "onnx"] = "torch",
) -> dict[str, Any]:  # fmt: skip
    """All numbers of one model, as in the module's docstring.

    Args:
        points: folder of the operating points; None where they lie beside the model.
        shape: rows and columns of the film, of 16 bits.
        encodings: names of ENCODINGS; the first one's numbers are the summary's.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    readers = os.cpu_count() or 1
    config = ServeConfig(engine=engine, readers=readers, max_requests=4 * clients, max_uploads=4 * clients)
    raw = make_film(*shape)
    syntaxes = {name: ENCODINGS[name] for name in encodings}
    films = {name: raw if syntax is None else transcode(raw, syntax) for name, syntax in syntaxes.items()}
    predictor = StudyPredictor.of(config, model, points)
    with predictor.reader, running_server(config, model, points) as server:
        alone = {name: latencies(predictor, server, film, requests) for name, film in films.items()}
        many = {
            name: throughputs(predictor, server, film, config, clients=clients, each=each, turns=turns)
            for name, film in films.items()
        }
    started = start_seconds(config, model, points, turns=1 + turns // 3)
    for name in films:
        one, load = alone[name], many[name]
        print(
            f"{name:<14}{one['request_ms']:>8} ms of {one['bare_ms']} ms (a socket alone {one['loopback_ms']} ms)"
            f"{load['requests_per_second']:>8}/s of "
            f"{load['offline_per_second']}/s, /healthz p99 {load['health_p99_ms']} ms",
            flush=True,
        )
        print(f"  of which{''.join(f'{part:>8} {ms} ms' for part, ms in one['of_which_ms'].items())}", flush=True)
    return {
        "film": f"{shape[1]} x {shape[0]}, {len(raw)} bytes",
        "pixels": predictor.bundle.info.pixel_preset.size,
        "cores": os.cpu_count(),
        "requests": requests,
        "clients": clients,
        "turns": turns,
        "latency_ratio": alone[encodings[0]]["ratio"],
        "latency_ratio_ci": alone[encodings[0]]["ratio_ci"],
        "throughput_ratio": many[encodings[0]]["ratio"],
        "throughput_ratio_ci": many[encodings[0]]["ratio_ci"],
        "health_p99_ms_under_load": many[encodings[0]]["health_p99_ms"],
        "start_s": started,
        "one_client": alone,
        "many_clients": many,
    }


def latencies(predictor: StudyPredictor, server: RunningServer, film: bytes, requests: int) -> dict[str, Any]:
    """One request, beside reading the film and a forward pass, in turns."""
    client = Client(server.address, film)

    def bare() -> None:
        pixels = predictor.reader.read(film, preset=predictor.bundle.info.pixel_preset).pixels
        study = Study(films=[pixels], view_positions=[None], text="", age_years=None, sex=None)
        predict(predictor.bundle, [study], device=predictor.device)

    seconds: dict[str, list[float]] = {"request": [], "bare": [], "loopback": []}
    with sink(len(film)) as (_, connect):
        taker = connect()
        turn_of: dict[str, Callable[[], object]] = {
            "request": client.ask,
            "bare": bare,
            "loopback": functools.partial(taker.send, film),
        }
        for turn in range(requests + 3):
            for name, function in turn_of.items():
                start = time.perf_counter()
                function()
                if turn >= 3:  # the first ones warm up
                    seconds[name].append(time.perf_counter() - start)
    client.close()
    allowed = [value + ALLOWED_MS / 1000 for value in seconds["bare"]]
    return {
        "request_ms": round(1000 * statistics.median(seconds["request"]), 1),
        "bare_ms": round(1000 * statistics.median(seconds["bare"]), 1),
        "loopback_ms": round(1000 * statistics.median(seconds["loopback"]), 1),
        "of_which_ms": of_which(server, requests),
        **ratio(seconds["request"], allowed),
    }


def of_which(server: RunningServer, requests: int) -> dict[str, float]:
    """Median milliseconds of each part of the newest requests, as the server logs them."""
    lines = [line for line in server.log.read_text().splitlines() if line.startswith("{")]
    parts = [told for told in map(json.loads, lines) if told.get("path") == "/v1/predict"][-requests:]
    return {part: round(statistics.median(told[f"{part}_ms"] for told in parts), 1) for part in PARTS}


def throughputs(
    predictor: StudyPredictor, server: RunningServer, film: bytes, config: ServeConfig, *, clients: int, each: int,
    turns: int,
) -> dict[str, Any]:  # fmt: skip
    """Many clients at a time, beside the offline rate, in turns."""
    rates: dict[str, list[float]] = {"server": [], "offline": [], "loopback": []}
    health: list[float] = []
    offline(predictor, film, config, count=config.max_batch_films)
    under_load(server, film, clients=clients, each=1)
    for _ in range(turns):
        rates["offline"].append(offline(predictor, film, config, count=clients * each))
        rate, waited = under_load(server, film, clients=clients, each=each)
        rates["server"].append(rate)
        health += waited
        with sink(len(film)) as (_, connect):
            sends = [functools.partial(connect().send, film) for _ in range(clients)]
            rates["loopback"].append(clients * each / at_a_time(sends, each))
    offline_rate, loopback_rate = (statistics.median(rates[name]) for name in ("offline", "loopback"))
    return {
        "requests_per_second": round(statistics.median(rates["server"]), 1),
        "offline_per_second": round(offline_rate, 1),
        "loopback_per_second": round(loopback_rate, 1),
        "ratio_without_a_server": round(1 / (1 + offline_rate / loopback_rate), 3),
        **ratio(rates["server"], rates["offline"]),
        "health_p99_ms": round(1000 * float(np.percentile(health, 99)), 1),
    }


def offline(predictor: StudyPredictor, film: bytes, config: ServeConfig, *, count: int) -> float:
    """Films per second, read by as many threads as the server's and answered in batches of the server's size."""
    start = time.perf_counter()
    with ThreadPoolExecutor(config.readers) as pool:
        read = pool.map(predictor.read, itertools.repeat([film], count))
        while batch := list(itertools.islice(read, config.max_batch_films)):
            predictor.answer(batch)
    return count / (time.perf_counter() - start)


def under_load(server: RunningServer, film: bytes, *, clients: int, each: int) -> tuple[float, list[float]]:
    """Requests per second of clients that ask `each` times without a pause, and seconds of /healthz meanwhile."""
    command = [sys.executable, "-m", "benchmarks.serve_probe", server.address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as health:
        assert health.stdin is not None
        assert health.stdout is not None
        health.stdout.readline()
        every = [Client(server.address, film) for _ in range(clients)]
        health.stdin.write("go\n")
        health.stdin.flush()
        seconds = at_a_time([client.ask for client in every], each)
        waited, _ = health.communicate()
    for client in every:
        client.close()
    assert all(client.answered == each for client in every)
    return clients * each / seconds, json.loads(waited)


class Client:
    """One connection that sends the same film again and again, as a form's field."""

    def __init__(self, address: str, film: bytes, *, path: str = "/v1/predict", field: str = "files") -> None:
        self._path = path
        self._connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=600)
        self._connection.connect()
        # As long as browsers, curl and requests make it: a body is searched for a boundary of one letter 4 ms longer.
        self._boundary = uuid.uuid4().hex
        head = f'--{self._boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="f"\r\n\r\n'
        self._body = head.encode() + film + f"\r\n--{self._boundary}--\r\n".encode()
        self.answered = 0

    def ask(self) -> bytes:
        """Send it and read the answer.

        Raises:
            SystemExit: it is an error.
        """
        headers = {"Content-Type": f"multipart/form-data; boundary={self._boundary}", "Host": "localhost"}
        self._connection.request("POST", self._path, body=self._body, headers=headers)
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise SystemExit(f"{self._path} answers {response.status}: {body[:300]!r}")
        self.answered += 1
        return body

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def start_seconds(config: ServeConfig, model: Storage, points: Storage | None, *, turns: int) -> float:
    """Median seconds from the end of a server's imports until it is ready, as it says itself."""
    found = []
    for _ in range(turns):
        with running_server(config, model, points) as server:
            line = next(line for line in server.log.read_text().splitlines() if line.startswith(READY_AFTER))
            found.append(float(line.removeprefix(READY_AFTER).removesuffix(" s")))
    return round(statistics.median(found), 2)


def ratio(over: Sequence[float], under: Sequence[float]) -> dict[str, Any]:
    """Of the medians, with a 95 % interval over both samples."""

    def of(over_N: Floats, under_N: Floats, axis: int = -1) -> Floats:
        return np.asarray(np.median(over_N, axis=axis) / np.median(under_N, axis=axis))

    ci = bootstrap((over, under), of, n_resamples=2000, method="percentile", rng=0).confidence_interval
    value = statistics.median(over) / statistics.median(under)
    return {"ratio": round(value, 3), "ratio_ci": [round(float(ci.low), 3), round(float(ci.high), 3)]}


Floats = npt.NDArray[np.float64]


def at_a_time(functions: Sequence[Callable[[], object]], each: int) -> float:
    """Of all of them at a time, each so many times."""
    threads = [threading.Thread(target=_repeat, args=(function, each)) for function in functions]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


def _repeat(function: Callable[[], object], count: int) -> None:
    for _ in range(count):
        function()


def deployed(root: str) -> Storage:
    """Folder of the model that a finished run's root has deployed.

    Raises:
        UserError: none is.
    """
    where = Root(root)
    current = read_deployment(where).deployment
    if current is None:
        raise nothing_deployed(where, remedy="Run `make demo`, or pass --bundle and --evaluation.")
    return where.at(current.bundle)


if __name__ == "__main__":
    typer.run(main)
