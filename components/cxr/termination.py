"""SIGTERM as an exception, so that what is open is closed: Kubernetes and torchrun end a process by it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

__all__ = ["sigterm_raises"]


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """Let SIGTERM raise SystemExit(143) in the block, once; no effect in a thread or where another handler is set.

    The default action ends Python at once, without `finally`: MLflow's run would stay RUNNING for ever.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def stop(number: int, frame: object) -> None:
        del frame
        signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the closing
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
