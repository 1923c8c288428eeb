"""What the tests of rollouts share: configurations, controllers of the cluster, and looks at what it holds."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

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


class RealPod:
    """A controller that runs a Deployment's pod as a process here; it is available once it is ready, beside the old
    one, which was there before.

    Args:
        program: what stands for the image; the server's own source unless it is given.
    """

    def __init__(self, kube: KubeApi, *, port: int, log: Path, program: tuple[str, ...] = ("-m", "components.serve")):
        self._kube, self._port, self.log, self._program = kube, port, log, program
        self.process: subprocess.Popen[bytes] | None = None
        self._old: list[str] | None = None
        kube.controllers["deployments"] = self

    def __call__(self, found: Json) -> None:
        (container,) = pod_of("kubernetes", found)["containers"]
        if self.process is None and self._old in (None, container["args"]):
            self._old = container["args"]
            return
        if self.process is None:
            own = ["--set", "serve.host=127.0.0.1", "--set", f"serve.port={self._port}"]
            command = [sys.executable, *self._program, *container["args"], *own]
            with self.log.open("wb") as log:
                self.process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT)
        state = {"observedGeneration": found["metadata"]["generation"], "updatedReplicas": 1, "availableReplicas": 1}
        found["status"] = state | {"replicas": 1 if self._ready() else 2}
        if self.process.poll() is not None:
            failed = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
            found["status"]["conditions"] = [failed]
            self._kube.add_pod("cxrflow-serve-1", {"app.kubernetes.io/name": "cxrflow-serve"}, phase="Failed")
            lines = self.log.read_text().splitlines()
            self._kube.logs["cxrflow-serve-1"] = "\n".join(f"2026-01-01T00:00:00Z {line}" for line in lines)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self._port}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        """As the cluster does with a pod that nobody wants."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()


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


def other_versions(folder: Path) -> Path:
    """A program that is the server with another version of a package: one that computes something else."""
    program = folder / "other_versions.py"
    program.write_text(
        "import runpy, sys\n"
        f"sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from components.cxr.model import predictor\n"
        "score = predictor.positive_score\n"
        "predictor.positive_score = lambda logits: score(logits) * 1.05\n"
        "runpy.run_module('components.serve', run_name='__main__', alter_sys=True)\n"
    )
    return program
