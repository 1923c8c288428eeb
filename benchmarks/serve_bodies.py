"""`python -m benchmarks.serve_bodies`: what it costs to take a body of 12 MB from a connection, before anything is
done with it.

An application that only takes the body and answers its length behind each of: a plain socket with a thread per
connection, uvicorn as it comes, with uvloop and httptools where both are installed, and the server's own connections.
Each is a process of its own on loopback; they take turns, one client first and then 32. Milliseconds are medians, with
the server's CPU time per body beside them; the client sends from the same cores. Ends with a line of JSON.
"""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any, NamedTuple

import typer
import uvicorn

from benchmarks.serve_sink import sink
from components.serve.config import ServeConfig
from components.serve.connections import Loop, connection_class

SOCKET, AS_IT_COMES, IN_C, OURS = "a plain socket", "uvicorn, h11", "uvicorn, uvloop and httptools", "cxrflow's"


class Taker(NamedTuple):
    """A process that takes bodies."""

    pid: int
    connect: Callable[[], Callable[[], None]]
    """A new connection; what it returns sends one body and waits for the answer."""


def main(
    megabytes: Annotated[float, typer.Option(help="Of a body.")] = 12.0,
    requests: Annotated[int, typer.Option(help="Of one client.")] = 40,
    clients: Annotated[int, typer.Option(help="At a time.")] = 32,
    each: Annotated[int, typer.Option(help="Requests of each of them in a turn.")] = 3,
    turns: Annotated[int, typer.Option(help="Of the many clients.")] = 3,
    serve: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Time and processor of one body, by what takes it."""
    if serve is not None:
        take_bodies(serve)
        return
    body = bytes(round(megabytes * 1e6))
    has_c = all(importlib.util.find_spec(name) is not None for name in ("uvloop", "httptools"))
    names = [AS_IT_COMES, *([IN_C] if has_c else []), OURS]
    with ExitStack() as running:
        takers = {SOCKET: running.enter_context(plain_socket(body))}
        takers |= {name: running.enter_context(application(name, body)) for name in names}
        one = _turns({name: [taker.connect()] for name, taker in takers.items()}, takers, turns=requests, each=1)
        every = {name: [taker.connect() for _ in range(clients)] for name, taker in takers.items()}
        many = _turns(every, takers, turns=turns, each=each)
    found: dict[str, dict[str, float]] = {}
    print(f"{'':32}{'one client, ms':>16}{'CPU, ms':>10}{f'{clients} clients, per s':>20}{'CPU, ms':>10}")
    for name in takers:
        (seconds, cpu), (seconds_of_many, cpu_of_many) = one[name], many[name]
        found[name] = {
            "one_ms": round(1000 * seconds, 1),
            "one_cpu_ms": round(1000 * cpu, 1),
            "many_per_second": round(clients * each / seconds_of_many, 1),
            "many_cpu_ms": round(1000 * cpu_of_many / (clients * each), 1),
        }
        print(
            f"{name:32}"
            + "".join(f"{value:>{width}}" for value, width in zip(found[name].values(), (16, 10, 20, 10), strict=True))
        )
    told = {"bytes": len(body), "requests": requests, "clients": clients, "each": each, "turns": turns}
    print(json.dumps({"benchmark": "serve-bodies", **told, "takers": found}))


def _turns(
    senders: dict[str, list[Callable[[], None]]], takers: dict[str, Taker], *, turns: int, each: int
) -> dict[str, tuple[float, float]]:
    """Median seconds, and mean processor seconds of the taker, of a turn in which every sender sends so many times."""
    seconds: dict[str, list[float]] = {name: [] for name in senders}
    used = dict.fromkeys(senders, 0.0)
    for turn in range(-1, turns):  # the first warms up
        for name, functions in senders.items():
            before, start = _processor_seconds(takers[name].pid), time.perf_counter()
            _at_a_time(functions, each)
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
                used[name] += _processor_seconds(takers[name].pid) - before
    return {name: (statistics.median(seconds[name]), used[name] / turns) for name in senders}


def _at_a_time(functions: list[Callable[[], None]], each: int) -> None:
    def repeat(function: Callable[[], None]) -> None:
        for _ in range(each):
            function()

    threads = [threading.Thread(target=repeat, args=(function,)) for function in functions[1:]]
    for thread in threads:
        thread.start()
    repeat(functions[0])
    for thread in threads:
        thread.join()


def _processor_seconds(pid: int) -> float:
    """Of all threads of another process so far (Linux: the clock that clock_getcpuclockid(3) names)."""
    return time.clock_gettime(~pid << 3 | 2)


@contextmanager
def plain_socket(body: bytes) -> Iterator[Taker]:
    """Bytes into memory that is used again, without HTTP."""
    with sink(len(body)) as (pid, connect):

        def sender() -> Callable[[], None]:
            taker = connect()
            return lambda: taker.send(body)

        yield Taker(pid, sender)


@contextmanager
def application(name: str, body: bytes) -> Iterator[Taker]:
    """An ASGI server of that name."""
    command = [sys.executable, "-m", "benchmarks.serve_bodies", "--serve", name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with ExitStack() as opened:

            def sender() -> Callable[[], None]:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
                opened.callback(connection.close)

                def send() -> None:
                    connection.request("POST", "/", body=body)
                    answer = connection.getresponse()
                    if (answer.status, answer.read()) != (200, str(len(body)).encode()):
                        raise SystemExit(f"{name}: not all of the body was taken")

                return send

            yield Taker(process.pid, sender)
        assert process.stdin is not None
        process.stdin.close()  # which ends it


def take_bodies(name: str) -> None:
    """Serve the application, with the port on stdout, until stdin ends."""
    options: dict[str, dict[str, Any]] = {
        AS_IT_COMES: {"http": "h11", "loop": "asyncio"},
        IN_C: {"http": "httptools", "loop": "uvloop"},
        OURS: {"http": connection_class(ServeConfig(max_requests=256, max_uploads=256))},
    }
    config = uvicorn.Config(_application, port=0, log_level="warning", access_log=False, ws="none", **options[name])
    server = uvicorn.Server(config)

    def end() -> None:
        sys.stdin.read()
        server.should_exit = True

    async def run() -> None:
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)
        threading.Thread(target=end, daemon=True).start()
        await serving

    factory = (lambda: Loop(10.0)) if name == OURS else config.get_loop_factory()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(run())


async def _application(scope: Any, receive: Any, send: Any) -> None:
    """Answers how many bytes it took; keeps them, as a form's parser must, until all are there."""
    if scope["type"] != "http":
        return
    pieces, more = [], True
    while more:
        message = await receive()
        pieces.append(message["body"])
        more = message.get("more_body", False)
    answer = str(sum(map(len, pieces))).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    typer.run(main)
