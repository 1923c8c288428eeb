"""The import rules of CONTRIBUTING.md, checked on the source and in clean interpreters with one extra each."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SOURCES = sorted([*REPOSITORY.glob("components/**/*.py"), *REPOSITORY.glob("pipeline/**/*.py")])
STEPS = ("preprocess", "train", "evaluate", "serve")


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports anywhere, in dotted form; a name of `from m import n` counts as m."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


def test_there_are_sources() -> None:
    assert len(SOURCES) > 50


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_file_imports_only_downwards(path: Path) -> None:
    place = path.relative_to(REPOSITORY).parts
    imports = imports_of(path)
    for name in imports:
        top, *rest = name.split(".")
        if top == "pipeline":
            assert place[0] == "pipeline", f"{name} upwards"
            if rest and rest[0] == "synthetic":
                assert place[:2] == ("pipeline", "synthetic"), "only demo, tests and benchmarks know the synthetic data"
        if top == "components" and place[0] == "components":
            assert rest[0] in (place[1], "cxr"), f"{name} sideways"
        if top == "kfp":
            assert place[0] == "pipeline" or place[-1] == "component.py", "kfp belongs to component.py and pipeline/"
        if top == "mlflow":
            assert place[:3] == ("components", "cxr", "tracking"), name


def dotted(path: Path) -> str:
    name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    return name.removesuffix(".__init__")


def import_graph(sources: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Which of the modules (name, source) each imports anywhere: at its top, in a function or for type checking."""
    sources = dict(sources).items()
    known = dict(sources).keys()
    graph: dict[str, set[str]] = {name: set() for name in known}
    for name, source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                found = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found = {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
            else:
                continue
            graph[name] |= (found & known) - {name}
    return graph


def test_no_two_modules_import_each_other() -> None:
    components = [
        (dotted(path), path.read_text()) for path in SOURCES if path.is_relative_to(REPOSITORY / "components")
    ]
    try:
        graphlib.TopologicalSorter(import_graph(components)).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    "back",
    ["import room.a", "from room.a import x", "from room import a", "def f():\n    import room.a",
     "if TYPE_CHECKING:\n    from room.a import X"],
)  # fmt: skip
def test_a_circle_of_imports_is_noticed(back: str) -> None:
    graph = import_graph([("room", ""), ("room.a", "from room.b import y"), ("room.b", back)])
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(graph).prepare()


CLOSURE = """
import importlib.abc, importlib.metadata, re, sys

def closure(extra):
    seen, todo = set(), [("cxrflow", frozenset([extra]))]
    while todo:
        name, extras = todo.pop()
        key = (re.sub("[-_.]+", "-", name).lower(), extras)
        if key in seen:
            continue
        seen.add(key)
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        from packaging.requirements import Requirement
        for line in requires:
            requirement = Requirement(line)
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in extras | {""}):
                todo.append((requirement.name, frozenset(requirement.extras)))
    return {name for name, _ in seen}

class OnlyTheExtra(importlib.abc.MetaPathFinder):
    def __init__(self, allowed):
        self.refused = {
            module
            for module, owners in importlib.metadata.packages_distributions().items()
            if not any(re.sub("[-_.]+", "-", owner).lower() in allowed for owner in owners)
        }
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.refused:
            raise ModuleNotFoundError(f"{name} is not in this image", name=name)

extra, *modules = sys.argv[1:]
allowed = closure(extra)
for name in list(sys.modules):
    if name.split(".")[0] == "packaging":
        del sys.modules[name]
only = OnlyTheExtra(allowed)
sys.meta_path.insert(0, only)
import importlib.util
find_spec = importlib.util.find_spec  # by which torch and transformers ask what there is
importlib.util.find_spec = lambda name, package=None: (
    None if name.split(".")[0] in only.refused else find_spec(name, package)
)
for module in modules:
    importlib.import_module(module)
print("torch" in sys.modules, "kfp" in sys.modules)
"""


def run_with_extra(extra: str, *modules: str) -> tuple[bool, bool]:
    done = subprocess.run(
        [sys.executable, "-c", CLOSURE, extra, *modules], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    torch, kfp = done.stdout.split()[-2:]
    return torch == "True", kfp == "True"


@pytest.mark.parametrize("step", STEPS)
def test_a_step_needs_only_its_own_extra(step: str) -> None:
    work = {"preprocess": "preprocess", "train": "train", "evaluate": "assess", "serve": "server"}[step]
    torch, kfp = run_with_extra(step, f"components.{step}.__main__", f"components.{step}.{work}")
    assert torch == (step != "preprocess")
    assert not kfp, "kfp comes in through component.py alone"
    assert run_with_extra(step, f"components.{step}.component")[1]


def test_help_and_a_wrong_configuration_do_not_wait_for_torch() -> None:
    assert run_with_extra("dev", *(f"components.{step}.__main__" for step in STEPS)) == (False, False)


def test_preprocess_and_the_light_half_of_cxr_never_import_torch() -> None:
    modules = ["components.cxr.labels", "components.cxr.shards", "components.cxr.config"]
    modules += [
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        for room in ("films", "text", "storage")
        for path in REPOSITORY.glob(f"components/cxr/{room}/*.py")
    ]
    modules += [
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        for path in REPOSITORY.glob("components/preprocess/**/*.py")
        if path.name not in ("__main__.py", "component.py")
    ]
    assert run_with_extra("preprocess", *modules) == (False, False)


def test_the_second_half_of_evaluation_never_imports_torch() -> None:
    with_model = (
        "answers.py",
        "assess.py",
        "component.py",
        "external.py",
        "film_check.py",
        "predict.py",
        "self_check.py",
    )
    modules = [
        f"components.evaluate.{path.stem}"
        for path in REPOSITORY.glob("components/evaluate/*.py")
        if path.name not in (*with_model, "__init__.py")
    ]
    assert "components.evaluate.score" in modules
    assert run_with_extra("evaluate", *modules) == (False, False)


def test_the_pipeline_compiles_without_any_step_installed() -> None:
    assert run_with_extra("pipeline", "pipeline.dag", "pipeline.compile", "pipeline.run") == (False, True)


def test_a_refused_package_is_noticed() -> None:
    with pytest.raises(AssertionError, match="torch is not in this image"):
        run_with_extra("preprocess", "components.train.train")
