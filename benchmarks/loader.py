"""`python -m benchmarks.loader`: images per second into batches, beside other loaders and beside copying memory.

Every contender shows the same films of 224 x 224 in batches of 64, shuffled, as torch tensors with labels and padded
token ids, in one process of its own, from warm files; passes take turns, and medians count. `--metadata` opens the
metadata of a data set of MIMIC-CXR's size in the processes of one machine instead. Both end with a line of JSON.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from scipy.stats import bootstrap

from benchmarks.loader_data import make_films, open_set, write_set
from components.cxr.films.pixel_preset import PixelPreset
from components.train.loading.batches import loaded
from components.train.loading.order import Order

BATCH = 64
PEERS = ("png", "webdataset", "datasets", "litdata")
MIMIC_STUDIES, MIMIC_FILMS = 227_835, 377_110


def main(
    metadata: Annotated[bool, typer.Option(help="Metadata of all processes at MIMIC-CXR's size instead.")] = False,
    images: Annotated[int, typer.Option(help="Films, a multiple of 64.")] = 4096,
    rounds: Annotated[int, typer.Option(help="Passes of each contender.", min=2)] = 7,
    ranks: Annotated[int, typer.Option(help="Processes of one machine, for --metadata.")] = 8,
    studies: Annotated[int, typer.Option(help="Studies, for --metadata.")] = MIMIC_STUDIES,
    peers: Annotated[Path | None, typer.Option(help="Python of the peers' environment; else cxrflow alone.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where files are kept and found again; else temporary.")] = None,
    child: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Images per second, or the memory of metadata."""
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        if child == "cxrflow":
            answer_lines(place)
        elif metadata:
            print(json.dumps(measure_metadata(place, ranks=ranks, num_studies=studies)))
        else:
            print(json.dumps(measure_speed(place, images=images, rounds=rounds, peers=peers)))


def measure_speed(place: Path, *, images: int, rounds: int, peers: Path | None) -> dict[str, Any]:
    """Median images per second of each contender, which all show the same films, labels and tokens."""
    make_films(place, images)
    started = {"cxrflow": start(place, "cxrflow")}
    failed: dict[str, str] = {}
    for name in PEERS if peers is not None else ():
        script = str(Path(__file__).with_name("loader_peers.py"))
        # -P: without it `import statistics` finds the benchmark of that name beside the script.
        process = started[name] = run([str(peers), "-P", script, name, str(place)], place)
        if not (hello := process.stdout.readline()):
            failed[name] = "could not be run"
            started.pop(name).communicate()
            continue
        print(f"{name:<12}{json.loads(hello)['version']}", flush=True)
    shown = {name: ask(process, "check") for name, process in started.items()}
    for name, found in shown.items():
        if (found["images"], found["sums"]) != (images, shown["cxrflow"]["sums"]):
            raise SystemExit(f"{name} does not show the same: {found}")
    films = np.random.default_rng(0).integers(0, 256, (images, 224, 224), dtype=np.uint8)
    rates: dict[str, list[float]] = {name: [] for name in (*started, "memory copy")}
    for _ in range(rounds):
        for name, process in started.items():
            rates[name].append(images / ask(process, "time")["seconds"])
        rates["memory copy"].append(images / copy_seconds(films))
    for process in started.values():
        process.communicate()
    median = {name: round(statistics.median(values)) for name, values in rates.items()}
    for name, rate in median.items():
        print(f"{name:<12}{rate:>10,} images/s   {min(rates[name]):>10,.0f} to {max(rates[name]):,.0f}", flush=True)
    peer = max((name for name in started if name in PEERS), key=lambda name: median[name], default=None)
    return {
        "benchmark": "loader",
        "images": images,
        "rounds": rounds,
        "images_per_second": median,
        "best_peer": peer,
        "over_best_peer": None if peer is None else ratio(rates["cxrflow"], rates[peer]),
        "of_memory_copy": ratio(rates["cxrflow"], rates["memory copy"]),
        "not_run": failed,
    }


def ratio(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Median ratio of passes that took turns, with a 95 % interval from a bootstrap over these pairs."""
    ratios = np.divide(ours, theirs)
    found = bootstrap((ratios,), np.median, n_resamples=2000, method="percentile", rng=0).confidence_interval
    values = {"median": np.median(ratios), "low": found.low, "high": found.high}
    return {name: round(float(value), 3) for name, value in values.items()}


def copy_seconds(films: np.ndarray) -> float:
    """np.copyto of the films, 64 at a time, into memory that is there already."""
    into = np.zeros((BATCH, *films.shape[1:]), np.uint8)
    start = time.perf_counter()
    for first in range(0, len(films), BATCH):
        np.copyto(into, films[first : first + BATCH])
    return time.perf_counter() - start


def answer_lines(place: Path) -> None:
    """cxrflow's passes, as `benchmarks/loader_peers.py` makes the others'."""
    from benchmarks.loader_peers import Shown
    from benchmarks.loader_peers import answer_lines as answer

    torch.set_num_threads(1)
    batches = open_set(place)
    states = torch.from_numpy(batches.studies.states_SP)
    order = Order(batches.studies.labeled_S, batch_size=BATCH)
    epochs = iter(range(1 << 30))

    def shown() -> Iterator[Shown]:
        shares = order.shares(epoch=next(epochs))
        for studies, batch in zip(shares, loaded(batches, shares), strict=True):
            yield batch.films_BVHW, states[studies], batch.tokens_BT

    print(json.dumps({"version": "cxrflow"}), flush=True)
    answer(shown)


def run(command: list[str], place: Path) -> Any:
    """A contender's process."""
    environment = os.environ | {"CXRFLOW_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def start(place: Path, child: str) -> Any:
    """One of cxrflow's own processes, ready."""
    process = run([sys.executable, "-m", "benchmarks.loader", "--child", child, "--folder", str(place)], place)
    process.stdout.readline()
    return process


def ask(process: Any, what: str) -> dict[str, Any]:
    """Have a process do its work once."""
    process.stdin.write(f"{what}\n")
    process.stdin.flush()
    return dict(json.loads(process.stdout.readline()))


def measure_metadata(place: Path, *, ranks: int, num_studies: int) -> dict[str, Any]:
    """What the processes of one machine hold of a data set's metadata, once it is open in all of them."""
    num_films = round(num_studies * MIMIC_FILMS / MIMIC_STUDIES)
    if not (place / "data" / "manifest.json").exists():
        rng, preset = np.random.default_rng(0), PixelPreset(size=16)
        films_of = 1 + np.bincount(rng.integers(0, num_studies, num_films - num_studies), minlength=num_studies)
        blank = np.zeros((16, 16), np.uint8)
        write_set(place / "data", films_of.tolist(), preset=preset, pixels=lambda: blank, rng=rng)
    os.environ["CXRFLOW_CACHE"] = str(place / "cache")
    torch.set_num_threads(1)
    fork, seconds, held = multiprocessing.get_context("fork"), {}, np.zeros(ranks)
    for state in ("cold", "warm"):
        pipes = [fork.Pipe() for _ in range(ranks)]
        processes = [fork.Process(target=open_when_told, args=(place, theirs)) for _, theirs in pipes]
        for process in processes:
            process.start()
        before = told(pipes)
        seconds[state] = round(max(told(pipes)), 1)  # all at once
        held = np.array(told(pipes)) - before
        told(pipes)
        for process in processes:
            process.join()
    print(f"{num_studies:,} studies, {num_films:,} films: {statistics.median(held) / 1e6:.0f} MB per process")
    return {
        "benchmark": "loader-metadata",
        "studies": num_studies,
        "films": num_films,
        "processes": ranks,
        "metadata_mb_per_process": round(statistics.median(held) / 1e6),
        "metadata_mb": round(held.sum() / 1e6),
        "seconds_to_open": seconds,
    }


def told(pipes: list[tuple[Any, Any]]) -> list[float]:
    """Have every process take its next step, and what each says after it."""
    for ours, _ in pipes:
        ours.send("go")
    return [ours.recv() for ours, _ in pipes]


def open_when_told(place: Path, pipe: Any) -> None:
    """Say this process's memory, open the data set, say how long that took, and say the memory again."""
    gc.freeze()  # what the parent had is not collected, and so not copied
    pipe.recv()
    pipe.send(memory())
    pipe.recv()
    start = time.perf_counter()
    batches = open_set(place)
    batches[[0, len(batches.studies) - 1]]
    gc.collect()
    pipe.send(time.perf_counter() - start)
    pipe.recv()
    pipe.send(memory())
    pipe.recv()
    pipe.send(0.0)


def memory() -> float:
    """Bytes of this process's memory; a page that n processes share counts as 1/n (PSS)."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return 1024.0 * int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1])


if __name__ == "__main__":
    typer.run(main)
