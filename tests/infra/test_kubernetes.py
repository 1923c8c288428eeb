"""Every overlay builds, is valid to the letter, and means what it should: accounts, rights, selectors, probes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from components.cxr.config import load_yaml, section
from components.serve.config import ServeConfig
from tests.components.kube_api import documented_rights

REPOSITORY = Path(__file__).parents[2]
KUBERNETES = REPOSITORY / "infra" / "kubernetes"
OVERLAYS = sorted(f"overlays/{folder.name}" for folder in (KUBERNETES / "overlays").iterdir())
NOT_OURS = {"jobset.sigs.k8s.io/jobset-name"}
"""Labels of pods that the cluster's controllers make: no template here has them."""

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)

Manifest = dict[str, Any]


def pod(workload: Manifest) -> Manifest:
    spec: Manifest = workload["spec"]["template"]["spec"]
    return spec


def place(item: Manifest) -> tuple[str, str | None, str]:
    return item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]


def test_there_are_three_overlays() -> None:
    assert OVERLAYS == ["overlays/dev", "overlays/gke", "overlays/onprem"]


@pytest.mark.parametrize("folder", ["base", *OVERLAYS])
def test_every_object_is_valid_in_strict_mode(folder: str, built: Any) -> None:
    objects = built(folder)
    assert len(objects) >= 18
    for item in objects:  # no custom kinds are among them: the validator would raise for one that it does not know
        kubernetes_validate.validate(item, "1.31", strict=True)
        kubernetes_validate.validate(item, kubernetes_validate.latest_version(), strict=True)
    assert len({place(item) for item in objects}) == len(objects)


@every_overlay
def test_nothing_is_in_a_namespace_by_accident(objects: Any) -> None:
    for item in objects:
        if item["kind"] in ("Namespace", "PersistentVolume"):
            assert "namespace" not in item["metadata"]
        else:
            assert item["metadata"]["namespace"] in ("cxrflow", "kubeflow"), place(item)


@every_overlay
def test_every_account_exists(objects: Any) -> None:
    accounts = {place(item)[1:] for item in objects.of_kind("ServiceAccount")}
    for item in objects.workloads():
        assert (item["metadata"]["namespace"], pod(item)["serviceAccountName"]) in accounts
        assert pod(item)["automountServiceAccountToken"] is False  # none of them talks to the Kubernetes API
    roles = {place(item)[1:] for item in objects.of_kind("Role")}
    bindings = objects.of_kind("RoleBinding")
    bound = set()
    for binding in bindings:
        assert binding["roleRef"]["kind"] == "Role"
        bound.add((binding["metadata"]["namespace"], binding["roleRef"]["name"]))
        for subject in binding["subjects"]:
            assert (subject["namespace"], subject["name"]) in accounts
    assert bound == roles


@every_overlay
def test_the_steps_may_do_what_they_need_and_nothing_else(objects: Any) -> None:
    assert not objects.of_kind("ClusterRole", "ClusterRoleBinding")
    rights = {}
    for role in objects.of_kind("Role"):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            for resource in rule["resources"]:
                key = role["metadata"]["namespace"], role["metadata"]["name"], f"{rule['apiGroups'][0]}/{resource}"
                rights[key] = set(rule["verbs"])
                if resource in ("secrets", "configmaps"):
                    assert rule["resourceNames"], role["metadata"]["name"]
    ours = {key[1:]: verbs for key, verbs in rights.items() if key[0] == "cxrflow"}
    assert {key for key in ours if key[0] == "cxrflow-train"} == {
        ("cxrflow-train", resource) for resource in ("trainer.kubeflow.org/trainjobs", "/pods", "/pods/log")
    }
    granted = {(verb, key[1].partition("/")[2]) for key, verbs in ours.items() for verb in verbs}
    assert granted == documented_rights(), "what the tests of train and serve let the steps do"


@every_overlay
def test_every_pod_is_confined(objects: Any) -> None:
    assert {item["metadata"]["name"] for item in objects.workloads()} == {
        "cxrflow-postgres", "cxrflow-mlflow", "cxrflow-serve",
    }  # fmt: skip
    for item in objects.workloads():
        context = pod(item)["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*pod(item).get("initContainers", []), *pod(item)["containers"]]:
            confined = container["securityContext"]
            assert confined["readOnlyRootFilesystem"] is True
            assert confined["allowPrivilegeEscalation"] is False
            assert confined["capabilities"] == {"drop": ["ALL"]}
            volumes = {volume["name"]: volume for volume in pod(item)["volumes"]}
            mounted = {mount["mountPath"]: volumes.get(mount["name"]) for mount in container["volumeMounts"]}
            assert "emptyDir" in (mounted["/tmp"] or {})
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]


@every_overlay
def test_every_container_is_probed_where_it_listens(objects: Any) -> None:
    for item in objects.workloads():
        for container in pod(item)["containers"]:
            ports = {port["name"] for port in container["ports"]}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert "exec" in container[probe] or container[probe]["httpGet"]["port"] in ports
    serve = objects.workload("cxrflow-serve")
    container = pod(serve)["containers"][0]
    assert [container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")] == [
        "/readyz", "/readyz", "/healthz",
    ]  # fmt: skip
    for name in ("startup", "readiness", "liveness"):  # whatever serve.allowed_hosts are
        assert container[f"{name}Probe"]["httpGet"]["httpHeaders"] == [{"name": "Host", "value": "localhost"}]
    assert container["ports"] == [{"name": "http", "containerPort": ServeConfig().port}]


@every_overlay
def test_every_selector_takes_the_pods_that_it_means(objects: Any) -> None:
    for item in objects.workloads():
        name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
        assert objects.selected(item["spec"]["selector"], namespace) == [name]
    for service in objects.of_kind("Service"):
        name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
        assert objects.selected({"matchLabels": service["spec"]["selector"]}, namespace) == [name]
        ports = {port["name"] for container in pod(objects.workload(name))["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


@every_overlay
def test_the_server_reads_a_configuration_that_it_accepts(objects: Any, tmp_path: Path) -> None:
    serve = objects.workload("cxrflow-serve")
    (volume,) = (volume for volume in pod(serve)["volumes"] if volume["name"] == "config")
    configs = {place(item): item["data"] for item in objects.of_kind("ConfigMap")}
    data = configs["ConfigMap", "cxrflow", volume["configMap"]["name"]]
    assert re.fullmatch(r"cxrflow-serve-[a-z0-9]{10}", volume["configMap"]["name"])  # another text restarts the pods
    mounts = {mount["name"]: mount["mountPath"] for mount in pod(serve)["containers"][0]["volumeMounts"]}
    (name,) = data
    assert pod(serve)["containers"][0]["args"] == ["--config", f"{mounts['config']}/{name}"]
    file = tmp_path / name
    file.write_text(data[name])
    values = load_yaml(file)
    assert ServeConfig.parse(section(values, "serve"), where="serve").host == "0.0.0.0"
    assert str(values["root"]).startswith(("gs://", "/data/"))


@pytest.mark.parametrize("overlay", ["overlays/gke"])
def test_gke_scales_guards_and_identifies(objects: Any) -> None:
    (scaler,), (budget,) = objects.of_kind("HorizontalPodAutoscaler"), objects.of_kind("PodDisruptionBudget")
    target = scaler["spec"]["scaleTargetRef"]
    (serve,) = (item for item in objects.workloads() if place(item)[::2] == (target["kind"], target["name"]))
    assert target["name"] == "cxrflow-serve"
    assert scaler["spec"]["minReplicas"] >= 2
    assert "replicas" not in serve["spec"]  # or every apply would undo the scaling
    assert objects.selected(budget["spec"]["selector"], "cxrflow") == ["cxrflow-serve"]
    people = {
        item["metadata"]["name"]: item["metadata"].get("annotations", {}).get("iam.gke.io/gcp-service-account")
        for item in objects.of_kind("ServiceAccount")
    }
    assert people.pop("cxrflow-postgres") is None
    assert people == {
        "cxrflow-pipeline": "cxrflow-pipeline@PROJECT_ID.iam.gserviceaccount.com",
        "cxrflow-train": "cxrflow-pipeline@PROJECT_ID.iam.gserviceaccount.com",
        "cxrflow-serve": "cxrflow-serve@PROJECT_ID.iam.gserviceaccount.com",
        "cxrflow-mlflow": "cxrflow-mlflow@PROJECT_ID.iam.gserviceaccount.com",
    }


@pytest.mark.parametrize("overlay", ["overlays/gke"])
def test_network_policies_close_all_and_open_what_is_there(objects: Any) -> None:
    policies = {item["metadata"]["name"]: item["spec"] for item in objects.of_kind("NetworkPolicy")}
    assert policies.pop("nothing-in") == {"podSelector": {}, "policyTypes": ["Ingress"]}
    ports = {
        item["metadata"]["name"]: {port["containerPort"] for c in pod(item)["containers"] for port in c["ports"]}
        for item in objects.workloads()
    }
    opened = set()
    for policy in policies.values():
        for _, node in objects.below(policy):
            if (inner := node.get("podSelector")) is None:
                continue
            keys = {wanted["key"] for wanted in inner.get("matchExpressions", [])}
            assert keys <= NOT_OURS
            assert keys or len(objects.selected(inner, "cxrflow")) == 1, inner
        for name in objects.selected(policy["podSelector"], "cxrflow"):
            opened.add(name)
            assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == ports[name]
    assert opened == ports.keys()


@pytest.mark.parametrize("overlay", ["overlays/gke"])
def test_no_policy_keeps_a_pod_from_what_it_talks_to(objects: Any) -> None:
    """MLflow reaches PostgreSQL by both sides' policies; the steps, in `kubeflow`, reach MLflow and the server."""
    policies = {item["metadata"]["name"]: item["spec"] for item in objects.of_kind("NetworkPolicy")}
    out = [peer for rule in policies["mlflow"]["egress"] for peer in rule.get("to", [])]
    assert policies["postgres"]["podSelector"] in [peer.get("podSelector") for peer in out]
    sources = [peer for rule in policies["postgres"]["ingress"] for peer in rule["from"]]
    assert sources == [{"podSelector": policies["mlflow"]["podSelector"]}]
    (pipeline,) = (i for i in objects.of_kind("ServiceAccount") if i["metadata"]["name"] == "cxrflow-pipeline")
    steps = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": pipeline["metadata"]["namespace"]}}}
    for name in ("mlflow", "serve"):
        assert steps in [peer for rule in policies[name]["ingress"] for peer in rule["from"]]


@pytest.mark.parametrize("overlay", ["overlays/dev", "overlays/onprem"])
def test_a_shared_folder_is_bound_once_in_each_namespace(objects: Any, overlay: str) -> None:
    volumes = {item["metadata"]["name"]: item["spec"] for item in objects.of_kind("PersistentVolume")}
    claims = objects.of_kind("PersistentVolumeClaim")
    assert {claim["metadata"]["namespace"] for claim in claims} == {"cxrflow", "kubeflow"}
    for claim in claims:
        volume = volumes.pop(claim["spec"]["volumeName"])
        wanted = {"namespace": claim["metadata"]["namespace"], "name": claim["metadata"]["name"]}
        assert volume["claimRef"] == wanted
        assert volume["accessModes"] == claim["spec"]["accessModes"] == ["ReadWriteMany"]
        assert volume["storageClassName"] == claim["spec"]["storageClassName"] == ""
    assert not volumes
    mounts = {}
    for item in objects.workloads():
        for volume in pod(item)["volumes"]:
            if "persistentVolumeClaim" in volume:
                mounts[item["metadata"]["name"]] = volume["persistentVolumeClaim"]
    assert mounts == {
        "cxrflow-mlflow": {"claimName": "cxrflow-data"},
        "cxrflow-serve": {"claimName": "cxrflow-data", "readOnly": True},
    }


def test_kinds_file_mounts_the_folder_of_the_volumes(built: Any) -> None:
    kind = yaml.safe_load((KUBERNETES / "overlays" / "dev" / "kind.yaml").read_text())
    mounted = {mount["containerPath"] for node in kind["nodes"] for mount in node["extraMounts"]}
    paths = {item["spec"]["hostPath"]["path"] for item in built("overlays/dev").of_kind("PersistentVolume")}
    assert paths == mounted
