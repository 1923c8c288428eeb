"""The documentation is true: commands and options exist, everything that exists is mentioned, links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.reference import reference

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)
COMMANDS = [
    ("-m", "pipeline", "run"), ("-m", "pipeline", "mlflow"), ("pipeline/compile.py",), ("-m", "pipeline.synthetic"),
    ("-m", "components.preprocess"), ("-m", "components.train"), ("-m", "components.evaluate"),
    ("-m", "components.serve"), ("-m", "components.serve", "rollback"), ("-m", "components.serve", "sign"),
    ("-m", "components.serve", "predict"), ("-m", "components.serve", "key"),
    ("-m", "components.serve", "route"), ("-m", "pipeline", "sweep"),
    ("-m", "pipeline", "submit"), ("-m", "components.preprocess.audit"),
    ("-m", "pipeline", "doctor"), ("-m", "components.evaluate.answers"),
    ("-m", "components.evaluate", "score"), ("-m", "components.evaluate", "compare"),
    ("-m", "components.evaluate", "paper"), ("-m", "components.preprocess", "export"),
]  # fmt: skip


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))


def test_every_make_target_in_the_docs_exists() -> None:
    mentioned = set(re.findall(r"`make ([a-z-]+)", TEXT)) | set(re.findall(r"^make ([a-z-]+)", TEXT, re.MULTILINE))
    assert {"demo", "test"} <= mentioned
    assert mentioned <= make_targets()


@pytest.mark.parametrize("target", ["demo", "demo-docker"])
@pytest.mark.parametrize(("fresh", "deletes"), [("1", True), ("0", False), ("", False)])
def test_only_a_fresh_demo_deletes_the_one_before(target: str, fresh: str, deletes: bool) -> None:
    shown = ["make", "--dry-run", "--old-file=.venv/.runtime", "--old-file=images", target, f"FRESH={fresh}"]
    done = subprocess.run(shown, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert ("rm -rf" in done.stdout) is deletes


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_option_is_in_the_docs_and_every_documented_one_exists(command: tuple[str, ...]) -> None:
    help_of = [sys.executable, *command, "--help"]
    done = subprocess.run(help_of, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    called = f"python {' '.join(command)}" if command[0] == "-m" else Path(command[0]).name
    assert done.stdout.lstrip().startswith(f"Usage: {called} ")
    options = set(re.findall(r"(--[a-z-]+)", done.stdout)) - {"--help"}
    name = " ".join(part for part in command if part != "-m")
    assert name in TEXT
    for option in options:
        assert option in TEXT, f"{name} {option} is not documented"
    longer = {other[len(command)] for other in COMMANDS if other[:-1] == command}
    for line in re.findall(rf"{re.escape(name)} ([^\n`]*)", TEXT):
        if line.split()[:1] and line.split()[0] in longer:
            continue
        assert set(re.findall(r"(?<!\S)(--[a-z-]+)", line)) <= options, f"{name} {line}"


def test_the_configuration_page_is_what_the_command_prints() -> None:
    assert (REPOSITORY / "docs" / "configuration.md").read_text() == reference()


def test_every_link_and_path_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
    for path in re.findall(r"`((?:pipeline|components|tests|docs|infra)/[\w./-]*)`", TEXT):
        assert (REPOSITORY / path).exists(), path


def test_the_lock_names_versions_only() -> None:
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()
    assert len(lines) > 50
    for line in lines:
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[0-9][A-Za-z0-9.]*", line), line
