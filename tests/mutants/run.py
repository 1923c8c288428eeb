"""Run tests on a copy of the source and say what became of them.

The copy has to win over the installed package, in the test's process and in every process that the test starts: it is
the working directory and stands first on PYTHONPATH.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from xml.etree import ElementTree

import pytest

from tests.mutants.forking import LIBRARIES
from tests.mutants.mutant import Mutant, plant

__all__ = ["Outcome", "Runner"]

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


class Runner:
    """A process with the large libraries in memory, which forks one that runs tests; see forking.py."""

    def __init__(self, libraries: Sequence[str] = LIBRARIES) -> None:
        script = str(Path(__file__).with_name("forking.py"))
        self._process = subprocess.Popen(
            [sys.executable, script, *libraries],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env=os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        )  # fmt: skip

    def __enter__(self) -> Runner:
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("the process that runs tests did not start")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        self._process.communicate()

    def run_mutant(self, mutant: Mutant, unchanged: Path, *, limit: float) -> Outcome:
        """Plant the bug in a copy of the copy `unchanged` and run its test there; `caught`, or why it is not."""
        with tempfile.TemporaryDirectory(prefix="mutant-", ignore_cleanup_errors=True) as folder:
            place = Path(folder, "copy")
            shutil.copytree(unchanged, place)
            plant(mutant, place)
            outcome = self.run_tests([mutant.test], place, limit=mutant.limit or limit)
        caught = outcome.verdict == ("timeout" if mutant.hangs else "failed")
        verdict = "caught" if caught else {"passed": "SURVIVED"}.get(outcome.verdict, outcome.verdict.upper())
        return Outcome(verdict, outcome.detail, outcome.seconds)

    def run_tests(self, tests: Sequence[str], top: Path, *, limit: float) -> Outcome:
        """Run tests by node id in the repository `top`, `limit` seconds for each."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="report-") as folder:
            report, log = Path(folder, "report.xml"), Path(folder, "log")
            arguments = ["-x", "-q", "-p", "no:cacheprovider", f"--timeout={limit}", f"--junitxml={report}"]
            # Of a plugin that one of the libraries brought along.
            arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning", *tests]
            request = {
                "top": str(top),
                "arguments": arguments,
                "environment": {"PYTHONPATH": str(top), "CXRFLOW_CACHE": str(top / ".cache")},
                "log": str(log),
                "limit": len(tests) * limit + START,
            }
            self._process.stdin.write(json.dumps(request) + "\n")
            answer = json.loads(self._process.stdout.readline())
            seconds = time.monotonic() - start
            if answer["code"] is None:
                return Outcome("timeout", "the test process hung", seconds)
            if answer["code"] == pytest.ExitCode.INTERNAL_ERROR and seconds >= limit:
                # The limit's signal now and then strikes where Python knows no line, which pytest cannot report.
                return Outcome("timeout", "the limit's signal ended pytest", seconds)
            verdict, detail = _verdict(report, answer["code"])
            return Outcome(verdict, detail or log.read_text(errors="replace")[-2000:], seconds)


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
