"""The table fits the source, and the runner tells a test that noticed from one that never ran."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from tests.mutants.mutant import REPOSITORY, Mutant, StaleMutantError, choose, mutated, plant, read_table
from tests.mutants.run import Runner

TABLE = read_table()
ANSWER = Mutant(
    "answer-is-wrong",
    file="components/answer.py",
    old="return 42",
    new="return 41",
    test="tests/test_answer.py::test_answer",
)
SOURCE = """
def answer():
    return 42

if __name__ == "__main__":
    print(answer())
"""
TESTS = """
import subprocess, sys, time
import pytest

def test_answer():
    from components.answer import answer
    assert answer() == 42

def test_process(tmp_path):
    for arguments in (["-m", "components.answer"], ["-c", "import components.answer as a; print(a.answer())"]):
        done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout == "42\\n"

def test_nothing():
    pass

def test_slow_answer():
    from components.answer import answer
    time.sleep(0 if answer() == 42 else 60)

def test_slow_untold(request):
    class Untold:
        def pytest_runtest_makereport(self):
            raise TypeError
    request.config.pluginmanager.register(Untold())
    test_slow_answer()

@pytest.fixture
def right():
    from components.answer import answer
    assert answer() == 42

def test_in_its_fixture(right):
    pass

@pytest.mark.skip
def test_skipped():
    pass
"""


@pytest.mark.parametrize("mutant", TABLE, ids=lambda mutant: mutant.name)
def test_an_entry_fits_the_source(mutant: Mutant) -> None:
    mutated(mutant, REPOSITORY)


def test_names_are_unique() -> None:
    names = [mutant.name for mutant in TABLE]
    assert len(names) == len(set(names))


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    """Without the libraries, which only save time."""
    with Runner(libraries=["pytest"]) as runner:
        yield runner


@pytest.fixture(scope="module")
def small(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that is set up as this one is, with a package of the installed one's name."""
    top = tmp_path_factory.mktemp("small")
    (top / "components").mkdir()
    (top / "components" / "__init__.py").touch()
    (top / "components" / "answer.py").write_text(SOURCE)
    (top / "tests").mkdir()
    (top / "tests" / "test_answer.py").write_text(textwrap.dedent(TESTS))
    (top / "pyproject.toml").write_text((REPOSITORY / "pyproject.toml").read_text())
    tests = [f"tests/test_answer.py::{name}" for name in ("test_answer", "test_process", "test_in_its_fixture")]
    assert runner.run_tests(tests, top, limit=60).verdict == "passed"
    return top


@pytest.mark.parametrize(
    ("test", "changes", "verdict"),
    [
        ("test_answer", {}, "caught"),
        ("test_process", {}, "caught"),
        ("test_nothing", {}, "SURVIVED"),
        ("test_skipped", {}, "SKIPPED"),
        ("test_in_its_fixture", {}, "BROKEN"),
        ("test_answer", {"new": "return absent"}, "BROKEN"),
        ("test_slow_answer", {"limit": 1.0}, "TIMEOUT"),
        ("test_slow_answer", {"limit": 1.0, "hangs": True}, "caught"),
        ("test_slow_untold", {"limit": 1.0, "hangs": True}, "caught"),
        ("test_slow_untold", {"new": "return 42 + 0", "hangs": True}, "BROKEN"),
    ],
)
def test_what_counts_as_caught(
    runner: Runner, small: Path, test: str, changes: dict[str, object], verdict: str
) -> None:
    mutant = dataclasses.replace(ANSWER, test=f"tests/test_answer.py::{test}", **changes)  # type: ignore[arg-type]
    assert runner.run_mutant(mutant, small, limit=60).verdict == verdict
    assert (small / "components" / "answer.py").read_text() == SOURCE


def test_a_test_that_does_not_exist_catches_nothing(runner: Runner, small: Path) -> None:
    assert runner.run_tests(["tests/test_answer.py::test_absent"], small, limit=60).verdict == "broken"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"old": "return 40"}, "0 times"),
        ({"old": "answer()"}, "2 times"),
        ({"new": "return 42"}, "`new` is `old`"),
        ({"new": "return ("}, "not Python"),
        ({"file": "components/absent.py"}, "no components/absent.py"),
        ({"test": "tests/absent.py::test_answer"}, "no tests/absent.py"),
        ({"test": "tests/test_answer.py::test_absent"}, "no test_absent"),
        ({"test": "tests/test_answer.py"}, "has no"),
    ],
)
def test_a_stale_entry_is_named(small: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(StaleMutantError, match=rf"answer-is-wrong: .*{message}"):
        plant(dataclasses.replace(ANSWER, **changes), small)  # type: ignore[arg-type]


def test_a_seed_chooses_the_same_part_again_and_the_parts_come_round() -> None:
    table = [dataclasses.replace(ANSWER, name=str(number)) for number in range(51)]
    parts = [choose(table, fraction=Fraction(1, 5), seed=f"commit {seed}") for seed in range(40)]
    assert {len(part) for part in parts} == {11}
    assert parts[3] == choose(table, fraction=Fraction(1, 5), seed="commit 3")
    assert parts[3] != parts[4]
    assert {mutant.name for part in parts for mutant in part} == {mutant.name for mutant in table}
    assert choose(table, fraction=Fraction(1), seed="") == table
