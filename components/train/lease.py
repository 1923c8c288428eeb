"""One trainer at a time: a small file beside the checkpoints says who trains, and since when.

It is written with compare-and-swap and renewed by a thread and with each checkpoint. Two trainings of one key would
delete each other's checkpoints. Clocks of two machines are never compared closely: a holder is dead when its process on
this machine is gone, or when nobody renews the file while this process watches for LEASE_S.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from components.cxr.config import Config
from components.cxr.errors import UserError
from components.cxr.storage.storage import ABSENT, StaleWriteError, Storage

__all__ = ["LEASE", "LEASE_S", "Holder", "Lease", "leased"]

LEASE = "lease.json"
LEASE_S = 60.0
"""Seconds without renewal after which a trainer counts as dead."""
_LONG_DEAD_S = 900.0
"""Seconds since a renewal, by its own clock, that no difference between two clocks explains."""


class Holder(Config):
    """`lease.json`."""

    host: str
    machine: str
    """Boot and process namespace in which `pid` means something; empty where unknown."""
    pid: int
    started: int
    """The process's start in clock ticks since boot: a restarted container's first process is 1 again."""
    since: str
    """UTC time when the training began."""
    renewed_s: float
    """Seconds since 1970."""


class _Found(NamedTuple):
    generation: int
    holder: Holder | None
    """None for a file that says nothing."""


@contextlib.contextmanager
def leased(storage: Storage, *, wait: bool = False, lease_s: float = LEASE_S) -> Iterator[Lease]:
    """Hold the lease of a training's checkpoints; it is given back at the end.

    Args:
        wait: until another process that trains this has ended, in place of the error.

    Raises:
        UserError: another process trains this.
    """
    lease = Lease(storage, lease_s=lease_s)
    lease.acquire(wait=wait)
    stop = threading.Event()
    thread = threading.Thread(target=lease.keep, args=(stop,), daemon=True, name="lease")
    thread.start()
    try:
        yield lease
    finally:
        stop.set()
        thread.join()
        lease.release()


class Lease:
    """This process's right to write the checkpoints under `storage`."""

    def __init__(self, storage: Storage, *, lease_s: float) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._storage, self._lease_s = storage, lease_s
        self._ours = Holder(
            host=platform.node(),
            machine=_machine(),
            pid=os.getpid(),
            started=_started(os.getpid()) or 0,
            since=now,
            renewed_s=time.time(),
        )
        self._generation = ABSENT
        self._lock = threading.Lock()

    def acquire(self, *, wait: bool = False) -> None:
        """Take a lease that is free or whose holder is dead; a live holder is noticed when it renews.

        Args:
            wait: for a live holder's end.

        Raises:
            UserError: another process trains this.
        """
        watched: int | None = None
        watching_since, told = 0.0, False
        while True:
            found = self._read()
            over = None if found is None else found.generation
            if found is not None and not self._is_dead(found.holder):
                lives_here = found.holder is not None and _is_alive(found.holder, self._ours)
                if lives_here or watched not in (None, found.generation):
                    if not wait:
                        raise self._held(found.holder)
                    if not told:
                        told = True
                        print(f"train: waiting for {_name(found.holder)}, which trains this", flush=True)
                elif watched is None:
                    place = "a trainer" if found.holder is None else f"the trainer on {found.holder.host}"
                    print(f"train: waiting up to {self._lease_s:.0f} s to see whether {place} lives", flush=True)
                if found.generation != watched:
                    watched, watching_since = found.generation, time.monotonic()
                if lives_here or time.monotonic() - watching_since < self._lease_s:
                    time.sleep(min(1.0, self._lease_s / 20))
                    continue
            with contextlib.suppress(StaleWriteError, FileNotFoundError):  # another one was first: look again
                self._write(ABSENT if over is None else over)
                return

    def keep(self, stop: threading.Event) -> None:
        """Renew until `stop`; a storage that does not answer is asked again."""
        while not stop.wait(self._lease_s / 4):
            with contextlib.suppress(UserError):
                self.renew()

    def renew(self) -> None:
        """Say that this process lives, and make sure that the lease is still its own; before every checkpoint.

        Raises:
            UserError: another process took over because this one did not renew in time.
        """
        with self._lock:
            try:
                self._write(self._generation)
            except (StaleWriteError, FileNotFoundError):
                found = self._read()
                raise self._held(None if found is None else found.holder) from None

    def release(self) -> None:
        """Give the lease back if it is still this process's."""
        with contextlib.suppress(UserError, FileNotFoundError):
            if self._storage.read(LEASE).generation == self._generation:
                self._storage.delete(LEASE)

    def _write(self, over: int) -> None:
        holder = self._ours.model_copy(update={"renewed_s": time.time()})
        data = (holder.canonical_json() + "\n").encode()
        self._storage.write(LEASE, data, if_generation=over)
        written = self._storage.read(LEASE)
        if written.data != data:
            raise StaleWriteError(LEASE)
        self._generation = written.generation

    def _read(self) -> _Found | None:
        try:
            data, generation = self._storage.read(LEASE)
        except FileNotFoundError:
            return None
        try:
            return _Found(generation, Holder.parse(json.loads(data), where=LEASE))
        except (ValueError, UserError):
            return _Found(generation, None)

    def _is_dead(self, holder: Holder | None) -> bool:
        if holder is None:
            return False
        if holder.machine and holder.machine == self._ours.machine:
            return _started(holder.pid) != holder.started
        return time.time() - holder.renewed_s > _LONG_DEAD_S

    def _held(self, holder: Holder | None) -> UserError:
        return UserError(
            "training-held",
            "another process trains this",
            where=self._storage.uri,
            found=_name(holder),
            remedy=f"Wait for it, or end it; {self._lease_s:.0f} s later this command takes over.",
        )


def _name(holder: Holder | None) -> str:
    return "another trainer" if holder is None else f"{holder.host}, process {holder.pid}, since {holder.since}"


def _is_alive(holder: Holder, ours: Holder) -> bool:
    """Whether the holder is known to run, on this machine."""
    return bool(holder.machine) and holder.machine == ours.machine and _started(holder.pid) == holder.started


def _machine() -> str:
    """Where process ids can be compared: one boot of one kernel, one process namespace; empty without Linux's /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when there is none, or it has ended and is not reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
