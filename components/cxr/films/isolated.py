"""Films from files that nobody vouches for: whatever needs a decoder is decoded in a process that may die or be killed.

GDCM ends its process at some damaged streams, and pylibjpeg never returns from others while it holds the interpreter's
lock, so that neither a thread nor a signal handler could stop it.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Self

from components.cxr.films.dicom import ITEM, is_dicom
from components.cxr.films.limits import DecodeLimits
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.films.pixels import Film, FilmError, read_plain_film
from components.cxr.films.raster import is_raster
from components.cxr.films.spawned import DecoderProcess, DiedError, OutOfMemoryError, OverrunError

__all__ = ["FilmReader", "plain_pixels_at"]

_MOST_HEADER = 1 << 19
"""Bytes of a header that is parsed in this process; pydicom takes up to 10 s for a megabyte of empty items."""
_UNDEFINED = 0xFFFFFFFF
"""Length of a value that ends with a delimiter, as fragments do."""
_TRAILER = 1 << 16
"""Bytes that may follow plain pixels."""


class FilmReader:
    """Reads films as read_film does; a film that kills, freezes or fills a decoder's process costs no more than itself.

    Plain pixels are read in this process, as nothing there can fail. Other films go to a process of their own, which is
    started when one is first needed, is used again, and is replaced when it dies. Threads may read at the same time;
    each has its process. Processes end with this one, however it ends.

    >>> import numpy as np
    >>> from components.cxr.films.pixels import encode_png
    >>> ramp = np.tile(np.arange(256, dtype=np.uint8), (128, 1))
    >>> with FilmReader(DecodeLimits(seconds=120)) as reader:
    ...     film = reader.read(encode_png(ramp), preset=PixelPreset(size=64))
    >>> film.pixels.shape
    (64, 64)

    Args:
        limits: what a film may cost.
    """

    def __init__(self, limits: DecodeLimits | None = None) -> None:
        self.limits = limits or DecodeLimits()
        self.crashed = 0
        """Films whose process died, twice each."""
        self.hung = 0
        """Films whose process was killed for its time."""
        self._forget_processes()

    def _forget_processes(self) -> None:
        self._owner, self._closed, self._lock = os.getpid(), False, threading.Lock()
        self._processes: dict[DecoderProcess, bool] = {}
        """Those that live, and whether each is at work."""
        self._finalizer = weakref.finalize(self, _end, self._processes)

    def read(self, data: bytes, *, preset: PixelPreset) -> Film:
        """Turn the bytes of a DICOM, PNG or JPEG file into square uint8 pixels.

        Raises:
            FilmError: as read_film; also `decoder-crashed`, `decoder-hung`, or `too-large` when it takes more memory
                than it may.
            UserError: no process can be started.
            RuntimeError: the reader is closed.
        """
        if (position := plain_pixels_at(data)) is not None:
            film = read_plain_film(data, preset=preset, limits=self.limits, pixels_at=position)
            if film is not None:
                return film
        if not is_dicom(data) and not is_raster(data):
            raise FilmError("unknown-format", "neither DICOM, PNG nor JPEG")
        if len(data) > self.limits.memory_bytes:
            raise FilmError("too-large", f"a file of {len(data)} bytes, at most {self.limits.memory_bytes}")
        try:
            return self._decode(data, preset, new=False)
        except (DiedError, OutOfMemoryError):
            pass  # perhaps at what an earlier film left behind: only a new process is sure that it was this one
        try:
            return self._decode(data, preset, new=True)
        except DiedError:
            self.crashed += 1
            raise FilmError("decoder-crashed", "a decoder ended its process at this film") from None
        except OutOfMemoryError:
            most = self.limits.memory_bytes
            raise FilmError("too-large", f"decoding takes more than {most} bytes of memory") from None

    def start(self) -> None:
        """Start a process now, so that the first film need not wait for it."""
        self._release(self._take(new=True))

    def process_ids(self) -> list[int]:
        """Of the decoders' processes that live now."""
        with self._lock:
            return [process.id for process in self._processes]

    def close(self) -> None:
        """End all processes; a film that is being read is given up."""
        with self._lock:
            self._closed = True
        if self._owner == os.getpid():
            self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _decode(self, data: bytes, preset: PixelPreset, *, new: bool) -> Film:
        process = self._take(new=new)
        try:
            film = process.read(data, preset, self.limits)
        except FilmError:
            self._release(process)
            raise
        except OverrunError:
            self._drop(process)
            self.hung += 1
            raise FilmError("decoder-hung", f"not decoded within {self.limits.seconds:g} s") from None
        except BaseException:
            self._drop(process)
            raise
        self._release(process)
        return film

    def _take(self, *, new: bool) -> DecoderProcess:
        if self._owner != os.getpid():  # forked: the processes are those of the parent
            self._finalizer.detach()
            self._forget_processes()
        with self._lock:
            if self._closed:
                raise RuntimeError("the reader is closed")
            idle = next((process for process, busy in self._processes.items() if not busy), None)
            if idle is not None and not new:
                self._processes[idle] = True
                return idle
        process = DecoderProcess(self.limits.memory_bytes)
        with self._lock:
            if not self._closed:
                self._processes[process] = True
                return process
        process.kill()
        raise RuntimeError("the reader is closed")

    def _release(self, process: DecoderProcess) -> None:
        with self._lock:
            self._processes[process] = False

    def _drop(self, process: DecoderProcess) -> None:
        process.kill()
        with self._lock:
            self._processes.pop(process, None)


def plain_pixels_at(data: bytes) -> int | None:
    """Where a DICOM file's pixel data element begins that is not compressed and ends the file; None where none does."""
    for tag, order in ((b"\xe0\x7f\x10\x00", "little"), (b"\x7f\xe0\x00\x10", "big")):
        at = data.find(tag, 0, _MOST_HEADER)
        while at >= 0:
            for start in (at + 12, at + 8):
                length = int.from_bytes(data[start - 4 : start], "little" if order == "little" else "big")
                if length == _UNDEFINED and data[start : start + 4] == ITEM:
                    return None  # fragments; the rest of the 512 KiB would take .7 ms to search
                if 0 <= len(data) - start - length <= _TRAILER and length:
                    return at
            at = data.find(tag, at + 1, _MOST_HEADER)
    return None


def _end(processes: dict[DecoderProcess, bool]) -> None:
    for process, busy in [*processes.items()]:
        if busy:
            process.stop()  # its thread then drops it
        else:
            processes.pop(process, None)
            process.kill()
