"""The process in which films are decoded: `python -m components.cxr.films.decoder_process` started by spawned.py.

It reads requests from stdin, each a line of JSON and `length` bytes of a film in the shared memory whose descriptor was
passed, and answers with a line of JSON, followed by the pixels. It ends with its parent, however that ends.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

from components.cxr.films.shared_memory import FilmMemory

__all__ = ["end_with_parent", "main"]

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4


def end_with_parent(parent: int) -> None:
    """Let the kernel kill this process when the thread that started it ends: a decoder that spins runs no Python."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # no core dump holds a film, whatever collects them


def main() -> None:
    """Answer requests until stdin ends."""
    end_with_parent(int(sys.argv[1]))
    films, memory_bytes = FilmMemory(int(sys.argv[2]), writable=False), int(sys.argv[3])
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    _load_decoders()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):  # libraries print what they meet there, and quote the file
        os.dup2(nothing, stream)
    most = _virtual_bytes() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    _write(answers, {"ready": True})
    while line := requests.readline():
        _answer(json.loads(line), films, answers)


def _load_decoders() -> None:
    import cv2

    import components.cxr.films.codecs as codecs
    from components.cxr.films.pixels import read_film

    del read_film
    cv2.setNumThreads(1)
    codecs.load_decoders()


def _answer(request: dict[str, Any], films: FilmMemory, answers: BinaryIO) -> None:
    from components.cxr.films.limits import DecodeLimits
    from components.cxr.films.pixel_preset import PixelPreset
    from components.cxr.films.pixels import FilmError, read_film

    preset, limits = PixelPreset.model_validate(request["preset"]), DecodeLimits.model_validate(request["limits"])
    try:
        film = read_film(films.read(request["length"]), preset=preset, limits=limits)
    except FilmError as error:
        _write(answers, {"code": error.code, "reason": error.reason})
    except MemoryError:
        _write(answers, {"memory": True})
    else:
        head = {field.name: getattr(film, field.name) for field in dataclasses.fields(film) if field.name != "pixels"}
        _write(answers, head, film.pixels.tobytes())


def _write(answers: BinaryIO, head: dict[str, Any], body: bytes = b"") -> None:
    answers.write(json.dumps(head).encode() + b"\n" + body)
    answers.flush()


def _virtual_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main()
