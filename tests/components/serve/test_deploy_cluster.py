"""Deployment onto a cluster: the pointer moves last, and whatever fails is rolled back."""

from __future__ import annotations

import contextlib
import copy
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from components.cxr.errors import UserError
from components.serve import deploy as step
from components.serve import rollout, service
from components.serve.config import ServeConfig
from components.serve.deploy import deploy
from components.serve.deployment import Deployment, read_deployment, write_deployment
from components.serve.rollout import ClusterServer

if TYPE_CHECKING:
    from components.serve.golden import RunningServer
    from tests.components.kube_api import KubeApi
    from tests.components.serve.conftest import World

from tests.components.serve.cluster import (
    PLURAL,
    REPOSITORY,
    TARGETS,
    RealPod,
    bundle_of,
    config_of,
    deployment_of,
    other_versions,
    pod_of,
    roll,
    work,
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "POLL_S", 0.02)


@pytest.fixture
def one_check(monkeypatch: pytest.MonkeyPatch, server: RunningServer) -> None:
    """deploy()'s own check of the model meets the server that is running already."""

    @contextlib.contextmanager
    def running(*_: object, **__: object) -> Iterator[RunningServer]:
        yield server

    monkeypatch.setattr(step, "running_server", running)


def _deploy(world: World, config: ServeConfig) -> Deployment:
    return deploy(config, root=world.root, bundle=world.bundle, evaluation=world.evaluation, manifest=world.manifest)


@pytest.mark.usefixtures("one_check")
@pytest.mark.parametrize("target", TARGETS)
def test_deploy_rolls_out_checks_and_points_last(
    target: str, world: World, kube: KubeApi, server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    work(kube)
    config = config_of(target, server.address)
    done = _deploy(world, config)
    assert read_deployment(world.root).deployment == done
    assert bundle_of(target, kube.objects[PLURAL[target]]["cxrflow-serve"]) == world.root.at(done.bundle).uri
    assert capsys.readouterr().out.count("are evaluation's") == 2, "before the rollout and after it"

    kube.asked.clear()
    assert _deploy(world, config) == done
    assert {asked.verb for asked in kube.asked} == {"get"}
    kube.objects[PLURAL[target]].clear()
    assert _deploy(world, config) == done
    assert bundle_of(target, kube.objects[PLURAL[target]]["cxrflow-serve"]) == world.root.at(done.bundle).uri


@pytest.mark.usefixtures("one_check")
@pytest.mark.parametrize("target", TARGETS)
def test_a_model_in_service_is_not_taken_down_when_its_pods_are_away_for_a_while(
    target: str, world: World, kube: KubeApi, server: RunningServer
) -> None:
    work(kube)
    done = _deploy(world, config_of(target, server.address))
    before = copy.deepcopy(kube.objects[PLURAL[target]]["cxrflow-serve"]["spec"])
    work(kube, after=10**9)
    for image in ("registry.example/serve:2", "registry.example/serve:3"):
        with pytest.raises(UserError, match="the rollout failed"):
            _deploy(world, config_of(target, server.address, image=image, rollout_timeout_s=0.1))
        assert kube.objects[PLURAL[target]]["cxrflow-serve"]["spec"] == before
    assert read_deployment(world.root).deployment == done


@pytest.mark.usefixtures("one_check")
@pytest.mark.parametrize("target", TARGETS)
def test_changed_settings_reach_the_model_in_service(
    target: str, world: World, kube: KubeApi, server: RunningServer
) -> None:
    work(kube)
    done = _deploy(world, config_of(target, server.address))
    found = kube.objects[PLURAL[target]]["cxrflow-serve"]
    pod_of(target, found)["volumes"].insert(0, {"name": "operators", "emptyDir": {}})
    pod_of(target, found)["volumes"][-1]["emptyDir"]["sizeLimit"] = "1Gi"
    changes: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {}),
        ({"image": "registry.example/serve:3"}, {}),
        ({"replicas": 3}, {}),
        ({"resources": {"cpu": "2000m"}}, {}),
        ({}, {"readers": 7}),
    ]
    for cluster, own in changes:
        config = config_of(target, server.address, **cluster).model_copy(update=own)
        kube.asked.clear()
        assert _deploy(world, config) == done
        assert ("patch" in {asked.verb for asked in kube.asked}) == bool(cluster or own), "only where something differs"
        found = kube.objects[PLURAL[target]]["cxrflow-serve"]
        (container,) = pod_of(target, found)["containers"]
        assert container["image"] == config.cluster.image
        assert f"readers: {config.readers}," in str(container["args"])
        if config.cluster.replicas is not None:
            assert (
                found["spec"]["replicas"] if target == "kubernetes" else found["spec"]["predictor"]["minReplicas"]
            ) == 3
    assert container.get("resources", {}).get("limits") == {"cpu": "2000m"}
    container["resources"]["limits"]["cpu"] = "2"  # as the API server spells it
    kube.asked.clear()
    _deploy(world, config_of(target, server.address, resources={"cpu": "2000m"}).model_copy(update={"readers": 7}))
    assert {asked.verb for asked in kube.asked} == {"get"}


@pytest.mark.usefixtures("one_check")
def test_deploy_publishes_nothing_that_the_cluster_does_not_answer(
    world: World, kube: KubeApi, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(kube)
    check = service.check_answers

    def tampered(served: object, report: Any, **options: Any) -> object:
        if isinstance(served, ClusterServer):
            study = report.golden[0]
            wrong = study.model_copy(update={"probabilities": study.probabilities | {"Edema": 0.123}})
            report = report.model_copy(update={"golden": (wrong,)})
        return check(served, report, **options)

    monkeypatch.setattr(service, "check_answers", tampered)
    with pytest.raises(UserError, match="the server's answer is not evaluation's"):
        _deploy(world, config_of("kubernetes", server.address))
    assert read_deployment(world.root).deployment is None
    assert kube.objects["deployments"] == {}
    assert kube.objects["services"] == {}


@pytest.mark.usefixtures("one_check")
def test_a_deployment_in_the_meantime_rolls_back(
    world: World, kube: KubeApi, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(kube)
    served = rollout._Rollout.wait

    def meanwhile(self: Any) -> ClusterServer:
        found = served(self)
        write_deployment(world.root, deployment_of("c" * 64), over=read_deployment(world.root).generation)
        return found

    monkeypatch.setattr(rollout._Rollout, "wait", meanwhile)
    with pytest.raises(UserError, match="another model was deployed meanwhile"):
        _deploy(world, config_of("kubernetes", server.address))
    assert kube.objects["deployments"] == {}


@pytest.mark.usefixtures("one_check")
def test_a_step_that_was_killed_between_rollout_and_pointer_is_completed_by_the_next(
    world: World, kube: KubeApi, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(kube)
    config = config_of("kubernetes", server.address)

    def killed(*_: object, **__: object) -> None:
        raise SystemExit(137)

    with monkeypatch.context() as patch:
        patch.setattr(step, "write_deployment", killed)
        patch.setattr(rollout._Rollout, "undo", lambda _: None)  # nothing is put back by a process that is gone
        with pytest.raises(SystemExit):
            _deploy(world, config)
    assert read_deployment(world.root).deployment is None
    rolled = kube.objects["deployments"]["cxrflow-serve"]["metadata"]["uid"]
    done = _deploy(world, config)
    assert read_deployment(world.root).deployment == done
    assert kube.objects["deployments"]["cxrflow-serve"]["metadata"]["uid"] == rolled
    assert bundle_of("kubernetes", kube.objects["deployments"]["cxrflow-serve"]) == world.root.at(done.bundle).uri
    assert httpx.get(f"{server.address}/readyz", trust_env=False).status_code == 200


@pytest.mark.slow
@pytest.mark.usefixtures("one_check")
@pytest.mark.parametrize("image", ["same", "other versions"])
def test_a_pod_takes_no_traffic_before_it_has_answered_as_evaluation_did(
    world: World, kube: KubeApi, server: RunningServer, tmp_path: Path, image: str
) -> None:
    """With the pod's own process; the one that answers otherwise never listens, and the old one stays as it was."""
    work(kube)
    roll(config_of("kubernetes", server.address), world.report.bundle_hash, name="old")
    kube.objects["deployments"]["cxrflow-serve"]["metadata"]["annotations"] = {"cxrflow/model": "a" * 64}
    before = copy.deepcopy(kube.objects["deployments"]["cxrflow-serve"]["spec"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    same = image == "same"
    program = {} if same else {"program": (str(other_versions(tmp_path)),)}
    pod = RealPod(kube, port=port, log=tmp_path / "pod.log", **program)
    config = config_of("kubernetes", f"http://127.0.0.1:{port}", rollout_timeout_s=120.0)
    try:
        if same:
            done = _deploy(world, config)
            assert read_deployment(world.root).deployment == done
        else:
            with pytest.raises(UserError, match=r"the rollout failed(.|\n)*does not answer as evaluation did"):
                _deploy(world, config)
            assert read_deployment(world.root).deployment is None
            assert kube.objects["deployments"]["cxrflow-serve"]["spec"] == before
            assert httpx.get(f"{server.address}/readyz", trust_env=False).status_code == 200
    finally:
        pod.stop()
    lines = pod.log.read_text().splitlines()
    seen = [i for i, line in enumerate(lines) if "answers to synthetic studies are evaluation's" in line]
    listening = [i for i, line in enumerate(lines) if line.startswith("serve: listening on")]
    assert (len(seen), len(listening)) == ((1, 1) if same else (0, 0))
    assert seen <= listening


@pytest.mark.slow
def test_sigterm_during_a_rollout_restores_what_was_there(
    world: World, kube: KubeApi, server: RunningServer, tmp_path: Path
) -> None:
    work(kube)
    roll(config_of("kubernetes", server.address), world.report.bundle_hash, name="old")
    kube.objects["deployments"]["cxrflow-serve"]["metadata"]["annotations"] = {"cxrflow/model": "a" * 64}
    before = copy.deepcopy(kube.objects["deployments"]["cxrflow-serve"]["spec"])
    work(kube, after=10**9)
    script = tmp_path / "deploy.py"
    script.write_text(
        "import sys\n"
        "from components.cxr.shards import load_manifest\n"
        "from components.cxr.storage.storage import Root, open_storage\n"
        "from components.serve.config import ServeConfig\n"
        "from components.serve.deploy import deploy\n"
        "config, root, bundle, evaluation, manifest = sys.argv[1:]\n"
        "deploy(ServeConfig.model_validate_json(config), root=Root(root), bundle=open_storage(bundle),\n"
        "       evaluation=open_storage(evaluation), manifest=load_manifest(open_storage(manifest)))\n"
    )
    arguments = [world.root.uri, world.bundle.uri, world.evaluation.uri, world.manifest.storage.uri]
    config = config_of("kubernetes", server.address).model_dump_json()
    process = subprocess.Popen(
        [sys.executable, str(script), config, *arguments], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("serve: 0 of 1 pods available"):
            break
    assert bundle_of("kubernetes", kube.objects["deployments"]["cxrflow-serve"]) != "/root/deployed/old"
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=300)
    assert process.returncode == 143
    assert "serve: rolled deployments cxr/cxrflow-serve back" in rest
    assert kube.objects["deployments"]["cxrflow-serve"]["spec"] == before
    assert read_deployment(world.root).deployment is None
