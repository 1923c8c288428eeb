from __future__ import annotations

import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from components.cxr.deployment import Deployment, read_deployment, write_deployment
from components.cxr.errors import UserError
from components.serve import deploy as step
from components.serve import rollout
from components.serve.config import ServeConfig
from components.serve.deploy import deploy
from components.serve.rollout import ClusterServer, rolled_out

if TYPE_CHECKING:
    from components.serve.golden import RunningServer
    from tests.components.kube_api import KubeApi
    from tests.components.serve.conftest import World

Json = dict[str, Any]

REPOSITORY = Path(__file__).parents[3]
TARGETS = ("kubernetes", "kserve")
PLURAL = {"kubernetes": "deployments", "kserve": "inferenceservices"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "POLL_S", 0.02)


@pytest.fixture
def one_check(monkeypatch: pytest.MonkeyPatch, server: RunningServer) -> None:
    """deploy()'s own check of the model meets the server that is running already."""

    @contextlib.contextmanager
    def running(_config: ServeConfig, _bundle: object) -> Iterator[RunningServer]:
        yield server

    monkeypatch.setattr(step, "running_server", running)


def config_of(target: str, address: str | None, **cluster: Any) -> ServeConfig:
    values = {
        "image": "registry.example/serve:2",
        "claims": {"all": "/"},
        "rollout_timeout_s": 20.0,
        "address": address,
    }
    return ServeConfig.parse({"target": target, "cluster": values | cluster}, where="serve")


def deployment_of(model: str, name: str = "new") -> Deployment:
    return Deployment(
        bundle=f"/root/deployed/{name}",
        bundle_hash=model,
        evaluation="e",
        manifest_hash="m",
        mlflow_run_id=None,
        model_name=None,
        model_version=None,
        previous=None,
    )


def work(kube: KubeApi, *, after: int = 2) -> None:
    """Controllers that complete a rollout when it is looked at that many times."""
    looks = 0

    def deployments(found: Json) -> None:
        nonlocal looks
        looks += 1
        wanted = found["spec"].setdefault("replicas", 1)
        done = wanted if looks >= after else 0
        found["status"] = {
            "observedGeneration": found["metadata"]["generation"],
            "replicas": wanted,
            "updatedReplicas": wanted,
            "availableReplicas": done,
        }

    def services(found: Json) -> None:
        nonlocal looks
        looks += 1
        state = "True" if looks >= after else "False"
        found["status"] = {
            "conditions": [{"type": "Ready", "status": state, "reason": "RevisionMissing"}],
            "address": {"url": "http://cxrflow-serve-predictor.cxr.svc.cluster.local/v1/models/cxrflow-serve:predict"},
        }

    kube.controllers |= {"deployments": deployments, "inferenceservices": services}


def roll(
    config: ServeConfig, model: str, *, name: str = "new", current: Deployment | None = None,
    within: Callable[[ClusterServer], None] = lambda _: None, published: bool = False,
) -> None:  # fmt: skip
    with rolled_out(config, deployment_of(model, name), current=current, published=lambda: published) as served:
        within(served)


def refuse(_: ClusterServer) -> None:
    raise UserError("the server's answer is not evaluation's")


def pod_of(target: str, found: Json) -> Json:
    pod: Json = found["spec"]["template"]["spec"] if target == "kubernetes" else found["spec"]["predictor"]
    return pod


def bundle_of(target: str, found: Json) -> str:
    (container,) = pod_of(target, found)["containers"]
    arguments: list[str] = container["args"]
    return arguments[arguments.index("--bundle") + 1]


def existing(kube: KubeApi, target: str) -> Json:
    """What an earlier rollout left, with changes of an operator's."""
    found = copy.deepcopy(kube.objects[PLURAL[target]]["cxrflow-serve"])
    pod = pod_of(target, found)
    pod["containers"][0]["livenessProbe"] = {"httpGet": {"path": "/healthz", "port": 8000}, "periodSeconds": 99}
    pod["volumes"] = [*pod.get("volumes", []), {"name": "tmp", "emptyDir": {}}]
    kube.objects[PLURAL[target]]["cxrflow-serve"] = found
    return copy.deepcopy(found)


@pytest.mark.parametrize("target", TARGETS)
def test_the_first_rollout_creates_what_serves(
    target: str, kube: KubeApi, server: RunningServer, evaluated: World, capsys: pytest.CaptureFixture[str]
) -> None:
    work(kube)
    config = config_of(
        target, server.address, replicas=2, service_account="reader", gpus=1, resources={"cpu": "2"},
        secret_env={"TOKEN": "s/k"}, tolerations=[{"key": "gpu"}], node_selector={"pool": "serve"},
    )  # fmt: skip
    seen = []
    roll(config, evaluated.report.bundle_hash, within=seen.append)
    assert seen[0].address == server.address
    found = kube.objects[PLURAL[target]]["cxrflow-serve"]
    pod = pod_of(target, found)
    (container,) = pod["containers"]
    assert container["name"] == {"kubernetes": "serve", "kserve": "kserve-container"}[target]
    assert (container["image"], bundle_of(target, found)) == ("registry.example/serve:2", "/root/deployed/new")
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": 8000}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": 8000}
    assert ("startupProbe" in container) == (target == "kubernetes")
    assert container["securityContext"] == {
        "runAsUser": 10001,
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    amounts = {"cpu": "2", "nvidia.com/gpu": "1"}
    assert container["resources"] == {"requests": amounts, "limits": amounts}
    assert container["env"] == [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    assert container["volumeMounts"] == [{"name": "all", "mountPath": "/"}]
    assert pod["volumes"] == [{"name": "all", "persistentVolumeClaim": {"claimName": "all"}}]
    assert (pod["serviceAccountName"], pod["nodeSelector"]) == ("reader", {"pool": "serve"})
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert found["metadata"]["annotations"] == {"cxrflow/model": evaluated.report.bundle_hash}
    spec = found["spec"]
    assert (spec["replicas"] if target == "kubernetes" else spec["predictor"]["minReplicas"]) == 2

    given = yaml.safe_load(container["args"][container["args"].index("--set") + 1].removeprefix("serve="))
    assert ServeConfig.parse(given, where="serve") == ServeConfig(host="0.0.0.0", port=8000)
    if target == "kubernetes":
        service = kube.objects["services"]["cxrflow-serve"]
        labels = spec["template"]["metadata"]["labels"]
        assert service["spec"]["selector"] == spec["selector"]["matchLabels"] == labels
        assert service["spec"]["ports"][0]["targetPort"] == 8000
        assert "0 of 2 pods available" in capsys.readouterr().out
    else:
        assert "services" not in kube.objects, "KServe makes its own"


def test_the_kubernetes_client_knows_every_field(kube: KubeApi, server: RunningServer, evaluated: World) -> None:
    from kubernetes import client

    work(kube)
    roll(config_of("kubernetes", server.address, tolerations=[{"key": "gpu"}]), evaluated.report.bundle_hash)
    (body,) = (asked.body for asked in kube.asked if (asked.verb, asked.plural) == ("create", "deployments"))
    service = kube.objects["services"]["cxrflow-serve"]
    for kind, written in (("V1Deployment", body), ("V1Service", {k: v for k, v in service.items() if k != "metadata"})):
        read = client.ApiClient().deserialize(SimpleNamespace(data=json.dumps(written)), kind)
        assert client.ApiClient().sanitize_for_serialization(read) == written


@pytest.mark.parametrize("target", TARGETS)
def test_a_later_rollout_changes_the_model_and_keeps_what_operators_set(
    target: str, kube: KubeApi, server: RunningServer, evaluated: World
) -> None:
    work(kube)
    roll(config_of(target, server.address), evaluated.report.bundle_hash, name="old")
    before = existing(kube, target)
    kube.asked.clear()
    roll(config_of(target, server.address, image="registry.example/serve:3"), evaluated.report.bundle_hash, name="new")
    after = kube.objects[PLURAL[target]]["cxrflow-serve"]
    assert bundle_of(target, after) == "/root/deployed/new"
    (container,) = pod_of(target, after)["containers"]
    assert container["image"] == "registry.example/serve:3"
    assert container["livenessProbe"]["periodSeconds"] == 99
    assert {"name": "tmp", "emptyDir": {}} in pod_of(target, after)["volumes"]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert "create" not in {asked.verb for asked in kube.asked}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("how", ["refused", "never ready", "another model"])
def test_what_was_there_comes_back(
    target: str, how: str, kube: KubeApi, server: RunningServer, evaluated: World, capsys: pytest.CaptureFixture[str]
) -> None:
    work(kube)
    old, new = evaluated.report.bundle_hash, evaluated.report.bundle_hash
    roll(config_of(target, server.address, replicas=2), old, name="old")
    kube.objects[PLURAL[target]]["cxrflow-serve"]["metadata"]["annotations"] = {
        "cxrflow/model": "a" * 64,
        "other": "kept",
    }
    before = existing(kube, target)
    timeout = 20.0
    if how == "never ready":
        work(kube, after=10**9)
        timeout = 0.2
    if how == "another model":
        new, timeout = "b" * 64, 0.2
    config = config_of(target, server.address, replicas=3, rollout_timeout_s=timeout)
    with pytest.raises(UserError, match=r"not evaluation's|the rollout failed") as raised:
        roll(config, new, within=refuse)
    assert {"another model": f"serves {old[:16]}", "never ready": "last lines"}.get(how, "") in str(raised.value)
    after = kube.objects[PLURAL[target]]["cxrflow-serve"]
    assert after["spec"] == before["spec"]
    assert after["metadata"]["annotations"] == before["metadata"]["annotations"]
    assert f"serve: rolled {PLURAL[target]} cxr/cxrflow-serve back" in capsys.readouterr().out


@pytest.mark.parametrize("target", TARGETS)
def test_a_first_rollout_that_fails_leaves_nothing(
    target: str, kube: KubeApi, server: RunningServer, evaluated: World
) -> None:
    work(kube)
    with pytest.raises(UserError, match="not evaluation's"):
        roll(config_of(target, server.address), evaluated.report.bundle_hash, within=refuse)
    assert kube.objects[PLURAL[target]] == {}
    assert not kube.objects.get("services")


def test_after_an_attempt_that_was_cut_off_the_current_model_comes_back(
    kube: KubeApi, server: RunningServer, evaluated: World
) -> None:
    work(kube)
    model = evaluated.report.bundle_hash
    roll(config_of("kubernetes", server.address), model, name="new")  # and then the step was killed
    current = deployment_of("a" * 64, "current")
    with pytest.raises(UserError, match="not evaluation's"):
        roll(config_of("kubernetes", server.address), model, name="new", current=current, within=refuse)
    after = kube.objects["deployments"]["cxrflow-serve"]
    assert bundle_of("kubernetes", after) == "/root/deployed/current"
    assert after["metadata"]["annotations"]["cxrflow/model"] == "a" * 64


def test_what_is_published_is_not_rolled_back(kube: KubeApi, server: RunningServer, evaluated: World) -> None:
    work(kube)
    with pytest.raises(UserError, match="not evaluation's"):
        roll(config_of("kubernetes", server.address), evaluated.report.bundle_hash, within=refuse, published=True)
    assert "cxrflow-serve" in kube.objects["deployments"]


def test_pods_that_cannot_start_are_told_with_their_last_lines(
    kube: KubeApi, server: RunningServer, evaluated: World
) -> None:
    def stuck(found: Json) -> None:
        condition = {
            "type": "Progressing",
            "status": "False",
            "reason": "ProgressDeadlineExceeded",
            "message": "too slow",
        }
        found["status"] = {"observedGeneration": 1, "conditions": [condition]}

    kube.controllers["deployments"] = stuck
    kube.add_pod("cxrflow-serve-1", {"app.kubernetes.io/name": "cxrflow-serve"}, phase="Failed")
    kube.logs["cxrflow-serve-1"] = "2026-01-01T00:00:00Z error: no bundle here"
    with pytest.raises(UserError, match=r"cxrflow-serve-1: failed\nerror: no bundle here\n(.|\n)*too slow"):
        roll(config_of("kubernetes", server.address), evaluated.report.bundle_hash)


@pytest.mark.parametrize(
    ("target", "verb", "plural"),
    [
        ("kubernetes", "get", "deployments"),
        ("kubernetes", "create", "deployments"),
        ("kubernetes", "create", "services"),
        ("kserve", "create", "inferenceservices"),
    ],
)
def test_a_missing_permission_is_one_line_that_names_it(
    kube: KubeApi, server: RunningServer, evaluated: World, target: str, verb: str, plural: str
) -> None:
    kube.permitted.remove((verb, plural))
    with pytest.raises(UserError, match=f"Role with the verb {verb} on {plural}") as raised:
        roll(config_of(target, server.address), evaluated.report.bundle_hash)
    assert "\n" not in str(raised.value)


def test_something_else_of_that_name_is_left_alone(kube: KubeApi, server: RunningServer, evaluated: World) -> None:
    work(kube)
    roll(config_of("kubernetes", server.address), evaluated.report.bundle_hash)
    kube.objects["deployments"]["cxrflow-serve"]["spec"]["template"]["spec"]["containers"][0]["name"] = "postgres"
    before = copy.deepcopy(kube.objects["deployments"]["cxrflow-serve"]["spec"])
    with pytest.raises(
        UserError, match=r"no server of ours: serve\.cluster\.name: cxrflow-serve; found containers postgres"
    ):
        roll(config_of("kubernetes", server.address), evaluated.report.bundle_hash)
    assert kube.objects["deployments"]["cxrflow-serve"]["spec"] == before


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("kubernetes", "http://cxrflow-serve.cxr.svc"),
        ("kserve", "http://cxrflow-serve-predictor.cxr.svc.cluster.local"),
    ],
)
def test_the_address_within_the_cluster(kube: KubeApi, target: str, address: str) -> None:
    work(kube, after=1)
    with pytest.raises(UserError, match=rf"{address} does not answer"):
        roll(config_of(target, None, rollout_timeout_s=0.1), "a" * 64)


def test_a_folder_that_the_pods_cannot_see_is_refused(kube: KubeApi, server: RunningServer) -> None:
    with pytest.raises(UserError, match="pods cannot see this folder"):
        roll(config_of("kubernetes", server.address, claims={}), "a" * 64)
    assert kube.asked == []


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
    assert bundle_of(target, kube.objects[PLURAL[target]]["cxrflow-serve"]) == done.bundle
    assert capsys.readouterr().out.count("are evaluation's") == 2, "before the rollout and after it"

    kube.asked.clear()
    assert _deploy(world, config) == done
    assert {asked.verb for asked in kube.asked} == {"get"}
    kube.objects[PLURAL[target]].clear()
    assert _deploy(world, config) == done
    assert bundle_of(target, kube.objects[PLURAL[target]]["cxrflow-serve"]) == done.bundle


@pytest.mark.usefixtures("one_check")
def test_deploy_publishes_nothing_that_the_cluster_does_not_answer(
    world: World, kube: KubeApi, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(kube)
    check = step.check_answers

    def tampered(served: object, report: Any, **options: Any) -> object:
        if isinstance(served, ClusterServer):
            study = report.golden[0]
            wrong = study.model_copy(update={"probabilities": study.probabilities | {"Edema": 0.123}})
            report = report.model_copy(update={"golden": (wrong,)})
        return check(served, report, **options)

    monkeypatch.setattr(step, "check_answers", tampered)
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
        "from components.cxr.storage import Root, open_storage\n"
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
