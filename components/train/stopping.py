"""SIGTERM in training: the step under way is finished, a checkpoint is written, and the exit code means "again".

Kubernetes, Vertex and batch systems send it before they take a machine away, Kubernetes 30 seconds before. Whoever is
asked tells the others, so that all processes end after the same step and none waits for one that is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

from components.train.distributed import any_process

__all__ = ["AGAIN", "StopRequest", "stop_request"]

AGAIN = 143
"""Exit code of a training that was stopped by SIGTERM: the same command goes on from its checkpoint."""


class StopRequest:
    """Whether this training was asked to end. Until `wait_for_step`, and after its block, SIGTERM ends it at once."""

    def __init__(self) -> None:
        self.requested = False
        self._waits = False

    def agreed(self) -> bool:
        """Whether any process was asked; the same answer on all of them. Each must call it equally often."""
        return any_process(self.requested)

    @contextlib.contextmanager
    def wait_for_step(self) -> Iterator[None]:
        """In the block a signal is only noted."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def note(self) -> None:
        """What the signal does."""
        if self._waits:
            self.requested = True
        else:
            raise SystemExit(AGAIN)


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Take SIGTERM in the block; in a thread, or where somebody else has taken it, nothing is ever requested."""
    request, owner = StopRequest(), os.getpid()
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield request
        return

    def on_signal(number: int, frame: object) -> None:
        del frame
        if os.getpid() != owner:  # a loader's process, forked from this one
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        request.note()

    signal.signal(signal.SIGTERM, on_signal)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
