"""Which files each step's content key stands for, and their record; `python -m tests.source_versions` renews it.

A key carries the VERSION of the code behind it. The record holds that version with a hash of every file's syntax tree,
without comments, docstrings and formatting. After a change that gives other results raise the VERSION, after any other
leave it; then renew the record.
"""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[1]
RECORD = Path(__file__).with_suffix(".json")
COMMAND = "python -m tests.source_versions"

NEUTRAL = {
    "components/cxr/storage/": "where files lie, not what is in them",
    "components/cxr/tracking/": "what MLflow is told of a result",
    "components/cxr/cluster/": "where a step runs",
    "components/cxr/cli.py": "how a step is called",
    "components/cxr/errors.py": "how a failure is told",
    "components/cxr/progress.py": "what a terminal shows",
    "components/cxr/termination.py": "how a step ends early",
    "components/cxr/storage/node_cache.py": "the same bytes, checked, from another place",
    "components/cxr/model/device.py": "where a step computes",
    "components/train/lease.py": "who may train",
    "components/train/tracked.py": "what MLflow is told of a training",
    "components/train/meter.py": "what a terminal and MLflow are told of a training",
    "components/evaluate/log.py": "what MLflow is told of a report",
    "components/evaluate/promotion.py": "the decision, which is made anew each time",
    "components/evaluate/champion.py": "the decision, which is made anew each time",
    "components/evaluate/calibration_change.py": "the decision, which is made anew each time",
    "components/evaluate/decided.py": "the decision, which is made anew each time",
    "components/cxr/decision.py": "the decision, which is made anew each time",
}
"""Files and folders that a step imports and that no result depends on, each with the reason."""


class Step(NamedTuple):
    """A content key's code."""

    version_in: str
    """File that assigns the version, which the key carries."""
    version_name: str
    entry: str
    """File whose imports, and theirs, are the step's code."""


STEPS = {
    "preprocess": Step("components/preprocess/plan.py", "PREPROCESS_VERSION", "components/preprocess/preprocess.py"),
    "train": Step("components/train/key.py", "VERSION", "components/train/train.py"),
    "predict": Step("components/evaluate/predictions.py", "VERSION", "components/evaluate/predict.py"),
    "score": Step("components/evaluate/evaluate.py", "VERSION", "components/evaluate/evaluate.py"),
}


def syntax_hash(source: str) -> str:
    """16 hex digits over what a Python source does: no comment, docstring or line break changes them."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                setattr(node, name, [statement for statement in block if not _is_text(statement)])
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


def code_of(step: Step, *, repository: Path = REPOSITORY) -> list[str]:
    """The step's files, sorted: what its entry imports, directly or not, without NEUTRAL."""
    seen: set[str] = set()
    todo = [step.entry, step.version_in]
    while todo:
        name = todo.pop()
        if name in seen or any(name.startswith(neutral) for neutral in NEUTRAL):
            continue
        seen.add(name)
        todo += _imports(repository / name, repository)
    return sorted(seen)


def current(step: Step, *, repository: Path = REPOSITORY) -> dict[str, object]:
    """What the record should say of a step."""
    files = {name: syntax_hash((repository / name).read_text()) for name in code_of(step, repository=repository)}
    return {"version": _version(repository / step.version_in, step.version_name), "files": files}


def problem(step: str, recorded: dict[str, object] | None, found: dict[str, object]) -> str | None:
    """What is wrong with a step's record, and what to do; None when it is right."""
    if recorded == found:
        return None
    if recorded is None:
        return f"{step} has no record: {COMMAND}"
    old, new = dict(recorded["files"]), dict(found["files"])  # type: ignore[call-overload]
    changed = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    name = STEPS[step].version_name if step in STEPS else "VERSION"
    if recorded["version"] == found["version"]:
        return (
            f"{', '.join(changed)} changed, {name} of {step} did not: raise it if the same input now gives another "
            f"result (old results would be reused). Then: {COMMAND}"
        )
    return f"{name} of {step} is {found['version']}, recorded {recorded['version']}: {COMMAND}"


def read_record() -> dict[str, dict[str, object]]:
    """The record by step."""
    return dict(json.loads(RECORD.read_text())) if RECORD.exists() else {}


def main() -> None:
    """Renew the record, and say where code changed under an unchanged version."""
    recorded = read_record()
    found = {name: current(step) for name, step in STEPS.items()}
    for name in STEPS:
        old = recorded.get(name)
        if old is not None and old != found[name] and old["version"] == found[name]["version"]:
            print(f"note: {problem(name, old, found[name])}")
    RECORD.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    print(f"wrote {RECORD.relative_to(REPOSITORY)}")


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imports(path: Path, repository: Path) -> list[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    found = []
    for name in names:
        if name.startswith("components."):
            stem = name.replace(".", "/")
            found += [file for file in (f"{stem}.py", f"{stem}/__init__.py") if (repository / file).is_file()]
    return found


def _version(path: Path, name: str) -> int:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and [getattr(target, "id", None) for target in node.targets] == [name]:
            return int(ast.literal_eval(node.value))
    raise LookupError(f"{path} assigns no {name}")


if __name__ == "__main__":
    main()
