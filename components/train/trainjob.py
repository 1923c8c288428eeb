"""The Kubeflow TrainJob of a training on several nodes, checked by Kubeflow's own models."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import yaml
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

from components.cxr.config import content_hash
from components.cxr.storage.storage import Root, Storage
from components.cxr.tracking.identity import IMAGE, PIPELINE_RUN
from components.train.config import TrainConfig

__all__ = ["CONTAINER", "KIND", "SPEC_ANNOTATION", "train_job"]

KIND = ("trainer.kubeflow.org", "v1alpha1", "trainjobs")
CONTAINER = "node"
"""Name of the runtime's replicated job of training nodes, and of the container in its pods."""
SPEC_ANNOTATION = "cxrflow/spec-hash"
"""By which a job that is there already is known to be the one wanted."""
INHERITED = (
    "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_WORKSPACE",
    "MLFLOW_TRACKING_AUTH", PIPELINE_RUN,
)  # fmt: skip
"""The step's environment that the nodes get too. No secrets: see SECRETS."""
SECRETS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
"""What the nodes get as the step's own pod has it, by reference to a secret, unless `cluster.secret_env` names it."""


def train_job(
    config: TrainConfig, *, key: str, root: Root, manifest: Storage, secrets: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """The object to create, with a name that is the same for the same training under the same root.

    The nodes run `python -m components.train` under torchrun, which reads number and rank of the node and the address
    of the first from the PET_* variables that Kubeflow sets. Their configuration is an argument, `--set train={…}`, so
    that there is no file to bring there and the job says by itself what it does.

    Args:
        key: the training's key.
        manifest: the data set's folder.
        secrets: entries of the step's environment that refer to secrets.

    Raises:
        ValueError: not a TrainJob as Kubeflow's models know it.
    """
    cluster = config.cluster
    env = [{"name": name, "value": value} for name in INHERITED if (value := os.environ.get(name))]
    env.append({"name": IMAGE, "value": cluster.image})
    env.append({"name": "OMP_NUM_THREADS", "value": str(config.num_threads)})
    env += [entry for entry in secrets if entry["name"] not in cluster.secret_env]
    trainer: dict[str, Any] = {
        "image": cluster.image,
        "command": ["python", "-m", "components.train.torchrun"],
        "args": [
            "-m", "components.train", "--config", os.devnull, "--set", f"train={_flow(config)}",
            "--root", root.uri, "--manifest", manifest.uri,
        ],
        "env": [*env, *cluster.env()],
        "numNodes": config.num_nodes,
        "numProcPerNode": config.num_processes,
    }  # fmt: skip
    if resources := cluster.container_resources():
        trainer["resourcesPerNode"] = resources
    spec: dict[str, Any] = {
        "runtimeRef": {"apiGroup": KIND[0], "kind": "ClusterTrainingRuntime", "name": cluster.runtime},
        "trainer": trainer,
        "runtimePatches": [{"manager": "cxrflow.org/train", "trainingRuntimeSpec": _pod_patch(config)}],
    }
    if cluster.deadline_s is not None:
        spec["activeDeadlineSeconds"] = cluster.deadline_s
    job = {
        "apiVersion": f"{KIND[0]}/{KIND[1]}",
        "kind": "TrainJob",
        "metadata": {
            "name": f"cxrflow-train-{content_hash(key, root.uri)}",
            "labels": {"app.kubernetes.io/name": "cxrflow-train", "cxrflow/training": key},
            "annotations": {SPEC_ANNOTATION: content_hash(yaml.safe_dump(spec))},
        },
        "spec": spec,
    }
    return checked(job)


def checked(job: dict[str, Any]) -> dict[str, Any]:
    """The job, if Kubeflow's models know its every field: they drop unknown ones, which then are missing.

    Raises:
        ValueError: an unknown field, or (as pydantic's ValidationError) a wrong type.
    """
    model = TrainerV1alpha1TrainJob.from_dict(job)
    if model is None or model.to_dict() != job:
        raise ValueError("a field of the TrainJob is not one that Kubeflow knows")
    return job


def _pod_patch(config: TrainConfig) -> dict[str, Any]:
    """/dev/shm, claims, rights and scheduling, which the TrainJob's own fields do not cover."""
    cluster = config.cluster
    shm = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": cluster.shm_size}}
    mounts = [{"name": "shm", "mountPath": "/dev/shm"}, *cluster.volume_mounts()]
    pod = {
        **cluster.scheduling(),
        "containers": [{"name": CONTAINER, "securityContext": cluster.security_context(), "volumeMounts": mounts}],
        "volumes": [shm, *cluster.volumes()],
    }
    if cluster.claims and cluster.run_as_user != "cluster":
        pod["securityContext"] = {"fsGroup": cluster.run_as_user}  # or a new volume belongs to root
    node = {"name": CONTAINER, "template": {"spec": {"template": {"spec": pod}}}}
    return {"template": {"spec": {"replicatedJobs": [node]}}}


def _flow(config: TrainConfig) -> str:
    """The configuration as YAML in one line; JSON would turn 1e-05 into text."""
    values = config.model_dump(mode="json", exclude={"cluster"})
    return yaml.safe_dump(values, default_flow_style=True, width=float("inf"), sort_keys=False).strip()
