"""What each target's YAML asks of the platform, read from it; and Vertex's own client reading its one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from yaml.composer import ComposerError

from components.cxr.errors import UserError
from pipeline.compile import compile_pipeline
from pipeline.config import CONFIGS, PipelineConfig, Target, load_pipeline_config

REPOSITORY = Path(__file__).parents[2]

DIGEST = "europe-docker.pkg.dev/hospital/cxrflow/train@sha256:" + "0123456789abcdef" * 4
PLATFORM = f"""
partitions: 4
images: {{train: "{DIGEST}"}}
env: {{MLFLOW_TRACKING_URI: "http://mlflow.mlops:5000"}}
service_account: cxrflow-runner
retries: {{count: 3, backoff_s: 30, factor: 3, max_s: 600}}
steps:
  preprocess: {{cpu: 500m, memory: 4Gi, timeout_s: 7200}}
  train:
    cpu: 8
    memory: 32Gi
    gpus: 2
    gpu_type: NVIDIA_L4
    shm: 8Gi
    node_selector: {{cloud.google.com/gke-accelerator: nvidia-l4}}
    tolerations:
    - {{key: nvidia.com/gpu, effect: NoSchedule}}
    - {{key: team, operator: Equal, value: radiology}}
  evaluate: {{gpus: 1, gpu_resource: amd.com/gpu, gpu_type: NVIDIA_L4}}
"""
SECRETS = """
- {name: cxrflow-ids, env: {id-key: CXRFLOW_ID_KEY}, steps: [preprocess]}
- {name: mlflow, env: {user: MLFLOW_TRACKING_USERNAME, password: MLFLOW_TRACKING_PASSWORD}}
"""
STEPS = {"exec-preprocess", "exec-collect", "exec-train", "exec-evaluate", "exec-deploy"}


def configured(*overrides: str, platform: str = PLATFORM) -> PipelineConfig:
    flow = yaml.safe_load(platform)
    return load_pipeline_config(CONFIGS / "demo.yaml", [f"platform={flow}", *overrides])


def compiled(config: PipelineConfig, target: Target | None, folder: Path) -> list[dict[str, Any]]:
    file = folder / f"{target}.yaml"
    compile_pipeline(config, file, target=target)
    return list(yaml.safe_load_all(file.read_text()))


@pytest.fixture(scope="module")
def kfp(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    config = configured(f"platform.secrets={yaml.safe_load(SECRETS)}")
    return compiled(config, "kfp", tmp_path_factory.mktemp("kfp"))


@pytest.fixture(scope="module")
def vertex(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return compiled(configured(), "vertex", tmp_path_factory.mktemp("vertex"))


def containers(documents: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: value["container"] for name, value in documents[0]["deploymentSpec"]["executors"].items()}


def kubernetes(documents: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return found


@pytest.mark.parametrize(("target", "gpu"), [("kfp", "nvidia.com/gpu"), ("vertex", "NVIDIA_L4")])
def test_resources_and_image(target: str, gpu: str, request: pytest.FixtureRequest) -> None:
    found = containers(request.getfixturevalue(target))
    train = found["exec-train"]
    assert train["image"] == DIGEST
    wanted = {"resourceCpuRequest": "8", "resourceCpuLimit": "8"}
    wanted |= {"resourceMemoryRequest": "32Gi", "resourceMemoryLimit": "32Gi"}
    assert wanted.items() <= train["resources"].items()
    assert train["resources"]["accelerator"] == {"count": "2", "resourceCount": "2", "type": gpu, "resourceType": gpu}
    assert found["exec-preprocess"]["resources"]["resourceCpuLimit"] == "500m"
    assert found["exec-collect"]["resources"] == found["exec-preprocess"]["resources"]
    assert "resources" not in found["exec-deploy"]


def test_each_target_names_the_gpu_its_way(kfp: list[dict[str, Any]], vertex: list[dict[str, Any]]) -> None:
    assert containers(kfp)["exec-evaluate"]["resources"]["accelerator"]["resourceType"] == "amd.com/gpu"
    assert containers(vertex)["exec-evaluate"]["resources"]["accelerator"]["resourceType"] == "NVIDIA_L4"


@pytest.mark.parametrize("target", ["kfp", "vertex"])
def test_every_task_is_retried_with_backoff_and_has_the_environment(
    target: str, request: pytest.FixtureRequest
) -> None:
    documents = request.getfixturevalue(target)
    components = documents[0]["components"].values()
    dags = [documents[0]["root"]["dag"], *(each["dag"] for each in components if "dag" in each)]
    tasks = {name: task for dag in dags for name, task in dag["tasks"].items()}
    for step in ("preprocess", "collect", "train", "evaluate", "deploy"):
        policy = tasks[step]["retryPolicy"]
        assert policy == {
            "maxRetryCount": 3, "backoffDuration": "30s", "backoffFactor": 3.0, "backoffMaxDuration": "600s",
        }  # fmt: skip
        env = containers(documents)[f"exec-{step}"]["env"]
        assert {"name": "MLFLOW_TRACKING_URI", "value": "http://mlflow.mlops:5000"} in env
    titles = {task["taskInfo"]["name"] for task in tasks.values()}
    assert {"Preprocess films and reports", "Collect the manifest", "Train", "Evaluate and decide"} <= titles


@pytest.mark.parametrize("target", ["kfp", "vertex"])
def test_a_training_that_is_stopped_is_tried_again_without_asking_for_it(target: Target, tmp_path: Path) -> None:
    documents = compiled(load_pipeline_config(CONFIGS / "demo.yaml"), target, tmp_path)
    policy = documents[0]["root"]["dag"]["tasks"]["train"]["retryPolicy"]
    assert policy["maxRetryCount"] == 2
    assert policy["backoffDuration"] == "60s"


def test_kubernetes_places_the_tasks(kfp: list[dict[str, Any]]) -> None:
    assert len(kfp) == 2
    found = kubernetes(kfp)
    train = found["exec-train"]
    assert train["nodeSelector"]["labels"] == {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    assert train["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "team", "operator": "Equal", "value": "radiology"},
    ]
    assert {name for name, value in found.items() if "nodeSelector" in value} == {"exec-train"}
    times = {name: value["activeDeadlineSeconds"] for name, value in found.items() if "activeDeadlineSeconds" in value}
    assert times == {"exec-preprocess": "7200", "exec-collect": "7200"}


def test_every_step_mounts_the_claims_and_may_keep_its_root_there(tmp_path: Path) -> None:
    config = configured("platform.claims={shared: /data}", "root=/data/cxrflow")
    found = kubernetes(compiled(config, "kfp", tmp_path))
    assert set(found) == STEPS
    for value in found.values():
        (mount,) = value["pvcMount"]
        assert (mount["constant"], mount["mountPath"]) == ("shared", "/data")
    assert config.platform.is_shared(config.root)
    assert not config.platform.is_shared("/database")
    assert not config.platform.is_shared("runs/demo")


def test_dev_shm_is_on_train_and_on_gpu_tasks(kfp: list[dict[str, Any]]) -> None:
    mounts = {name: value["emptyDirMounts"] for name, value in kubernetes(kfp).items() if "emptyDirMounts" in value}
    assert set(mounts) == {"exec-train", "exec-evaluate"}
    (mount,) = mounts["exec-train"]
    assert mount == {"volumeName": "shm", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "8Gi"}


def test_dev_shm_is_there_without_any_configuration(tmp_path: Path) -> None:
    found = kubernetes(compiled(configured(platform="{}"), "kfp", tmp_path))
    assert [mount["sizeLimit"] for mount in found["exec-train"]["emptyDirMounts"]] == ["2Gi"]


def test_a_secret_reaches_the_steps_that_may_see_it_and_not_the_yaml(kfp: list[dict[str, Any]]) -> None:
    def seen(step: str) -> set[tuple[str, str, str]]:
        return {
            (secret["secretName"], pair["secretKey"], pair["envVar"])
            for secret in kubernetes(kfp)[step].get("secretAsEnv", ())
            for pair in secret["keyToEnv"]
        }

    login = {("mlflow", "user", "MLFLOW_TRACKING_USERNAME"), ("mlflow", "password", "MLFLOW_TRACKING_PASSWORD")}
    key = ("cxrflow-ids", "id-key", "CXRFLOW_ID_KEY")
    assert {step: seen(step) for step in STEPS} == {
        step: login | {key} if step in ("exec-preprocess", "exec-collect") else login for step in STEPS
    }


def test_vertexs_client_loads_the_vertex_yaml_and_refuses_kubernetes_one(
    vertex: list[dict[str, Any]], kfp: list[dict[str, Any]], tmp_path: Path
) -> None:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.aiplatform import PipelineJob

    def job(documents: list[dict[str, Any]], **parameters: Any) -> PipelineJob:
        file = tmp_path / "pipeline.yaml"
        file.write_text(yaml.safe_dump_all(documents))
        place = {"project": "hospital", "location": "europe-west4", "credentials": AnonymousCredentials()}
        return PipelineJob(
            display_name="cxr",
            template_path=str(file),
            pipeline_root="gs://cxr/kfp",
            parameter_values=parameters,
            **place,
        )

    assert len(vertex) == 1
    ready = job(vertex, root="gs://cxr/root", serve={"port": 80})
    sent = ready._gca_resource  # the public property is for jobs that were sent
    assert sent.runtime_config.parameter_values["root"] == "gs://cxr/root"
    assert sent.runtime_config.parameter_values["serve"]["port"] == 80
    executors = sent.pipeline_spec["deploymentSpec"]["executors"]
    assert executors["exec-train"]["container"]["image"] == DIGEST
    with pytest.raises(ValueError, match="rot"):
        job(vertex, rot="gs://cxr/root")
    with pytest.raises(ComposerError, match="single document"):
        job(kfp)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("platform.steps.train.gpu_type=", r"by its name: platform\.steps\.train\.gpu_type; expected .*NVIDIA_L4"),
        (f"platform.secrets={yaml.safe_load(SECRETS)}", r"no Kubernetes secrets: platform\.secrets; found cxrflow-ids"),
        ("platform.claims={shared: /data}", r"no persistent volume claims: platform\.claims; found shared"),
    ],
)
def test_what_vertex_cannot_do_is_said(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        compiled(configured(override), "vertex", tmp_path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("platform.steps.train.memory=16 GB", r"platform\.steps\.train\.memory; found '16 GB'"),
        ("platform.steps.train.cpu=two", r"platform\.steps\.train\.cpu; found 'two'"),
        ("platform.steps.trian.gpus=1", r"platform\.steps\.trian"),
        ("platform.steps.train.gpu=1", r"platform\.steps\.train\.gpu; .*Did you mean gpus\?"),
        ("platform.steps.train.timeout_s=0", r"platform\.steps\.train\.timeout_s; found 0"),
    ],
)
def test_a_wrong_platform_is_one_line(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        configured(override)
    assert "\n" not in str(error.value)


def test_a_run_on_this_machine_has_no_platform(tmp_path: Path) -> None:
    (document,) = compiled(configured(), None, tmp_path)
    found = containers([document])
    assert set(found) == STEPS
    assert found["exec-train"]["image"] == DIGEST
    assert not any({"resources", "env"} & set(container) for container in found.values())
    assert "retryPolicy" not in str(document)


def test_the_command_takes_the_target(tmp_path: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "pipeline" / "compile.py"), "--target", "vertex", "-o", "v.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "wrote v.yaml for vertex\n"
    assert len(list(yaml.safe_load_all((tmp_path / "v.yaml").read_text()))) == 1


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("pipeline.json", r"no name of a YAML file: --output; found .*pipeline\.json, expected NAME\.yaml"),
        ("file/pipeline.yaml", r"cannot write: .*pipeline\.yaml; found (Not a directory|File exists)"),
        ("folder.yaml", r"cannot write: .*folder\.yaml; found Is a directory"),
    ],
)
def test_a_file_that_cannot_be_written_is_one_line(output: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(UserError, match=message):
        compile_pipeline(configured(), tmp_path / output, target="kfp")
