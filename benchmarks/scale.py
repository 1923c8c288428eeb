"""Preprocess over thousands of small films, over few full-size ones, and a plan of all of MIMIC-CXR: time and memory.

`python -m benchmarks.scale films|full|stages|plan|links`; each prints a table and ends with one line of JSON.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer
import yaml

from benchmarks.mimic_layout import FilmMaker, write_mimic

MIMIC_FILMS = 377_110
MIMIC_BYTES = 4.7e12

Folder = Annotated[Path | None, typer.Option(help="Where the films are kept and found again; else a temporary folder.")]
app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def films(
    folder: Folder = None,
    counts: Annotated[str, typer.Option(help="Numbers of films, ascending.")] = "2500,5000,10000,20000",
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 2,
) -> None:
    """Small films (128 x 128): is memory flat, and is time in proportion to the number of films?"""
    numbers = [int(count) for count in counts.split(",")]
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        maker = FilmMaker(128, 128, distinct=64)
        heads = ("films", "seconds", "CPU s", "films/s", "parent MB", "planner MB", "worker MB")
        print("".join(f"{head:>11}" for head in heads))
        rows = []
        for number in numbers:
            source = place / f"small-{number}"
            if not (source / "mimic-cxr-2.0.0-chexpert.csv.gz").exists():
                write_mimic(source, number, film=maker)
            row = {"films": number} | measure(source, workers=workers)
            rows.append(row)
            print("".join(f"{value:>11}" for value in row.values()), flush=True)
    first, last = rows[0], rows[-1]
    result = {
        "benchmark": "scale",
        "films": last["films"],
        "workers": workers,
        "seconds": last["seconds"],
        "parent_mb": last["parent_mb"],
        "worker_mb": last["worker_mb"],
        "parent_growth": round(last["parent_mb"] / first["parent_mb"], 3),
        "worker_growth": round(last["worker_mb"] / first["worker_mb"], 3),
        "cpu_per_film_growth": round(
            (last["cpu_seconds"] / last["films"]) / (first["cpu_seconds"] / first["films"]), 3
        ),
    }
    print(json.dumps(result))


@app.command()
def full(
    folder: Folder = None,
    number: Annotated[int, typer.Option("--films", help="How many films.")] = 120,
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 2,
) -> None:
    """Films of full size (2544 x 3056, 12 bits, 15.5 MB): core time from end to end, and memory."""
    with tempfile.TemporaryDirectory() as temporary:
        rows = []
        for films in (number // 5, number):
            source = (folder or Path(temporary)) / f"full-{films}"
            if not (source / "mimic-cxr-2.0.0-chexpert.csv.gz").exists():
                write_mimic(source, films, film=FilmMaker(3056, 2544, distinct=4))
            rows.append(measure(source, workers=workers))
    few, row = rows
    per_film = (row["cpu_seconds"] - few["cpu_seconds"]) / (number - number // 5)
    print(f"films                {number} of 15.5 MB, {workers} workers")
    print(f"seconds              {row['seconds']:.1f} ({row['films_per_second']:.1f} films/s, starting included)")
    print(f"core-seconds         {few['cpu_seconds']} for {number // 5} films, {row['cpu_seconds']} for {number}")
    print(f"core time of a film  {1e3 * per_film:.0f} ms (the difference)")
    print(f"peak memory          parent {row['parent_mb']:.0f} MB, a worker {row['worker_mb']:.0f} MB")
    print(
        json.dumps(
            {
                "benchmark": "scale-full",
                "films": number,
                "core_ms_per_film": round(1e3 * per_film, 1),
                "films_per_second": row["films_per_second"],
                "parent_mb": row["parent_mb"],
                "worker_mb": row["worker_mb"],
            }
        )
    )


@app.command()
def stages(folder: Folder = None, number: Annotated[int, typer.Option("--films")] = 40) -> None:
    """Where the core time of a full-size film goes: median milliseconds of one thread, read from the page cache."""
    import cv2

    from components.cxr.films.pixel_preset import PixelPreset
    from components.cxr.films.pixels import read_film

    cv2.setNumThreads(1)
    preset = PixelPreset()
    times: dict[str, list[float]] = {"read": [], "decode": [], "compress": []}
    maker = FilmMaker(3056, 2544, distinct=4)
    with tempfile.TemporaryDirectory() as temporary:
        path = (folder or Path(temporary)) / "film.dcm"
        for i in range(number):
            path.write_bytes(maker(i))
            marks = [time.thread_time()]
            data = path.read_bytes()
            marks.append(time.thread_time())
            film = read_film(data, preset=preset)
            marks.append(time.thread_time())
            pa.compress(film.pixels.tobytes(), codec="zstd")
            marks.append(time.thread_time())
            for name, before, after in zip(times, marks, marks[1:], strict=False):
                times[name].append(1e3 * (after - before))
        path.unlink()
    medians = {name: round(statistics.median(values), 1) for name, values in times.items()}
    total = round(sum(medians.values()), 1)
    hours = {gbit: round(MIMIC_BYTES * 8 / (gbit * 1e9) / 3600, 1) for gbit in (1, 5, 10)}
    core_hours = round(total * MIMIC_FILMS / 3.6e6, 1)
    print(f"read {medians['read']} ms, decode and resize {medians['decode']} ms, compress {medians['compress']} ms")
    print(f"computed for MIMIC-CXR's {MIMIC_FILMS:,} films, {MIMIC_BYTES / 1e12:.1f} TB: {core_hours} core-hours")
    print(f"  written: at most {preset.size**2 * MIMIC_FILMS / 1e9:.0f} GB at size {preset.size}")
    for gbit, floor in hours.items():
        print(f"  at {gbit:>2} Gbit/s: {floor} h to read, which {core_hours / floor:.1f} cores keep up with")
    result = {"benchmark": "scale-stages", "core_ms_per_film": total, "mimic_core_hours": core_hours}
    print(json.dumps(result | medians))


@app.command()
def plan(folder: Folder = None, number: Annotated[int, typer.Option("--films")] = MIMIC_FILMS) -> None:
    """The tables and the listing alone, as each partition reads them: 377,110 films and their reports, empty files."""
    with tempfile.TemporaryDirectory() as temporary:
        source = (folder or Path(temporary)) / f"records-{number}"
        if not (source / "mimic-cxr-2.0.0-chexpert.csv.gz").exists():
            write_mimic(source, number, film=None)
        result: dict[str, Any] = {"benchmark": "scale-plan", "films": number}
        for partitions in (1, 16):
            command = [sys.executable, "-m", "benchmarks.scale", "one-plan", str(source), str(partitions)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(f"partition 0 of {partitions:<3} {found}")
            result[f"of_{partitions}"] = found
    print(json.dumps(result))


@app.command()
def links(folder: Folder = None, number: Annotated[int, typer.Option("--films")] = MIMIC_FILMS) -> None:
    """The search for links that lead two patients to one film, over as many empty files."""
    from components.preprocess.adapters.film_paths import check_links

    with tempfile.TemporaryDirectory() as temporary:
        source = (folder or Path(temporary)) / f"records-{number}"
        if not (source / "mimic-cxr-2.0.0-chexpert.csv.gz").exists():
            write_mimic(source, number, film=None)
        films = [path.relative_to(source) for path in source.rglob("*.dcm")]
        patient_of = {str(path): path.parts[-3] for path in films}
        took: dict[str, list[float]] = {"check_links": [], "is_symlink": []}
        for _ in range(3):
            began = time.process_time()
            check_links(patient_of, folder=str(source))
            middle = time.process_time()
            for path in patient_of:
                Path(f"{source}/{path}").is_symlink()
            took["check_links"].append(middle - began)
            took["is_symlink"].append(time.process_time() - middle)
        medians = {name: round(statistics.median(values), 2) for name, values in took.items()}
        print(f"{len(films)} films: {medians['check_links']} CPU s; {medians['is_symlink']} with a Path per film")
        print(json.dumps({"benchmark": "scale-links", "films": len(films), **medians}))


@app.command(hidden=True)
def one_plan(source: Path, partitions: int) -> None:
    """One plan in a fresh process."""
    from components.cxr.storage.storage import Root
    from components.preprocess.config import PreprocessConfig, parse_data
    from components.preprocess.plan import make_plan

    began = time.monotonic()
    data = parse_data({"adapter": "mimic-cxr", "dir": str(source)})
    made = make_plan(
        data, PreprocessConfig(), root=Root(source.parent / "none"), wanted=range(0, sys.maxsize, partitions)
    )
    child = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        json.dumps(
            {
                "seconds": round(time.monotonic() - began, 1),
                "cpu_seconds": round(child.ru_utime + child.ru_stime, 1),
                "planner_mb": round(child.ru_maxrss / 1024),
                "parent_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                "kept_mb": round(sum(len(shard.packed) for shard in made.layout.shards) / 1e6, 1),
            }
        )
    )


def measure(source: Path, *, workers: int) -> dict[str, float]:
    """Preprocess in a fresh process: seconds, and the peak memory of the parent, the planner and any worker."""
    with tempfile.TemporaryDirectory() as out:
        config = Path(out, "config.yaml")
        values = {"root": f"{out}/root", "data": {"adapter": "mimic-cxr", "dir": str(source)}}
        config.write_text(yaml.safe_dump(values | {"preprocess": {"num_workers": workers}}))
        command = [sys.executable, "-m", "components.preprocess", "--config", str(config)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        peaks = Peaks(process.pid)
        _, said = process.communicate()
        seconds = time.monotonic() - began
        peaks.stop()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if process.returncode:
            raise SystemExit(said)
        number = sum(1 for _ in source.rglob("*.dcm"))
        return {
            "seconds": round(seconds, 1),
            "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
            "films_per_second": round(number / seconds, 1),
            **peaks.megabytes(),
        }


class Peaks:
    """Peak resident memory of a process and its children, as the kernel counts it, asked for ten times per second."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._peak: dict[int, int] = {}
        self._order: list[int] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        """No more."""
        self._stopping.set()
        self._thread.join()

    def megabytes(self) -> dict[str, float]:
        """The parent's peak, and the largest among those that read tables (the first and last child) and films."""
        peaks = {pid: self._peak[pid] / 1024 for pid in self._order}
        planners = {pid for pid in self._order if pid in (self._order[0], self._order[-1])}
        return {
            "parent_mb": round(self._peak.get(self._parent, 0) / 1024),
            "planner_mb": round(max((peaks[pid] for pid in planners), default=0)),
            "worker_mb": round(max((peaks[pid] for pid in peaks if pid not in planners), default=0)),
        }

    def _watch(self) -> None:
        while not self._stopping.wait(0.1):
            for entry in os.listdir("/proc"):
                if entry.isdigit():
                    self._look(int(entry))

    def _look(self, pid: int) -> None:
        try:
            status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return
        if "VmHWM" not in status or (pid != self._parent and int(status["PPid"]) != self._parent):
            return
        if pid != self._parent:
            if b"spawn_main" not in command:
                return
            if pid not in self._peak:
                self._order.append(pid)
        self._peak[pid] = max(self._peak.get(pid, 0), int(status["VmHWM"].split()[0]))


if __name__ == "__main__":
    app()
