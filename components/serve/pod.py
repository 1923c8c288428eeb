"""The pod of a server in a cluster, new or put into what is there already."""

from __future__ import annotations

import copy
import os
from typing import Any

import yaml

from components.cxr.errors import UserError
from components.serve.config import ServeConfig

__all__ = ["PORT", "server_pod"]

PORT = 8000
"""Where the server listens in its container."""
TMP, TMP_VOLUME = "/tmp", "cxrflow-tmp"


def server_pod(
    config: ServeConfig,
    found: dict[str, Any],
    *,
    container: str,
    startup_probe: bool,
    bundle: str,
    seal: str,
    model_version: str | None = None,
) -> dict[str, Any]:
    """A pod's spec that serves `bundle`.

    Of a pod that is there already, everything is kept but the image, the arguments, and what the configuration names:
    an operator's probes, limits and volumes stay. Probes of the server's port ask as it speaks, by HTTPS or without.

    Args:
        found: the present pod's spec; empty for a new one.
        container: the server's container.
        seal: hash of the bundle's seal.
        model_version: in MLflow's registry.

    Raises:
        UserError: a pod without that container.
    """
    pod = copy.deepcopy(found)
    containers: list[dict[str, Any]] = pod.setdefault("containers", [])
    if not containers:
        containers.append({"name": container})
    server = next((entry for entry in containers if entry.get("name") == container), None)
    if server is None:
        names = ", ".join(str(entry.get("name")) for entry in containers)
        raise UserError(
            "not-our-server",
            "what has this name in the cluster is no server of ours",
            where=f"serve.cluster.name: {config.cluster.name}",
            found=f"containers {names}",
            expected=container,
            remedy="Choose another name.",
        )
    cluster = config.cluster
    for key, value in _defaults(config, startup_probe=startup_probe).items():
        server.setdefault(key, value)
    _ask_as_served(server, config)
    server["image"] = cluster.image
    which = ["--bundle", bundle, "--seal", seal]
    which += [] if model_version is None else ["--model-version", model_version]
    server["args"] = ["--config", os.devnull, "--set", f"serve={_flow(config)}", *which]
    if resources := cluster.container_resources():
        server["resources"] = resources
    _merge(server, "env", cluster.env())
    _merge(server, "volumeMounts", cluster.volume_mounts())
    _merge(pod, "volumes", cluster.volumes())
    if server["securityContext"].get("readOnlyRootFilesystem"):
        _give_tmp(pod, server)
    pod.update(cluster.scheduling())
    return pod


def _defaults(config: ServeConfig, *, startup_probe: bool) -> dict[str, Any]:
    """What a server gets that has none: port, probes (components/serve/app.py answers them), no privileges."""
    start = round(config.startup_timeout_s)
    slow_start = (
        {"startupProbe": _probe("/readyz", config, periodSeconds=5, failureThreshold=max(1, start // 5))}
        if startup_probe
        else {}
    )
    patience = {} if startup_probe else {"initialDelaySeconds": start}
    return slow_start | {
        "ports": [{"containerPort": PORT, "protocol": "TCP"}],
        "readinessProbe": _probe("/readyz", config, periodSeconds=5, failureThreshold=2),
        "livenessProbe": _probe("/healthz", config, periodSeconds=10, failureThreshold=3, **patience),
        "securityContext": config.cluster.security_context() | {"readOnlyRootFilesystem": True},
    }


def _ask_as_served(server: dict[str, Any], config: ServeConfig) -> None:
    """Let probes of the server's port ask by HTTPS, or without, whatever they did before."""
    ports = [PORT, *(port.get("name") for port in server["ports"] if port.get("containerPort") == PORT)]
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = server.get(name, {}).get("httpGet")
        if asked is not None and asked.get("port") in ports:
            asked.pop("scheme", None)
            asked.update(_scheme(config))


def _give_tmp(pod: dict[str, Any], server: dict[str, Any]) -> None:
    """The one folder that a server may write to, unless the pod has one there already."""
    if not any(mount["mountPath"].rstrip("/") == TMP for mount in server.get("volumeMounts") or ()):
        _merge(pod, "volumes", [{"name": TMP_VOLUME, "emptyDir": {}}])
        _merge(server, "volumeMounts", [{"name": TMP_VOLUME, "mountPath": TMP}])
    if not any(entry["name"] == "HOME" for entry in server.get("env") or ()):
        _merge(server, "env", [{"name": "HOME", "value": TMP}])


def _probe(path: str, config: ServeConfig, **values: int) -> dict[str, Any]:
    host = {"name": "Host", "value": "localhost"}  # a probe would name the pod's address, which is no allowed host
    asked = {"path": path, "port": PORT, "httpHeaders": [host], **_scheme(config)}
    return {"httpGet": asked, "timeoutSeconds": 5, **values}


def _scheme(config: ServeConfig) -> dict[str, str]:
    return {} if config.tls_key is None else {"scheme": "HTTPS"}


def _flow(config: ServeConfig) -> str:
    """The server's part of the configuration as YAML in one line; JSON would turn 1e-05 into text."""
    values = config.model_dump(mode="json", exclude={"cluster", "target"}) | {"host": "0.0.0.0", "port": PORT}
    return yaml.safe_dump(values, default_flow_style=True, width=float("inf"), sort_keys=False).strip()


def _merge(owner: dict[str, Any], key: str, wanted: list[dict[str, Any]]) -> None:
    """Add entries to a list of named entries, in place of those of the same name."""
    if wanted:
        names = {entry["name"] for entry in wanted}
        owner[key] = [entry for entry in owner.get(key) or [] if entry["name"] not in names] + wanted
