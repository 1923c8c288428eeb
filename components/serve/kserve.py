"""Serving as a KServe InferenceService with our server as its predictor; an engine of rollout.py."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from components.cxr.cluster.kube import condition
from components.serve.config import ServeCluster
from components.serve.engine import Progress

__all__ = ["KServe"]


class KServe:
    """InferenceService v1beta1; KServe makes the pods, the Service and the route."""

    kind = ("serving.kserve.io", "v1beta1", "inferenceservices")
    container = "kserve-container"
    startup_probe = False  # Knative, which KServe may run on, has long refused them
    pod = "/spec/predictor"
    replicas = "/spec/predictor/minReplicas"
    deadline: str | None = None

    def new(self, config: ServeCluster) -> dict[str, Any]:
        """An InferenceService with a custom predictor."""
        return {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": config.name, "labels": {"app.kubernetes.io/name": config.name}},
            "spec": {"predictor": {}},
        }

    def service(self, _: ServeCluster) -> dict[str, Any] | None:
        """None: KServe makes it."""
        return None

    def progress(self, found: dict[str, Any]) -> Progress:
        """The condition Ready, of this generation where KServe says which one it has seen."""
        status = found.get("status", {})
        generation = found["metadata"].get("generation", 1)
        if status.get("observedGeneration", generation) < generation:
            return Progress(False, "not seen by the controller yet")
        ready = condition(found, "Ready") or {}
        unmet = [entry for entry in status.get("conditions") or [] if entry.get("status") == "False"]
        details = [f"{e.get('type')}: {e.get('reason', '')} {e.get('message', '')}".strip() for e in unmet]
        failure = (status.get("modelStatus") or {}).get("lastFailureInfo") or {}
        details += [str(failure["message"])] if failure.get("message") else []
        return Progress(
            ready.get("status") == "True", "; ".join(details) or f"Ready is {ready.get('status', 'unknown')}"
        )

    def address(self, found: dict[str, Any], _: str) -> str | None:
        """The address that KServe gives it within the cluster, without a path."""
        status = found.get("status", {})
        url = (status.get("address") or {}).get("url") or status.get("url")
        if not url:
            return None
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc}"

    def selector(self, name: str) -> str:
        """KServe's own label."""
        return f"serving.kserve.io/inferenceservice={name}"
