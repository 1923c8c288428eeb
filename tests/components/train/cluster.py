"""What the tests of training on several nodes share: configurations, and runs against the tests' own API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.cxr.storage.storage import Root
from components.train.config import TrainConfig
from components.train.nodes import train_on_nodes
from tests.components.kube_api import KubeApi

REPOSITORY = Path(__file__).parents[3]
CLUSTER = {
    "image": "registry.example/cxrflow-train:1",
    "service_account": "trainer",
    "resources": {"cpu": "8", "memory": "32Gi"},
    "gpus": 2,
    "shm_size": "4Gi",
    "node_selector": {"pool": "gpu"},
    "tolerations": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}],
    "secret_env": {"MLFLOW_TRACKING_PASSWORD": "mlflow/password"},
    "deadline_s": 3600,
}
KEY = "0123456789abcdef"


def config_of(cluster: dict[str, Any] | None = None, **values: Any) -> TrainConfig:
    defaults = {"num_nodes": 2, "num_processes": 2, "cluster": CLUSTER if cluster is None else cluster}
    return TrainConfig.parse(defaults | values, where="train")


def run(config: TrainConfig | None = None, *, root: str = "gs://bucket/root") -> None:
    manifest = Root("gs://bucket/root").data("d")
    train_on_nodes(config or config_of(), key=KEY, root=Root(root), manifest=manifest)


def add_node(kube: KubeApi, job: str, index: int, **status: Any) -> None:
    labels = {
        "jobset.sigs.k8s.io/jobset-name": job,
        "jobset.sigs.k8s.io/replicatedjob-name": "node",
        "batch.kubernetes.io/job-completion-index": str(index),
    }
    kube.add_pod(f"{job}-node-0-{index}-x", labels, **status)


def created(kube: KubeApi) -> list[dict[str, Any]]:
    return [asked.body for asked in kube.asked if (asked.verb, asked.plural) == ("create", "trainjobs")]
