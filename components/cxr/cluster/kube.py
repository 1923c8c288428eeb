"""The Kubernetes API as train and serve use it: plain objects, pods' last lines, and refusals in one line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import urllib3
from kubernetes import client as api
from kubernetes import config as credentials
from kubernetes.client.exceptions import ApiException

from components.cxr.errors import UserError

__all__ = [
    "Cluster", "ConflictError", "Objects", "Pod", "UnavailableError", "condition", "connect", "last_lines", "list_pods",
    "log_lines", "own_secrets", "services", "stopped_by_sigterm",
]  # fmt: skip

TIMEOUT_S = 30.0
LAST_LINES = 10
OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class UnavailableError(UserError):
    """The API does not answer, or answers with 429 or 5xx: trying again may help."""


class ConflictError(UserError):
    """There is an object of that name already, or it has changed meanwhile."""


class Cluster(NamedTuple):
    """Where and with whose credentials."""

    client: Any
    """kubernetes.client.ApiClient."""
    namespace: str


def connect(namespace: str | None) -> Cluster:
    """The cluster that this pod runs in, else the kubeconfig's (KUBECONFIG, else ~/.kube/config).

    Args:
        namespace: None for this pod's, or that of the kubeconfig's context.

    Raises:
        UserError: neither a pod's service account nor a usable kubeconfig.
    """
    try:
        settings = api.Configuration()
        if "KUBERNETES_SERVICE_HOST" in os.environ:
            credentials.load_incluster_config(client_configuration=settings)
            own = OWN_NAMESPACE.read_text().strip() if OWN_NAMESPACE.exists() else None
        else:
            file = os.environ.get("KUBECONFIG")
            credentials.load_kube_config(config_file=file, client_configuration=settings)
            own = credentials.list_kube_config_contexts(config_file=file)[1]["context"].get("namespace")
    except credentials.ConfigException as error:
        raise UserError(
            "no-cluster",
            "no Kubernetes cluster",
            found=" ".join(str(error).split()).rstrip("."),
            expected="a pod with a service account, or a kubeconfig",
            remedy="Set KUBECONFIG, or keep to one machine: train.num_nodes=1, serve.target=local.",
        ) from None
    return Cluster(api.ApiClient(settings), namespace or own or "default")


class Objects:
    """The objects of one kind in one namespace, as plain dicts.

    Args:
        kind: group, version and plural, such as `("apps", "v1", "deployments")`; the core group is "".
    """

    def __init__(self, cluster: Cluster, kind: tuple[str, str, str]) -> None:
        self._cluster = cluster
        group, version, plural = kind
        self._what = f"{plural} ({group})" if group else plural
        prefix = f"/apis/{group}/{version}" if group else f"/api/{version}"
        self._path = f"{prefix}/namespaces/{cluster.namespace}/{plural}"

    def get(self, name: str) -> dict[str, Any] | None:
        """The object; None when there is none, or when the cluster does not know its kind."""
        with _refusals("get", self._what, self._cluster):
            try:
                return self._call("GET", f"/{name}")
            except ApiException as error:
                if error.status != 404:
                    raise
                return None

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create an object and return it as the cluster completed it."""
        with _refusals("create", self._what, self._cluster):
            return self._call("POST", body=body)

    def patch(self, name: str, operations: list[dict[str, Any]]) -> dict[str, Any]:
        """Apply a JSON patch (RFC 6902) whole or not at all."""
        with _refusals("patch", self._what, self._cluster):
            return self._call("PATCH", f"/{name}", body=operations, content="application/json-patch+json")

    def delete(self, name: str) -> None:
        """Delete an object after its dependents; nothing happens when it is not there."""
        with _refusals("delete", self._what, self._cluster):
            try:
                self._call("DELETE", f"/{name}", body={"propagationPolicy": "Foreground"})
            except ApiException as error:
                if error.status != 404:
                    raise

    def _call(
        self, method: str, name: str = "", *, body: object = None, content: str = "application/json"
    ) -> dict[str, Any]:
        found: dict[str, Any] = self._cluster.client.call_api(
            self._path + name,
            method,
            header_params={"Accept": "application/json", "Content-Type": content},
            body=body,
            response_type="object",
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
            _request_timeout=TIMEOUT_S,
        )
        return found


def services(cluster: Cluster) -> Objects:
    """The namespace's Services."""
    return Objects(cluster, ("", "v1", "services"))


def condition(found: dict[str, Any], kind: str) -> dict[str, Any] | None:
    """The entry of `status.conditions` of that type; None when there is none."""
    entries: list[dict[str, Any]] = found.get("status", {}).get("conditions") or []
    return next((entry for entry in entries if entry.get("type") == kind), None)


class Pod(NamedTuple):
    """What is said about a pod."""

    name: str
    labels: dict[str, str]
    phase: str
    """Pending, Running, Succeeded, Failed or Unknown."""
    reason: str
    """Why it waits or has ended, such as Unschedulable, ImagePullBackOff, OOMKilled; empty when there is nothing."""
    exit_codes: tuple[int, ...]
    """Of each container's last end, where it has ended."""
    disrupted: bool
    """Whether the cluster took it away: preempted, evicted, drained, or its machine is gone (DisruptionTarget)."""

    @property
    def state(self) -> str:
        """Phase and reason for people."""
        return self.phase.lower() + (f" ({self.reason})" if self.reason else "")


def list_pods(cluster: Cluster, selector: str) -> list[Pod]:
    """The pods with these labels, by name."""
    with _refusals("list", "pods", cluster):
        found = api.CoreV1Api(cluster.client).list_namespaced_pod(
            cluster.namespace, label_selector=selector, _request_timeout=TIMEOUT_S
        )
    return sorted(_pod(pod) for pod in found.items)


def own_secrets(cluster: Cluster, names: Sequence[str]) -> list[dict[str, Any]]:
    """Entries of this pod's environment that come from secrets, as its specification has them: references, no values.

    None where this is no pod, or where pods may not be listed.

    Args:
        names: of the variables wanted.
    """
    own = os.environ.get("KFP_POD_NAME") or os.environ.get("HOSTNAME")
    if own is None or not any(os.environ.get(name) for name in names):
        return []
    with contextlib.suppress(UserError), _refusals("list", "pods", cluster):
        found = api.CoreV1Api(cluster.client).list_namespaced_pod(
            cluster.namespace, field_selector=f"metadata.name={own}", _request_timeout=TIMEOUT_S
        )
        pods = cluster.client.sanitize_for_serialization(found)["items"]
        containers = [container for pod in pods for container in pod.get("spec", {}).get("containers", [])]
        entries = [entry for container in containers for entry in container.get("env", [])]
        wanted = (entry for entry in entries if entry["name"] in names and "secretKeyRef" in entry.get("valueFrom", {}))
        return list({entry["name"]: entry for entry in wanted}.values())
    return []


def log_lines(cluster: Cluster, pod: str, *, container: str, **options: Any) -> list[str]:
    """Lines of a container's log; none while it has not started.

    Args:
        options: tail_lines, since_seconds, timestamps.
    """
    with _refusals("get", "pods/log", cluster):
        try:
            # The client's own decoding of text differs between its versions.
            answer = api.CoreV1Api(cluster.client).read_namespaced_pod_log(
                pod,
                cluster.namespace,
                container=container,
                _preload_content=False,
                _request_timeout=TIMEOUT_S,
                **options,
            )
        except ApiException as error:
            if error.status not in (400, 404):
                raise
            return []
    lines: list[str] = answer.data.decode(errors="replace").splitlines()
    return lines


def last_lines(cluster: Cluster, selector: str, *, container: str) -> str:
    """State and last lines of every pod that did not succeed; or why they cannot be read."""
    try:
        pods = [pod for pod in list_pods(cluster, selector) if pod.phase != "Succeeded"]
        failed = [pod for pod in pods if pod.phase == "Failed"] or pods
        parts = [
            "\n".join(
                [f"{pod.name}: {pod.state}", *log_lines(cluster, pod.name, container=container, tail_lines=LAST_LINES)]
            )
            for pod in failed
        ]
    except UserError as error:
        return str(error)
    return "\n".join(parts) or "no pod is left to read"


@contextlib.contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Within, SIGTERM raises SystemExit(143), so that what was created can be deleted; in the main thread only."""

    def stop(_: int, __: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the second one must not interrupt the deletion
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _pod(found: Any) -> Pod:
    states = [status.state for status in found.status.container_statuses or () if status.state]
    reasons = [part.reason for state in states for part in (state.waiting, state.terminated) if part and part.reason]
    if not reasons:
        unmet = (entry for entry in found.status.conditions or () if entry.status == "False" and entry.reason)
        reasons = [entry.reason for entry in unmet if entry.type == "PodScheduled"]
    reason = next((r for r in reasons if r != "Completed"), "")
    ends = [
        next((s.terminated for s in (status.state, status.last_state) if s and s.terminated), None)
        for status in found.status.container_statuses or ()
    ]
    taken = [entry for entry in found.status.conditions or () if entry.type == "DisruptionTarget"]
    return Pod(
        found.metadata.name,
        found.metadata.labels or {},
        found.status.phase or "Unknown",
        reason,
        exit_codes=tuple(end.exit_code for end in ends if end),
        disrupted=any(entry.status == "True" for entry in taken),
    )


@contextlib.contextmanager
def _refusals(verb: str, what: str, cluster: Cluster) -> Iterator[None]:
    """Turn the client's errors into UserErrors that name the verb and the resource."""
    where = f"{verb} {what} in namespace {cluster.namespace}"
    try:
        yield
    except ApiException as error:
        said = _message(error)
        if error.status == 401:
            raise UserError(
                "cluster-credentials",
                "the cluster does not accept the credentials",
                where=where,
                remedy="Log in again.",
            ) from None
        if error.status == 403:
            remedy = f"Give the service account a Role with the verb {verb} on {what}; docs/clusters.md lists them all."
            raise UserError(
                "cluster-forbidden", "the cluster does not permit it", where=where, found=said, remedy=remedy
            ) from None
        if error.status == 404:
            remedy = "Check the namespace, and that the engine is installed: docs/clusters.md."
            raise UserError(
                "cluster-not-found", "the cluster does not have it", where=where, found=said, remedy=remedy
            ) from None
        if error.status == 409:
            raise ConflictError(
                "cluster-conflict", "there is one already, or it has changed meanwhile", where=where, found=said
            ) from None
        if error.status == 429 or (error.status or 500) >= 500:
            raise UnavailableError(
                "cluster-unavailable", "the cluster does not answer", where=where, found=said
            ) from None
        raise UserError("cluster-refuses", "the cluster refuses it", where=where, found=said) from None
    except urllib3.exceptions.HTTPError as error:
        raise UnavailableError(
            "cluster-unavailable", "the cluster does not answer", where=where, found=type(error).__name__
        ) from None


def _message(error: ApiException) -> str:
    """The server's own sentence, else the status."""
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        if message := json.loads(error.body).get("message"):
            return " ".join(str(message).split()).rstrip(".")
    return f"status {error.status} {error.reason or ''}".strip()
