from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.cxr.errors import UserError
from components.cxr.storage.storage import Root
from components.train import nodes
from components.train.config import TrainConfig
from components.train.trainjob import checked
from tests.components.crd import crd_validator
from tests.components.kube_api import KubeApi
from tests.components.train.cluster import CLUSTER, KEY, add_node, config_of, created, run


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "POLL_S", 0.02)


def ends(kind: str, *, after: int = 2, **fields: str) -> Callable[[dict[str, Any]], None]:
    """A controller that sets the condition when the job is looked at that many times."""
    looks = 0

    def control(job: dict[str, Any]) -> None:
        nonlocal looks
        looks += 1
        if looks >= after:
            job["status"] = {"conditions": [{"type": kind, "status": "True", **fields}]}

    return control


def assert_restricted(security: dict[str, Any]) -> None:
    """The Pod Security Standard `restricted`, or the namespace refuses the pods."""
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == 10001
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}


def test_the_job_says_what_the_configuration_says(kube: KubeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    kube.controllers["trainjobs"] = ends("Complete")
    config = config_of(weight_decay=1e-5, learning_rate=2e-5)
    run(config)
    (job,) = created(kube)
    spec = job["spec"]
    assert (job["apiVersion"], job["kind"]) == ("trainer.kubeflow.org/v1alpha1", "TrainJob")
    assert job["metadata"]["labels"]["cxrflow/training"] == KEY
    assert spec["runtimeRef"]["name"] == "torch-distributed"
    assert spec["runtimeRef"]["kind"] == "ClusterTrainingRuntime"
    assert spec["activeDeadlineSeconds"] == 3600
    trainer = spec["trainer"]
    assert (trainer["image"], trainer["numNodes"], trainer["numProcPerNode"]) == (CLUSTER["image"], 2, 2)
    amounts = {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "2"}
    assert trainer["resourcesPerNode"] == {"requests": amounts, "limits": amounts}
    env = {entry["name"]: entry for entry in trainer["env"]}
    assert env["MLFLOW_TRACKING_URI"]["value"] == "http://mlflow:5000"
    secret = {"secretKeyRef": {"name": "mlflow", "key": "password"}}
    assert env["MLFLOW_TRACKING_PASSWORD"] == {"name": "MLFLOW_TRACKING_PASSWORD", "valueFrom": secret}
    assert "hunter2" not in json.dumps(job)

    (node,) = spec["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = node["template"]["spec"]["template"]["spec"]
    assert node["name"] == pod["containers"][0]["name"] == "node"
    assert "env" not in pod["containers"][0], "Kubeflow forbids it here"
    assert_restricted(pod["containers"][0]["securityContext"])
    assert pod["containers"][0]["volumeMounts"] == [{"name": "shm", "mountPath": "/dev/shm"}]
    assert pod["volumes"] == [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "4Gi"}}]
    assert (pod["serviceAccountName"], pod["nodeSelector"]) == ("trainer", {"pool": "gpu"})
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]

    given = yaml.safe_load(trainer["args"][trainer["args"].index("--set") + 1].removeprefix("train="))
    assert TrainConfig.parse(given, where="train").hash == config.hash
    assert given["weight_decay"] == 1e-5


def test_the_nodes_log_into_the_run_of_the_task_with_its_token_by_reference(
    kube: KubeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Kubeflow's MLflow plugin gives the step's pod; a token as a plain value goes nowhere."""
    given = {"MLFLOW_RUN_ID": "r" * 32, "MLFLOW_EXPERIMENT_ID": "7", "MLFLOW_WORKSPACE": "cxr"}
    given |= {"MLFLOW_TRACKING_AUTH": "kubernetes", "CXRFLOW_PIPELINE_RUN": "run-7"}
    secret = {"MLFLOW_TRACKING_TOKEN": "hunter2", "MLFLOW_TRACKING_USERNAME": "hunter3"}
    for name, value in (given | secret | {"KFP_POD_NAME": "train-1"}).items():
        monkeypatch.setenv(name, value)
    reference = {"name": "MLFLOW_TRACKING_TOKEN", "valueFrom": {"secretKeyRef": {"name": "kfp-mlflow", "key": "token"}}}
    plain = {"name": "MLFLOW_TRACKING_USERNAME", "value": "hunter3"}
    kube.add_pod("train-1", {}, phase="Running")
    kube.objects["pods"]["train-1"]["spec"] = {"containers": [{"name": "main", "env": [reference, plain]}]}
    kube.controllers["trainjobs"] = ends("Complete")
    run(config_of())
    env = {entry["name"]: entry for entry in created(kube)[0]["spec"]["trainer"]["env"]}
    assert {name: env[name]["value"] for name in given} == given
    assert env["MLFLOW_TRACKING_TOKEN"] == reference
    assert env["CXRFLOW_IMAGE"]["value"] == CLUSTER["image"]
    assert "hunter" not in json.dumps(created(kube))


def test_a_field_that_kubeflow_does_not_know_is_refused(kube: KubeApi) -> None:
    kube.controllers["trainjobs"] = ends("Complete")
    run()
    (job,) = created(kube)
    assert checked(job) == job
    typo = json.loads(json.dumps(job))
    pod = typo["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]["template"]
    pod["spec"]["template"]["spec"]["nodeSelectors"] = {"pool": "gpu"}
    with pytest.raises(ValueError, match="not one that Kubeflow knows"):
        checked(typo)
    typo = json.loads(json.dumps(job))
    typo["spec"]["trainer"]["numNodes"] = "2"
    with pytest.raises(ValueError, match="numNodes"):
        checked(typo)


def test_the_job_is_one_that_the_cluster_accepts(kube: KubeApi, real_data: Path) -> None:
    kube.controllers["trainjobs"] = ends("Complete")
    run()
    run(config_of({"claims": {"shared": "/data"}}))
    validator = crd_validator(real_data / "crds" / "trainer-trainjobs.yaml", version="v1alpha1")
    for job in created(kube):
        assert [error.json_path for error in validator.iter_errors(job)] == []
    (job, _) = created(kube)
    job["spec"]["retries"] = 3
    job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["failurePolicy"] = {"maxRestarts": 3}
    job["spec"]["trainer"]["numNodes"] = "2"
    found = {(error.json_path, error.validator) for error in validator.iter_errors(job)}
    assert found == {
        ("$.spec", "additionalProperties"),
        ("$.spec.runtimePatches[0].trainingRuntimeSpec.template.spec", "additionalProperties"),
        ("$.spec.trainer.numNodes", "type"),
    }, "fields for restarts are not the TrainJob's, so the step itself starts it again"


def test_where_it_runs_is_no_part_of_the_key() -> None:
    assert config_of().hash == TrainConfig().hash
    assert config_of(epochs=7).hash != TrainConfig().hash


def test_a_job_is_followed_to_its_end_and_removed(kube: KubeApi, capsys: pytest.CaptureFixture[str]) -> None:
    looks = 0

    def control(job: dict[str, Any]) -> None:
        nonlocal looks
        looks += 1
        name = job["metadata"]["name"]
        if looks == 1:
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            for index in range(2):
                add_node(kube, name, index, phase="Pending", conditions=[condition])
        else:
            for index in range(2):
                add_node(kube, name, index, phase="Running")
            lines = [f"2026-01-01T00:00:0{i}.000000000Z train: epoch {i}" for i in range(1, looks)]
            kube.logs[f"{name}-node-0-0-x"] = "\n".join(lines)
            kube.logs[f"{name}-node-0-1-x"] = "2026-01-01T00:00:09.000000000Z not shown"
        if looks == 4:
            job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}

    kube.controllers["trainjobs"] = control
    run()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("train: created TrainJob cxr/cxrflow-train-")
    assert lines[1:] == [
        "train: nodes: 2 pending (Unschedulable)",
        "train: nodes: 2 running",
        "train: epoch 1",
        "train: epoch 2",
        "train: epoch 3",
        lines[0].replace("created", "deleted"),
    ]
    assert kube.objects["trainjobs"] == {}


def test_a_failed_job_is_told_with_its_pods_last_lines(kube: KubeApi) -> None:
    fail = ends("Failed", reason="JobFailed", message="jobset failed")

    def control(job: dict[str, Any]) -> None:
        name = job["metadata"]["name"]
        ended = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
        status = {"name": "node", "image": "i", "imageID": "i", "ready": False, "restartCount": 0, "state": ended}
        add_node(kube, name, 0, phase="Running")
        add_node(kube, name, 1, phase="Failed", containerStatuses=[status])
        kube.logs[f"{name}-node-0-1-x"] = "\n".join(f"2026-01-01T00:00:{i:02}Z line {i}" for i in range(20))
        fail(job)

    kube.controllers["trainjobs"] = control
    with pytest.raises(UserError) as raised:
        run()
    message = str(raised.value)
    assert "node-0-1-x: failed (OOMKilled)\nline 10\n" in message
    assert "line 19" in message
    assert "line 9\n" not in message
    assert "JobFailed jobset failed" in message
    assert len(kube.objects["trainjobs"]) == 1, "left for inspection"


@pytest.mark.parametrize("verb", ["create", "get"])
def test_a_missing_permission_is_one_line_that_names_it(kube: KubeApi, verb: str) -> None:
    kube.permitted.remove((verb, "trainjobs"))
    expected = rf"Role with the verb {verb} on trainjobs \(trainer.kubeflow.org\); docs/clusters.md"
    with pytest.raises(UserError, match=expected) as raised:
        run()
    assert "\n" not in str(raised.value)
    assert "system:serviceaccount:cxr:pipeline" in str(raised.value)


def test_not_being_allowed_to_read_pods_does_not_end_a_training(
    kube: KubeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    kube.permitted.remove(("list", "pods"))
    kube.controllers["trainjobs"] = ends("Complete", after=4)
    run()
    assert capsys.readouterr().out.count("cannot follow the nodes: the cluster does not permit it: list pods") == 1


def test_a_cluster_without_the_engine_is_one_clear_line(kube: KubeApi) -> None:
    kube.known.remove("trainjobs")
    with pytest.raises(UserError, match=r"could not find the requested resource.*the engine is installed"):
        run()


def test_an_outage_of_the_api_is_waited_out(
    kube: KubeApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    end = ends("Complete", after=3)

    def control(job: dict[str, Any]) -> None:
        end(job)
        kube.unavailable = 3

    kube.controllers["trainjobs"] = control
    run()
    assert kube.objects["trainjobs"] == {}
    monkeypatch.setattr(nodes, "PATIENCE_S", 0.1)

    def outage(job: dict[str, Any]) -> None:
        kube.unavailable = 100

    kube.controllers["trainjobs"] = outage
    with pytest.raises(UserError, match=r"does not answer.*the server is starting"):
        run()
    assert "is left behind: the cluster does not answer" in capsys.readouterr().out


def left_running(kube: KubeApi, status: dict[str, Any] | None = None) -> None:
    """A job of the training is there, as a run that ended left it, with that status; it completes a little later."""
    kube.controllers["trainjobs"] = ends("Complete")
    run()
    (job,) = created(kube)
    if status is not None:
        job["status"] = status
    kube.answer("POST", "/apis/trainer.kubeflow.org/v1alpha1/namespaces/cxr/trainjobs", job)
    kube.asked.clear()
    kube.controllers["trainjobs"] = ends("Complete", after=3)


def test_a_running_job_is_joined_after_preemption(kube: KubeApi, capsys: pytest.CaptureFixture[str]) -> None:
    left_running(kube)
    run()
    assert "train: joined TrainJob" in capsys.readouterr().out
    assert kube.verbs("trainjobs") == ["get", "delete"]


@pytest.mark.parametrize("what", ["other", "failed", "complete"])
def test_another_or_an_ended_job_is_replaced(kube: KubeApi, what: str) -> None:
    left_running(kube, {"conditions": [{"type": what.capitalize(), "status": "True"}]} if what != "other" else None)
    run(config_of(num_nodes=3) if what == "other" else None)
    assert kube.verbs("trainjobs") == ["get", "delete", "get", "create", "get", "delete"]


def test_a_job_that_vanishes_is_an_error_unless_it_left_its_bundle(kube: KubeApi, tmp_path: Path) -> None:
    """Of two runs that follow one job, the first that sees its end deletes it."""

    def vanish(job: dict[str, Any]) -> None:
        kube.objects["trainjobs"].clear()

    kube.controllers["trainjobs"] = vanish
    config = config_of(CLUSTER | {"claims": {"data": str(tmp_path)}})
    with pytest.raises(UserError, match="was deleted by someone else"):
        run(config, root=str(tmp_path))
    Root(tmp_path).bundle(KEY).write("bundle.json", b"{}")
    run(config, root=str(tmp_path))


def test_a_job_that_another_run_creates_at_that_moment_is_joined_and_not_deleted(
    kube: KubeApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left_running(kube)
    get, looked = nodes.Objects.get, list[str]()

    def before_the_other(jobs: nodes.Objects, name: str) -> dict[str, Any] | None:
        looked.append(name)
        return None if len(looked) == 1 else get(jobs, name)

    monkeypatch.setattr(nodes.Objects, "get", before_the_other)
    run()
    assert "train: joined TrainJob" in capsys.readouterr().out
    assert kube.verbs("trainjobs") == ["create", "get", "delete"]


def test_the_same_training_under_another_root_is_another_job(kube: KubeApi) -> None:
    kube.controllers["trainjobs"] = ends("Complete")
    run()
    run(root="gs://bucket/other")
    names = [job["metadata"]["name"] for job in created(kube)]
    assert len(set(names)) == 2
    assert all(len(name) <= 40 for name in names)


def test_a_folder_that_the_nodes_cannot_see_is_refused(kube: KubeApi, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pods cannot see this folder"):
        run(root=str(tmp_path / "root"))
    assert kube.asked == []
    kube.controllers["trainjobs"] = ends("Complete")
    run(config_of({"claims": {"shared": str(tmp_path)}}), root=str(tmp_path / "root"))
    (job,) = created(kube)
    (node,) = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = node["template"]["spec"]["template"]["spec"]
    assert pod["securityContext"] == {"fsGroup": 10001}, "so that the volume can be written to"
    assert {"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}} in pod["volumes"]
    assert {"name": "shared", "mountPath": str(tmp_path)} in pod["containers"][0]["volumeMounts"]


def test_without_a_cluster_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(UserError, match=r"no Kubernetes cluster; .*Set KUBECONFIG, or keep to one machine"):
        run()
