"""The table of planted bugs: every file of this folder that has a list `MUTANTS` is a part of it."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

__all__ = ["REPOSITORY", "Mutant", "StaleMutantError", "choose", "copy_source", "mutated", "plant", "read_table"]

REPOSITORY = Path(__file__).parents[2]
LEFT_OUT = (".*", "runs", "build", "shared", "*.egg-info", "__pycache__", "cxr_pipeline*.yaml")


@dataclass(frozen=True)
class Mutant:
    """One bug: in `file`, `old` (which stands there exactly once) becomes `new`, and `test` must fail.

    The name says what is wrong in the mutated program. The test is a pytest node id; without a parameter's brackets
    it stands for all of them. A bug that makes the program hang sets `hangs`, and the test's time limit (in seconds,
    which such an entry sets as well) catches it.
    """

    name: str
    file: str
    old: str
    new: str
    test: str
    hangs: bool = False
    limit: float | None = None


class StaleMutantError(Exception):
    """The source or the tests changed and an entry of the table did not."""


def read_table(folder: Path = Path(__file__).parent) -> list[Mutant]:
    """All entries, by file and then in their order there."""
    modules = [importlib.import_module(f"tests.mutants.{path.stem}") for path in sorted(folder.glob("[a-z]*.py"))]
    return [mutant for module in modules for mutant in getattr(module, "MUTANTS", [])]


def choose(table: Sequence[Mutant], *, fraction: Fraction, seed: str) -> list[Mutant]:
    """A part of the table, rounded up, in its order; one more entry changes what a seed chooses by one or two."""
    count = -(-len(table) * fraction.numerator // fraction.denominator)
    drawn = sorted(table, key=lambda mutant: hashlib.sha256(f"{seed} {mutant.name}".encode()).digest())
    chosen = {mutant.name for mutant in drawn[:count]}
    return [mutant for mutant in table if mutant.name in chosen]


def mutated(mutant: Mutant, top: Path) -> str:
    """The text of the mutant's file with its bug.

    Raises:
        StaleMutantError: no such file or test, `old` is not there exactly once, or the result is not Python.
    """
    file, (test_file, *names) = top / mutant.file, mutant.test.split("::")
    if not file.is_file():
        raise StaleMutantError(f"{mutant.name}: there is no {mutant.file}")
    text = file.read_text()
    if (count := text.count(mutant.old)) != 1:
        raise StaleMutantError(f"{mutant.name}: `old` stands {count} times in {mutant.file}, not once")
    result = text.replace(mutant.old, mutant.new)
    if result == text:
        raise StaleMutantError(f"{mutant.name}: `new` is `old`")
    if file.suffix == ".py":
        try:
            ast.parse(result)
        except SyntaxError as error:
            raise StaleMutantError(f"{mutant.name}: what results is not Python: {error}") from None
    if not (top / test_file).is_file():
        raise StaleMutantError(f"{mutant.name}: there is no {test_file}")
    if not names or not {name.split("[")[0] for name in names} <= _defined_in(top / test_file):
        raise StaleMutantError(f"{mutant.name}: {test_file} has no {'::'.join(names)}")
    return result


@functools.cache
def _defined_in(file: Path) -> frozenset[str]:
    nodes = ast.walk(ast.parse(file.read_text()))
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def copy_source(top: Path, place: Path) -> None:
    """Copy the repository without its environment, history and results."""
    shutil.copytree(top, place, ignore=shutil.ignore_patterns(*LEFT_OUT))


def plant(mutant: Mutant, top: Path) -> None:
    """Write the bug into the copy at `top`, past Python's cache, which tells files apart by second and size."""
    text, file = mutated(mutant, top), top / mutant.file
    file.write_text(text)
    for cached in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
        cached.unlink()
