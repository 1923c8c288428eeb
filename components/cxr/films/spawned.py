"""The other end of decoder_process.py: starts it, hands it films, and waits for its answers no longer than allowed."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from components.cxr.errors import UserError
from components.cxr.films.limits import DecodeLimits
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.films.pixels import Film, FilmError
from components.cxr.films.shared_memory import FilmMemory

__all__ = ["DecoderProcess", "DiedError", "OutOfMemoryError", "OverrunError"]

Process = subprocess.Popen[bytes]

_START_SECONDS = 300.0
"""For a process to start: 1.3 s of imports, on a machine that may be busy."""
_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "TZ")
"""Environment of a decoder's process, which is to know no secret; and what begins with LC_, LD_ and PYTHON."""


class DiedError(Exception):
    """The process ended by itself."""


class OverrunError(Exception):
    """The process took too long."""


class OutOfMemoryError(Exception):
    """The process was refused memory."""


class DecoderProcess:
    """One running decoder_process.py, and the memory in which it finds its film."""

    def __init__(self, memory_bytes: int) -> None:
        self._film = FilmMemory(os.memfd_create("film"), writable=True)
        self._rest = b""
        try:
            self._process = _in_lasting_thread(lambda: _spawn(self._film.number, memory_bytes))
        except BaseException:
            self._film.close()
            raise
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout.fileno()
        self.id = self._process.pid
        try:
            self._read_line(time.monotonic() + _START_SECONDS)
        except (DiedError, OverrunError):
            self.kill()
            raise UserError(
                "decoder-not-started",
                "the process in which films are decoded cannot be started",
                remedy="It says why above; a folder named dl, gdcm or pylibjpeg on the Python path is a usual reason.",
            ) from None
        except BaseException:
            self.kill()
            raise

    def read(self, data: bytes, preset: PixelPreset, limits: DecodeLimits) -> Film:
        """Have a film read.

        Raises:
            FilmError: as read_film.
            DiedError, OverrunError, OutOfMemoryError: the process is to be killed.
        """
        deadline = time.monotonic() + limits.seconds
        self._film.write(data)
        request = {"length": len(data), "preset": preset.model_dump(), "limits": limits.model_dump()}
        try:
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.flush()
        except BrokenPipeError:
            raise DiedError from None
        head = json.loads(self._read_line(deadline))
        if head.get("memory"):
            raise OutOfMemoryError
        if "code" in head:
            raise FilmError(head["code"], head["reason"])
        pixels = np.frombuffer(self._read_bytes(preset.size**2, deadline), np.uint8)
        head["extent"] = tuple(head["extent"])
        return Film(pixels.reshape(preset.size, preset.size).copy(), **head)

    def stop(self) -> None:
        """End the process, whatever it does; whoever waits for its answer sees that it died."""
        self._process.kill()

    def kill(self) -> None:
        """End the process and give back what it used."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
        with contextlib.suppress(OSError):
            self._film.close()

    def _read_line(self, deadline: float) -> bytes:
        while b"\n" not in self._rest:
            self._rest += self._receive(deadline)
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _read_bytes(self, number: int, deadline: float) -> bytes:
        parts, missing = [self._rest[:number]], number - len(self._rest)
        self._rest = self._rest[number:]
        while missing > 0:
            parts.append(part := self._receive(deadline))
            missing -= len(part)
        return b"".join(parts)

    def _receive(self, deadline: float) -> bytes:
        poll = select.poll()
        poll.register(self._answers, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise OverrunError
        data = os.read(self._answers, 1 << 20)
        if not data:
            raise DiedError
        return data


def _spawn(film: int, memory_bytes: int) -> Process:
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    kept = {n: v for n, v in os.environ.items() if n in _PASSED_ON or n.startswith(("LC_", "LD_", "PYTHON"))}
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    # Freed memory is kept for the next film: with every array fetched anew from the kernel RLE takes 46 ms, not 25.
    memory = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(128 << 20)}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "components.cxr.films.decoder_process"]
        + [str(number) for number in (os.getpid(), film, memory_bytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**kept, **threads, **memory, "PYTHONPATH": path},
        pass_fds=[film],
    )


_calls: queue.SimpleQueue[tuple[Callable[[], Process], Future[Process]]] | None = None
_calls_lock = threading.Lock()


def _in_lasting_thread(function: Callable[[], Process]) -> Process:
    """Call it in a thread that ends with the process: the kernel kills a child when the *thread* that made it ends."""
    global _calls
    with _calls_lock:
        if _calls is None:
            _calls = queue.SimpleQueue()
            threading.Thread(target=_serve_calls, args=(_calls,), name="starts decoders", daemon=True).start()
    future: Future[Process] = Future()
    _calls.put((function, future))
    return future.result()


def _serve_calls(calls: queue.SimpleQueue[tuple[Callable[[], Process], Future[Process]]]) -> None:
    # Inherited by the processes: signals to the whole group (Ctrl-C) are for this process, which then ends them.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})
    while True:
        function, future = calls.get()
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)


def _forget_thread() -> None:
    global _calls, _calls_lock
    _calls, _calls_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_thread)
