"""Run tests on a copy of the source and say what became of them.

The copy has to win over the installed package, in the test's process and in every process that the test starts: it is
the working directory and stands first on PYTHONPATH.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.mutants.mutant import Mutant, plant

__all__ = ["Outcome", "run_mutant", "run_tests"]

BROKEN = ("ImportError", "IndentationError", "ModuleNotFoundError", "NameError", "SyntaxError")
"""Errors of a program that cannot run at all; no test of any behavior is needed to notice them."""
START = 60.0
"""Seconds that a process may take beyond the limits of its tests, to start and to end."""


@dataclass(frozen=True)
class Outcome:
    """What one pytest process said."""

    verdict: str
    """passed, failed, timeout, skipped, broken (did not run, or not for a reason that a test could have)"""
    detail: str
    seconds: float


def run_mutant(mutant: Mutant, unchanged: Path, *, limit: float) -> Outcome:
    """Plant the bug in a copy of the copy `unchanged` and run its test there; `caught`, or why it is not."""
    with tempfile.TemporaryDirectory(prefix="mutant-", ignore_cleanup_errors=True) as folder:
        place = Path(folder, "copy")
        shutil.copytree(unchanged, place)
        plant(mutant, place)
        outcome = run_tests([mutant.test], place, limit=mutant.limit or limit)
    caught = outcome.verdict == ("timeout" if mutant.hangs else "failed")
    verdict = "caught" if caught else {"passed": "SURVIVED"}.get(outcome.verdict, outcome.verdict.upper())
    return Outcome(verdict, outcome.detail, outcome.seconds)


def run_tests(tests: Sequence[str], top: Path, *, limit: float) -> Outcome:
    """Run tests by node id in the repository `top`, `limit` seconds for each."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"--timeout={limit}"]
    environment = os.environ | {
        "PYTHONPATH": str(top),
        "CXRFLOW_CACHE": str(top / ".cache"),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="report-") as folder:
        report = Path(folder, "report.xml")
        process = subprocess.Popen(
            [*command, f"--junitxml={report}", *tests],
            cwd=top, env=environment, start_new_session=True, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            output, _ = process.communicate(timeout=len(tests) * limit + START)
        except subprocess.TimeoutExpired:
            return Outcome("timeout", "the test process hung", time.monotonic() - start)
        finally:
            _end_group(process)
        verdict, detail = _verdict(report, process.returncode)
    return Outcome(verdict, detail or output[-2000:], time.monotonic() - start)


def _verdict(report: Path, code: int) -> tuple[str, str]:
    """Only a test that ran and failed in its own body is a failure; 0 and 1 are pytest's codes for a complete run."""
    if code not in (0, 1) or not report.exists():
        return "broken", ""
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    for case in cases:
        if (error := case.find("error")) is not None:
            return "broken", f"{case.get('name')}: {error.get('message')}"
        if (failure := case.find("failure")) is not None:
            message = (failure.get("message") or "").strip()
            detail = f"{case.get('name')}: {' '.join(message.split())[:160]}"
            if message.startswith(BROKEN):
                return "broken", detail
            return "timeout" if message.startswith("Failed: Timeout") else "failed", detail
    ran = [case for case in cases if case.find("skipped") is None]
    if not ran:
        return "skipped", "; ".join(str(case[0].get("message")) for case in cases if len(case)) or "nothing ran"
    return "passed", f"{len(ran)} passed"


def _end_group(process: subprocess.Popen[str]) -> None:
    """End what the tests left running; they are a process group of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
