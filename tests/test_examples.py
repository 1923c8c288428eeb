"""The examples in docstrings print what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
WITH_EXAMPLES = sorted(
    path.relative_to(REPOSITORY)
    for package in ("components", "pipeline")
    for path in (REPOSITORY / package).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=str)
def test_the_examples_of_a_file_are_true(path: Path) -> None:
    module = importlib.import_module(".".join(path.with_suffix("").parts))
    failed, tried = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert tried > 0
    assert failed == 0


def test_what_a_script_would_call_has_examples() -> None:
    rooms = {path.parts[1] if path.parts[0] == "components" else path.parts[0] for path in WITH_EXAMPLES}
    assert {"cxr", "preprocess", "train", "evaluate"} <= rooms
    assert len(WITH_EXAMPLES) >= 12
