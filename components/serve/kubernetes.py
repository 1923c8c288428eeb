"""Serving as a Kubernetes Deployment behind a Service; an engine of rollout.py."""

from __future__ import annotations

from typing import Any

from components.cxr.cluster.kube import condition
from components.serve.config import ServeCluster
from components.serve.engine import Progress
from components.serve.pod import PORT

__all__ = ["Kubernetes"]

LABEL = "app.kubernetes.io/name"


class Kubernetes:
    """Deployment and Service of the same name, on port 80."""

    kind = ("apps", "v1", "deployments")
    container = "serve"
    startup_probe = True
    pod = "/spec/template/spec"
    replicas = "/spec/replicas"
    deadline: str | None = "/spec/progressDeadlineSeconds"

    def new(self, config: ServeCluster) -> dict[str, Any]:
        """A Deployment that never has fewer ready pods than asked for."""
        labels = {LABEL: config.name}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": config.name, "labels": labels},
            "spec": {
                "selector": {"matchLabels": labels},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "template": {"metadata": {"labels": labels}, "spec": {}},
            },
        }

    def service(self, config: ServeCluster) -> dict[str, Any] | None:
        """A Service of the same name."""
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": config.name, "labels": {LABEL: config.name}},
            "spec": {
                "selector": {LABEL: config.name},
                "ports": [{"name": "http", "port": 80, "targetPort": PORT, "protocol": "TCP"}],
            },
        }

    def progress(self, found: dict[str, Any]) -> Progress:
        """As `kubectl rollout status` decides."""
        status = found.get("status", {})
        if status.get("observedGeneration", 0) < found["metadata"].get("generation", 1):
            return Progress(False, "not seen by the controller yet")
        state = condition(found, "Progressing") or {}
        wanted = found["spec"].get("replicas", 1)
        updated, ready = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
        detail = f"{ready} of {wanted} pods available, {updated} with the new model"
        if state.get("reason") == "ProgressDeadlineExceeded":
            return Progress(False, f"{detail}; {state.get('message', 'progress deadline exceeded')}", failed=True)
        return Progress(updated >= wanted and status.get("replicas", 0) == updated and ready >= updated, detail)

    def address(self, found: dict[str, Any], namespace: str) -> str | None:
        """The Service's name in the cluster's DNS."""
        return f"http://{found['metadata']['name']}.{namespace}.svc"

    def selector(self, name: str) -> str:
        """The label of `new`."""
        return f"{LABEL}={name}"
