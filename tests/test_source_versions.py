"""No code behind a content key changes without its VERSION being raised or the change being looked at."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import source_versions
from tests.source_versions import NEUTRAL, REPOSITORY, STEPS, code_of, current, problem, read_record, syntax_hash


@pytest.mark.parametrize("name", STEPS)
def test_the_record_is_that_of_the_source(name: str) -> None:
    found = problem(name, read_record().get(name), current(STEPS[name]))
    assert found is None, found


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("train", "components/train/objectives/losses.py"),
        ("train", "components/train/loading/augment.py"),
        ("train", "components/cxr/model/network.py"),
        ("train", "components/cxr/labels.py"),
        ("predict", "components/cxr/model/network.py"),
        ("score", "components/evaluate/metrics.py"),
        ("score", "components/evaluate/calibration.py"),
        ("preprocess", "components/cxr/films/resample.py"),
        ("preprocess", "components/cxr/text/strict_sections.py"),
    ],
)
def test_what_decides_a_result_is_covered(name: str, file: str, tmp_path: Path) -> None:
    """A changed number in the file is a problem until the version is raised and the record renewed."""
    assert file in code_of(STEPS[name])
    shutil.copytree(REPOSITORY / "components", tmp_path / "components")
    before = current(STEPS[name], repository=tmp_path)
    with (tmp_path / file).open("a") as source:
        source.write("\nEXTRA = 1\n")
    after = current(STEPS[name], repository=tmp_path)
    found = problem(name, before, after)
    assert found is not None
    assert file in found
    assert "raise it" in found
    assert problem(name, before, after | {"version": 99}) is not None
    assert problem(name, after, after) is None


def test_comments_docstrings_and_formatting_do_not_count() -> None:
    plain = "A = 1\nclass B:\n    x: int = 2\n    def f(self):\n        return g(1, 2)\n"
    told = '"""Module."""\n# why\nA = 1\n"""Of A."""\nclass B:\n    """B."""\n    x: int = 2\n    """X."""\n'
    told += '    def f(self):\n        """Do."""\n        return g(\n            1,\n            2,\n        )  # sum\n'
    assert syntax_hash(plain) == syntax_hash(told)
    assert syntax_hash(plain) != syntax_hash(plain.replace("2)", "3)"))


def test_every_neutral_file_is_there_and_has_a_reason() -> None:
    for name, reason in NEUTRAL.items():
        assert (REPOSITORY / name).exists(), name
        assert len(reason.split()) >= 3


def test_renewing_twice_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_versions, "RECORD", REPOSITORY / "tests" / f"{tmp_path.name}.json")
    try:
        source_versions.main()
        first = source_versions.RECORD.read_text()
        source_versions.main()
        assert source_versions.RECORD.read_text() == first
    finally:
        source_versions.RECORD.unlink()
