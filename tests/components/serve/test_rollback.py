"""Rollback: the model before comes back as it was, and whatever fails leaves the one in service."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from components.cxr.errors import UserError
from components.cxr.storage.storage import Root
from components.serve import deploy as deploying
from components.serve import rollback as step
from components.serve import rollout, service
from components.serve.config import ServeConfig
from components.serve.deploy import deploy
from components.serve.deployment import Deployment, read_deployment, write_deployment
from components.serve.predictor import StudyPredictor
from components.serve.rollback import rollback
from tests.components.serve.cluster import PLURAL, REPOSITORY, bundle_of, config_of, deployment_of, work

if TYPE_CHECKING:
    from components.serve.golden import RunningServer
    from tests.components.kube_api import KubeApi
    from tests.components.serve.conftest import World

NEWER = "b" * 64


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch, server: RunningServer) -> list[str]:
    """The check meets the server that is running already; the folders that it was asked for."""
    asked: list[str] = []

    @contextlib.contextmanager
    def running(_: ServeConfig, bundle: Any, *__: object, seal: str | None = None) -> Iterator[RunningServer]:
        asked.append(f"{bundle.uri} {seal}")
        yield server

    for module in (deploying, step):
        monkeypatch.setattr(module, "running_server", running)
    monkeypatch.setattr(rollout, "POLL_S", 0.02)
    return asked


def _deploy(world: World, config: ServeConfig | None = None) -> Deployment:
    places = {"root": world.root, "bundle": world.bundle, "evaluation": world.evaluation}
    return deploy(config or ServeConfig(), **places, manifest=world.manifest)


def _replace(root: Root, *, names: dict[str, str | None] | None = None) -> Deployment:
    """As if another model had been deployed since."""
    current, generation = read_deployment(root)
    assert current is not None
    newer = deployment_of(NEWER, "newer").model_copy(update={"previous": current.replaced(), **(names or {})})
    write_deployment(root, newer, over=generation)
    return newer


def test_the_model_before_comes_back_with_its_points(world: World, checks: list[str]) -> None:
    first = _deploy(world)
    _replace(world.root)
    assert rollback(ServeConfig(), root=world.root) == first == read_deployment(world.root).deployment
    copy = world.root.at(first.bundle)
    assert checks[1:] == [f"{copy.uri} {first.seal}"]
    assert StudyPredictor(copy, seal=first.seal).points.hash == world.report.operating_points_hash


def test_the_models_before_are_kept_in_order(world: World, checks: list[str]) -> None:
    first = _deploy(world)
    assert (first.previous, first.before()) == ((), None)
    second = _replace(world.root)
    third = deployment_of("c" * 64).model_copy(update={"previous": second.replaced()})
    assert [model.bundle_hash for model in third.previous] == [NEWER, first.bundle_hash]
    assert third.before() == second
    assert second.before() == first
    assert len(checks) == 1


def test_there_must_be_a_model_before(world: World, checks: list[str]) -> None:
    with pytest.raises(UserError, match="nothing is deployed"):
        rollback(ServeConfig(), root=world.root)
    first = _deploy(world)
    with pytest.raises(UserError, match=r"no model before the one in service: .*current.json; found model"):
        rollback(ServeConfig(), root=world.root)
    assert read_deployment(world.root).deployment == first
    assert len(checks) == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("copy", "a file is not the one that was sealed"),
        ("gone", "no sealed operating points here"),
        ("data", "the model was evaluated on other data"),
        ("answers", "the server's answer is not evaluation's"),
    ],
)
def test_a_model_before_that_cannot_be_checked_stays_away(
    world: World, checks: list[str], monkeypatch: pytest.MonkeyPatch, damage: str, message: str
) -> None:
    first = _deploy(world)
    newer = _replace(world.root)
    if damage == "copy":
        world.root.at(first.bundle).write("weights.safetensors", b"others")
    elif damage == "gone":
        world.root.at(first.bundle).delete_all()
    elif damage == "data":
        other = first.model_copy(update={"manifest_hash": "0" * 64})
        newer = newer.model_copy(update={"previous": other.replaced()})
        write_deployment(world.root, newer, over=read_deployment(world.root).generation)
    else:
        check = service.check_answers

        def tampered(served: Any, report: Any, **options: Any) -> object:
            study = report.golden[0]
            wrong = study.model_copy(update={"probabilities": study.probabilities | {"Edema": 0.123}})
            return check(served, report.model_copy(update={"golden": (wrong,)}), **options)

        monkeypatch.setattr(service, "check_answers", tampered)
    with pytest.raises(UserError, match=message):
        rollback(ServeConfig(), root=world.root)
    assert read_deployment(world.root).deployment == newer
    assert len(checks) == 1 + (damage == "answers")


@pytest.mark.usefixtures("checks")
def test_a_deployment_in_the_meantime_wins(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _deploy(world)
    newer, check = _replace(world.root), step.check_copy

    def meanwhile(*places: Any, **options: Any) -> None:
        check(*places, **options)
        other = newer.model_copy(update={"bundle_hash": "d" * 64})
        write_deployment(world.root, other, over=read_deployment(world.root).generation)

    monkeypatch.setattr(step, "check_copy", meanwhile)
    with pytest.raises(UserError, match="another model was deployed meanwhile"):
        rollback(ServeConfig(), root=world.root)
    current = read_deployment(world.root).deployment
    assert current is not None
    assert current.bundle_hash == "d" * 64


@pytest.mark.usefixtures("checks")
def test_champion_goes_back_too(world: World) -> None:
    from components.cxr.tracking.mlflow_server import with_client

    def register(client: Any) -> list[str]:
        client.create_registered_model("cxr")
        return [str(client.create_model_version("cxr", source=world.bundle.uri).version) for _ in range(2)]

    old, new = with_client(world.root, register)
    world.decide(registered_model="cxr", challenger_version=old, champion_version=None)
    _deploy(world)
    _replace(world.root, names={"model_name": "cxr", "model_version": new})
    with_client(world.root, lambda client: client.set_registered_model_alias("cxr", "champion", new))
    rollback(ServeConfig(), root=world.root)
    assert with_client(world.root, lambda c: str(c.get_model_version_by_alias("cxr", "champion").version)) == old


@pytest.mark.usefixtures("checks")
@pytest.mark.parametrize("target", PLURAL)
def test_a_cluster_is_rolled_back_and_checked(
    world: World, kube: KubeApi, server: RunningServer, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    work(kube)
    config = config_of(target, server.address)
    first = _deploy(world, config)
    found = kube.objects[PLURAL[target]]["cxrflow-serve"]
    newer = _replace(world.root)
    found["metadata"]["annotations"] = {"cxrflow/model": newer.bundle_hash}
    pod = found["spec"]["template"]["spec"] if target == "kubernetes" else found["spec"]["predictor"]
    pod["containers"][0]["args"][-3:] = ["/elsewhere", "--seal", newer.seal]
    capsys.readouterr()
    assert rollback(config, root=world.root) == first
    found = kube.objects[PLURAL[target]]["cxrflow-serve"]
    assert bundle_of(target, found) == world.root.at(first.bundle).uri
    assert found["metadata"]["annotations"]["cxrflow/model"] == first.bundle_hash
    assert capsys.readouterr().out.count("are evaluation's") == 2, "before the rollout and after it"


def _command(root: Root, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    config = tmp_path / "config.yaml"
    config.write_text(f"root: {root.uri}\n")
    command = [sys.executable, "-m", "components.serve", "rollback", "--config", str(config)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_on_the_command_line_a_mistake_is_one_line(tmp_path: Path) -> None:
    done = _command(Root(tmp_path / "root"), tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    expected = f"error: nothing is deployed: {tmp_path}/root/deployed. Run the pipeline.  [nothing-deployed]\n"
    assert done.stderr == expected


@pytest.mark.slow
def test_on_the_command_line_it_is_one_command(world: World, checks: list[str], tmp_path: Path) -> None:
    first = _deploy(world)
    _replace(world.root)
    done = _command(world.root, tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"rolled back from model {NEWER[:16]} to {first.bundle_hash[:16]}" in done.stdout
    assert read_deployment(world.root).deployment == first
    assert len(checks) == 1, "the command started a server of its own"
