"""Rolls a model out to a cluster, and back if it does not hold."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import httpx
from kubernetes.utils import parse_quantity

from components.cxr.cluster.kube import (
    Cluster,
    Objects,
    UnavailableError,
    connect,
    last_lines,
    services,
    stopped_by_sigterm,
)
from components.cxr.errors import UserError
from components.cxr.storage.storage import Root
from components.serve.client import open_client
from components.serve.config import ServeConfig
from components.serve.deployment import Deployment
from components.serve.engine import Engine, Progress
from components.serve.keys import api_key
from components.serve.kserve import KServe
from components.serve.kubernetes import Kubernetes
from components.serve.pod import server_pod

__all__ = ["ClusterServer", "rolled_out", "serves"]

POLL_S = 2.0
NUM_AGREEING = 5
"""How many times in a row the address must name the new model: an old pod may still answer for a moment."""
NUM_FAILING = 3
"""How many times in a row a rollout must have failed: the state of the one before lingers for a moment."""
ANNOTATION = "cxrflow/model"
"""Hash of the model that an object was changed for."""


class ClusterServer(NamedTuple):
    """A cluster's service that serves the model."""

    address: str
    tail: Callable[[], str]
    key: str | None = None
    certificate: str | None = None

    def died(self) -> UserError:
        """That it does not answer, with its pods' last lines."""
        return UserError(
            "server-died", f"the service stopped answering; its pods' last lines:\n{self.tail()}\n", where=self.address
        )


def serves(config: ServeConfig, deployment: Deployment, *, root: Root) -> bool:
    """Whether the cluster's object was made for that model, at its present place, as configured, and is ready.

    Raises:
        UserError: no cluster, a refusal, or something else of that name.
    """
    engine, replicas = _engine(config), config.cluster.replicas
    found = Objects(connect(config.cluster.namespace), engine.kind).get(config.cluster.name)
    if found is None or _model(found) != deployment.bundle_hash or not engine.progress(found).ready:
        return False
    pod = _get(found, engine.pod)
    return replicas in (None, _find(found, engine.replicas)) and _has(pod, _pod(config, engine, root, pod, deployment))


@contextlib.contextmanager
def rolled_out(
    config: ServeConfig,
    deployment: Deployment,
    *,
    root: Root,
    current: Deployment | None,
    published: Callable[[], bool],
) -> Iterator[ClusterServer]:
    """Within, the cluster serves the model; an exception or SIGTERM before it is published restores what was there.

    Args:
        deployment: the model to serve.
        root: where its folder lies.
        current: the model that the pointer names.
        published: whether the pointer names `deployment` now.

    Raises:
        UserError: no cluster, a folder that its pods cannot see, a refusal, or pods that do not serve the model in
            time, with their last lines.
    """
    config.cluster.require_reachable(root.at(deployment.bundle).uri, where="serve.cluster")
    for place in filter(None, (config.shadow, config.shadow_evaluation)):
        config.cluster.require_reachable(place, where="serve.cluster")
    engine = _engine(config)
    cluster = connect(config.cluster.namespace)
    rollout = _Rollout(config, engine, cluster, root, deployment, current)
    with stopped_by_sigterm():
        try:
            rollout.apply()
            yield rollout.wait()
        except BaseException:
            if not published():
                rollout.undo()
            raise


class _Rollout:
    """One change of one object, and its inverse."""

    def __init__(
        self,
        config: ServeConfig,
        engine: Engine,
        cluster: Cluster,
        root: Root,
        deployment: Deployment,
        current: Deployment | None,
    ) -> None:
        self._config, self._engine, self._cluster, self._root = config, engine, cluster, root
        self._deployment, self._current = deployment, current
        self._name = config.cluster.name
        self._objects = Objects(cluster, engine.kind)
        self._where = f"{engine.kind[2]} {cluster.namespace}/{self._name}"
        self._undo: list[Callable[[], object]] = []

    def apply(self) -> None:
        """Create the object, or change it; what would undo it is known before."""
        settings, model = self._config.cluster, self._deployment.bundle_hash
        found = self._objects.get(self._name)
        if found is None:
            created = self._engine.new(settings)
            created["metadata"]["annotations"] = {ANNOTATION: model}
            _set(created, self._engine.pod, self._pod(created, self._deployment))
            for pointer, number in self._numbers().items():
                _set(created, pointer, number)
            self._undo.append(lambda: self._objects.delete(self._name))
            self._create_service()
            self._objects.create(created)
        else:
            operations = self._operations(found, self._pod(found, self._deployment), model, self._numbers())
            self._undo.append(self._restoring(found))
            self._create_service()
            self._objects.patch(self._name, operations)
        print(f"serve: {'created' if found is None else 'changed'} {self._where}", flush=True)

    def _numbers(self) -> dict[str, int]:
        """By JSON pointer; an autoscaler's number of pods is neither set nor put back: it has its own reasons."""
        settings, engine = self._config.cluster, self._engine
        numbers = {} if settings.replicas is None else {engine.replicas: settings.replicas}
        if engine.deadline is not None:
            numbers[engine.deadline] = max(1, round(settings.rollout_timeout_s))
        return numbers

    def _create_service(self) -> None:
        if (wanted := self._engine.service(self._config.cluster)) is None:
            return
        present = services(self._cluster)
        if present.get(self._name) is None:
            self._undo.append(lambda: present.delete(self._name))
            present.create(wanted)

    def wait(self) -> ClusterServer:
        """Wait until the rollout is complete and the address serves the model, and only it."""
        deadline = time.monotonic() + self._config.cluster.rollout_timeout_s
        agreeing, failing, shown = 0, 0, ""
        while True:
            progress, address = self._look()
            if progress.ready and address is not None:
                found = _served_model(address)
                agreeing = agreeing + 1 if found == self._deployment.bundle_hash else 0
                if agreeing >= NUM_AGREEING:
                    return ClusterServer(address, self._tail, api_key())
                if agreeing == 0:
                    seen = f"serves {found[:16]}" if found else "does not answer"
                    progress = Progress(False, f"{progress.detail}; {address} {seen}")
            if progress.detail != shown:
                shown = progress.detail
                print(f"serve: {shown}", flush=True)
            failing = failing + 1 if progress.failed else 0
            if failing >= NUM_FAILING or time.monotonic() > deadline:
                raise UserError(
                    "rollout-failed",
                    f"the rollout failed; its pods' last lines:\n{self._tail()}\n",
                    where=self._where,
                    found=progress.detail,
                    remedy="Raise serve.cluster.rollout_timeout_s if it is only slow.",
                )
            time.sleep(POLL_S)

    def undo(self) -> None:
        """Restore what was there; a failure to is said and does not hide why."""
        for step in reversed(self._undo):
            try:
                step()
            except UserError as error:
                print(f"serve: {self._where} could not be rolled back: {error}", flush=True)
                return
        if self._undo:
            print(f"serve: rolled {self._where} back", flush=True)

    def _look(self) -> tuple[Progress, str | None]:
        try:
            found = self._objects.get(self._name)
        except UnavailableError as error:
            return Progress(False, str(error)), None
        if found is None:
            raise UserError("deleted-meanwhile", "it was deleted by someone else", where=self._where)
        return self._engine.progress(found), self._config.cluster.address or self._engine.address(
            found, self._cluster.namespace
        )

    def _pod(self, found: dict[str, Any], deployment: Deployment) -> dict[str, Any]:
        return _pod(self._config, self._engine, self._root, _get(found, self._engine.pod), deployment)

    def _restoring(self, found: dict[str, Any]) -> Callable[[], object]:
        """What brings the object back to its present state; after an attempt that was cut off, to the current model."""
        before = copy.deepcopy(found)
        model, pod = _model(before), _get(before, self._engine.pod)
        if model == self._deployment.bundle_hash and self._current != self._deployment:
            if self._current is None:
                return lambda: self._objects.delete(self._name)
            model, pod = self._current.bundle_hash, self._pod(before, self._current)
        numbers = {pointer: number for pointer in self._numbers() if (number := _find(before, pointer)) is not None}

        def restore() -> None:
            now = self._objects.get(self._name) or before
            self._objects.patch(self._name, self._operations(now, pod, model, numbers))

        return restore

    def _operations(
        self, found: dict[str, Any], pod: dict[str, Any], model: str | None, numbers: dict[str, int]
    ) -> list[dict[str, Any]]:
        """The JSON patch to that pod, annotation and numbers; anything else in the object is others' business."""
        changes: list[dict[str, Any]] = [{"op": "replace", "path": self._engine.pod, "value": pod}]
        changes += [{"op": "add", "path": pointer, "value": number} for pointer, number in numbers.items()]
        annotations = found["metadata"].get("annotations")
        path = "/metadata/annotations/" + ANNOTATION.replace("/", "~1")
        if model is not None and annotations is None:
            changes.append({"op": "add", "path": "/metadata/annotations", "value": {ANNOTATION: model}})
        elif model is not None:
            changes.append({"op": "add", "path": path, "value": model})
        elif annotations and ANNOTATION in annotations:
            changes.append({"op": "remove", "path": path})
        return changes

    def _tail(self) -> str:
        return last_lines(self._cluster, self._engine.selector(self._name), container=self._engine.container)


def _pod(
    config: ServeConfig, engine: Engine, root: Root, found: dict[str, Any], deployment: Deployment
) -> dict[str, Any]:
    """The spec of a pod that serves a model, made of the present one."""
    return server_pod(
        config,
        found,
        container=engine.container,
        startup_probe=engine.startup_probe,
        bundle=root.at(deployment.bundle).uri,
        seal=deployment.seal,
        model_version=deployment.model_version,
    )


def _has(found: object, wanted: object) -> bool:
    """Whether all that is wanted is there, beside what the cluster and its operators have added."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_has(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list) and any(isinstance(entry, dict) for entry in wanted):
        return isinstance(found, list) and all(any(_has(other, entry) for other in found) for entry in wanted)
    return found == wanted or (_quantity(found) == _quantity(wanted) is not None)


def _quantity(value: object) -> Decimal | None:
    """An amount, which the API spells its own way: 1000m comes back as 1."""
    with contextlib.suppress(ValueError):
        return parse_quantity(value) if isinstance(value, str) else None
    return None


def _engine(config: ServeConfig) -> Engine:
    return KServe() if config.target == "kserve" else Kubernetes()


def _served_model(address: str) -> str | None:
    """Hash of the model that answers; None when nothing of ours does."""
    try:
        with open_client(address, timeout_s=10.0, key=api_key()) as client:
            answer = client.get("/v1/model")
        return str(answer.json()["bundle_hash"]) if answer.status_code == 200 else None
    except (httpx.TransportError, ValueError, KeyError, TypeError):
        return None


def _model(found: dict[str, Any]) -> str | None:
    annotations: dict[str, str] = found["metadata"].get("annotations") or {}
    return annotations.get(ANNOTATION)


def _get(found: dict[str, Any], pointer: str) -> dict[str, Any]:
    for key in pointer.split("/")[1:]:
        found = found[key]
    return found


def _find(found: dict[str, Any], pointer: str) -> int | None:
    parent, _, key = pointer.rpartition("/")
    return _get(found, parent).get(key)


def _set(found: dict[str, Any], pointer: str, value: object) -> None:
    parent, _, key = pointer.rpartition("/")
    _get(found, parent)[key] = value
