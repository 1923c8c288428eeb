"""What the tests of rollouts share: configurations, controllers of the cluster, and looks at what it holds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.cxr.errors import UserError
from components.cxr.storage.storage import Root
from components.serve.config import ServeConfig
from components.serve.deployment import Deployment
from components.serve.rollout import ClusterServer, rolled_out

if TYPE_CHECKING:
    from tests.components.kube_api import KubeApi

Json = dict[str, Any]

REPOSITORY = Path(__file__).parents[3]
ROOT = Root("/root")
TARGETS = ("kubernetes", "kserve")
PLURAL = {"kubernetes": "deployments", "kserve": "inferenceservices"}


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
        bundle=f"deployed/{name}",
        seal="5" * 64,
        operating_points_hash="0" * 16,
        bundle_hash=model,
        evaluation="e",
        data="d",
        manifest_hash="m",
        mlflow_run_id=None,
        model_name=None,
        model_version=None,
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
    deployment = deployment_of(model, name)
    with rolled_out(config, deployment, root=ROOT, current=current, published=lambda: published) as served:
        within(served)


def refuse(_: ClusterServer) -> None:
    raise UserError("answers-differ", "the server's answer is not evaluation's")


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
