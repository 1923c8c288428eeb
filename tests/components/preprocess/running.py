"""Preprocess as a process of its own that is watched, stopped and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.terminal import IN_A_TERMINAL

__all__ = ["Running", "files_of"]

REPOSITORY = Path(__file__).parents[3]


class Running:
    """`python -m components.preprocess` in a session of its own."""

    def __init__(
        self,
        values: Mapping[str, Any],
        root: str | Path,
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        config = folder / "running.yaml"
        config.write_text(yaml.safe_dump({**values, "root": str(root)}))
        self._log = folder / "running.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*IN_A_TERMINAL, sys.executable, "-m", "components.preprocess", "--config", str(config)],
                cwd=REPOSITORY,
                env={**os.environ, **(env or {})},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=before,
            )

    @property
    def output(self) -> str:
        """What it printed so far."""
        return self._log.read_text()

    def wait(self, timeout_s: float = 120.0) -> int:
        """Exit code, once it has ended and left no process behind."""
        try:
            code = self.process.wait(timeout_s)
            self.wait_for(lambda: not self.left_behind(), timeout_s=60, running=False)
            return code
        finally:
            for pid in self.left_behind():
                os.kill(pid, signal.SIGKILL)

    def wait_for(self, condition: Callable[[], object], *, timeout_s: float = 60.0, running: bool = True) -> None:
        """Wait until something holds (or, unless it must be `running`, the process ends)."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, self.output
            if running and self.process.poll() is not None:
                return
            time.sleep(0.003)

    def workers(self) -> list[int]:
        """Process ids of those that read films."""
        return [pid for pid, command in _session(self.process.pid).items() if "spawn_main" in command]

    def left_behind(self) -> list[int]:
        """Process ids of all that is left of the session."""
        return list(_session(self.process.pid))


def files_of(root: Path) -> dict[str, bytes]:
    """Every file of the data sets under a local root, half-written ones included, but an empty lock."""
    data = root / "data"
    files = (path for path in sorted(data.rglob("*")) if path.is_file() and path.name != ".partial-lock")
    return {path.relative_to(data).as_posix(): path.read_bytes() for path in files}


def _session(leader: int) -> dict[int, str]:
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
