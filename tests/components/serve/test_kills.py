"""The whole step is killed at random moments: one model stays in service, and a rerun heals what is left."""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from components.serve import deploy as deploying
from components.serve import rollback as rolling
from components.serve.config import ServeConfig
from components.serve.copies import check_copy
from components.serve.deploy import deploy
from components.serve.deployment import Deployment, read_deployment, write_deployment
from components.serve.predictor import StudyPredictor
from components.serve.rollback import rollback
from tests.components.serve.cluster import deployment_of

if TYPE_CHECKING:
    from components.serve.golden import RunningServer
    from tests.components.serve.conftest import World

KILLS, KILLS_WITH_A_SERVER, KILLED_ROLLBACKS = 12, 2, 6


def _deploy(world: World) -> Deployment:
    places = {"root": world.root, "bundle": world.bundle, "evaluation": world.evaluation}
    return deploy(ServeConfig(), **places, manifest=world.manifest)


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch, server: RunningServer) -> None:
    """The check meets the server that is running already, so that a kill meets what comes after it too."""

    @contextlib.contextmanager
    def running(*_: object, **__: object) -> Iterator[RunningServer]:
        yield server

    for module in (deploying, rolling):
        monkeypatch.setattr(module, "running_server", running)


def _killed(step: Callable[[], object], after_s: float) -> int:
    """Fork the step, and end it by SIGKILL; its exit code."""
    process = multiprocessing.get_context("fork").Process(target=step)
    process.start()
    process.join(after_s)
    process.kill()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _seconds(step: Callable[[], object]) -> float:
    started = time.monotonic()
    step()
    return time.monotonic() - started


def _servers_of(world: World) -> list[int]:
    """Server processes of the model, for a check, that are still there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if world.bundle.uri.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def _partials(world: World) -> list[Path]:
    """What was half written; the lock of the pointer stays."""
    return [path for path in Path(world.root.uri).rglob(".partial-*") if path.name != ".partial-lock"]


def _healed(world: World) -> Deployment:
    deployed = Path(world.root.deployed().uri)
    deployed.mkdir(parents=True, exist_ok=True)
    (deployed / ".partial-left").write_bytes(b"half a pointer")
    done = _deploy(world)
    assert read_deployment(world.root).deployment == done
    copy = world.root.at(done.bundle)
    check_copy(copy, seal=done.seal)
    assert _partials(world) == []
    return done


@pytest.mark.slow
@pytest.mark.usefixtures("ready")
def test_a_killed_deployment_is_completed_by_the_next(world: World) -> None:
    whole = _seconds(lambda: _deploy(world))
    before = _healed(world)
    rng, killed, unfinished = random.Random(0), 0, 0
    for number in range(KILLS):
        world.root.deployed().delete_all()
        # Evenly over the step, at a random moment of each part.
        killed += _killed(lambda: _deploy(world), whole * (number + rng.random()) / KILLS) == -9
        current = read_deployment(world.root).deployment
        unfinished += current is None
        if current is not None:
            check_copy(world.root.at(current.bundle), seal=current.seal)
        assert _healed(world) == before
    assert killed >= KILLS // 2
    assert unfinished > 0


@pytest.mark.slow
def test_a_deployment_that_is_killed_in_its_check_leaves_no_server(world: World) -> None:
    for number in range(KILLS_WITH_A_SERVER):
        assert _killed(lambda: _deploy(world), 0.5 + 1.5 * number) == -9
        assert read_deployment(world.root).deployment is None
        deadline = time.monotonic() + 60.0
        while _servers_of(world):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    done = _healed(world)
    assert StudyPredictor(world.root.at(done.bundle), seal=done.seal).bundle.hash == world.report.bundle_hash
    assert _servers_of(world) == []


@pytest.mark.slow
@pytest.mark.usefixtures("ready")
def test_a_killed_rollback_leaves_either_model_whole(world: World) -> None:
    first = _deploy(world)

    def replaced() -> Any:
        current = read_deployment(world.root)
        newer = deployment_of("b" * 64, "newer").model_copy(update={"previous": first.replaced()})
        write_deployment(world.root, newer, over=current.generation)
        return newer

    newer = replaced()
    whole = _seconds(lambda: rollback(ServeConfig(), root=world.root))
    rng = random.Random(1)
    for number in range(KILLED_ROLLBACKS):
        replaced()
        _killed(lambda: rollback(ServeConfig(), root=world.root), whole * (number + rng.random()) / KILLED_ROLLBACKS)
        current = read_deployment(world.root).deployment
        assert current in (first, newer)
        if current == newer:
            rollback(ServeConfig(), root=world.root)
        _deploy(world)
        assert read_deployment(world.root).deployment == first
        check_copy(world.root.at(first.bundle), seal=first.seal)
        assert _partials(world) == []
