from __future__ import annotations

import copy
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import yaml

from components.cxr.errors import UserError
from components.serve import rollout
from components.serve.config import ServeConfig
from components.serve.keys import OPEN_PATHS
from components.serve.pod import server_pod

if TYPE_CHECKING:
    from components.serve.golden import RunningServer
    from tests.components.kube_api import KubeApi
    from tests.components.serve.conftest import World

from tests.components.serve.cluster import (
    PLURAL,
    TARGETS,
    Json,
    bundle_of,
    config_of,
    deployment_of,
    existing,
    pod_of,
    refuse,
    roll,
    work,
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "POLL_S", 0.02)


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
    called = {"port": 8000, "httpHeaders": [{"name": "Host", "value": "localhost"}]}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", **called}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", **called}
    assert ("startupProbe" in container) == (target == "kubernetes")
    assert container["securityContext"] == {
        "runAsUser": 10001,
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
        "readOnlyRootFilesystem": True,
    }
    amounts = {"cpu": "2", "nvidia.com/gpu": "1"}
    assert container["resources"] == {"requests": amounts, "limits": amounts}
    token = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    assert container["env"] == [token, {"name": "HOME", "value": "/tmp"}]
    tmp = {"name": "cxrflow-tmp", "mountPath": "/tmp"}
    assert container["volumeMounts"] == [{"name": "all", "mountPath": "/"}, tmp]
    claim = {"name": "all", "persistentVolumeClaim": {"claimName": "all"}}
    assert pod["volumes"] == [claim, {"name": "cxrflow-tmp", "emptyDir": {}}]
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
    changed = config_of(target, server.address, image="registry.example/serve:3", rollout_timeout_s=1800.0)
    roll(changed, evaluated.report.bundle_hash, name="new")
    after = kube.objects[PLURAL[target]]["cxrflow-serve"]
    assert bundle_of(target, after) == "/root/deployed/new"
    assert after["spec"].get("progressDeadlineSeconds") == {"kubernetes": 1800}.get(target), (
        "as the error's remedy says"
    )
    (container,) = pod_of(target, after)["containers"]
    assert container["image"] == "registry.example/serve:3"
    assert container["livenessProbe"]["periodSeconds"] == 99
    assert [mount["mountPath"] for mount in container["volumeMounts"]].count("/tmp") == 1
    assert {"name": "tmp", "emptyDir": {}} in pod_of(target, after)["volumes"]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert "create" not in {asked.verb for asked in kube.asked}


@pytest.mark.parametrize("target", TARGETS)
def test_keys_and_certificate_come_from_secrets_and_probes_ask_by_https(target: str) -> None:
    files = {"keys": "/run/keys/keys", "tls_certificate": "/run/tls/tls.crt", "tls_key": "/run/tls/tls.key"}
    secrets = {"cxrflow-keys": "/run/keys", "cxrflow-tls": "/run/tls"}
    base = config_of(target, "https://cxr.example", secrets=secrets).model_dump(mode="json")
    config = ServeConfig.parse(base | files, where="serve")
    pod = server_pod(config, {}, container="serve", startup_probe=True, bundle="/root/deployed/new", seal="5" * 64)
    (container,) = pod["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["scheme"] == "HTTPS"
        assert container[probe]["httpGet"]["path"] in OPEN_PATHS, "a probe has no key"
    mounts = [mount for mount in container["volumeMounts"] if mount.get("readOnly")]
    assert mounts == [
        {"name": "secret-cxrflow-keys", "mountPath": "/run/keys", "readOnly": True},
        {"name": "secret-cxrflow-tls", "mountPath": "/run/tls", "readOnly": True},
    ]
    for name in secrets:
        assert {"name": f"secret-{name}", "secret": {"secretName": name}} in pod["volumes"]
    given = yaml.safe_load(container["args"][container["args"].index("--set") + 1].removeprefix("serve="))
    assert {name: given[name] for name in files} == files
    again = server_pod(config, pod, container="serve", startup_probe=True, bundle="/root/deployed/new", seal="5" * 64)
    assert sorted(volume["name"] for volume in again["volumes"]) == sorted(volume["name"] for volume in pod["volumes"])


@pytest.mark.parametrize("port", [8000, "http"])
def test_probes_of_a_server_that_is_there_ask_as_it_speaks_from_now_on(port: int | str) -> None:
    plain = config_of("kubernetes", "https://cxr.example")
    secret = plain.model_copy(update={"tls_certificate": "/run/tls/tls.crt", "tls_key": "/run/tls/tls.key"})
    probe = {"httpGet": {"path": "/readyz", "port": port, "scheme": "HTTP"}, "periodSeconds": 99}
    other = {"httpGet": {"path": "/", "port": 9090, "scheme": "HTTP"}}
    ports = [{"name": "http", "containerPort": 8000}, {"name": "other", "containerPort": 9090}]
    pod: Json = {"containers": [{"name": "serve", "ports": ports, "readinessProbe": probe, "livenessProbe": other}]}
    for config, scheme in ((secret, "HTTPS"), (plain, None)):
        pod = server_pod(config, pod, container="serve", startup_probe=True, bundle="/root/deployed/new", seal="5" * 64)
        (container,) = pod["containers"]
        assert container["readinessProbe"]["httpGet"].get("scheme") == scheme
        assert container["readinessProbe"]["periodSeconds"] == 99
        assert container["livenessProbe"] == other


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
