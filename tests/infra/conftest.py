"""Fixtures of the deployment files: each overlay as kubectl builds it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

KUBERNETES = Path(__file__).parents[2] / "infra" / "kubernetes"

Manifest = dict[str, Any]


class Objects(list[Manifest]):
    """The objects that `kubectl apply -k` would send, in its order."""

    def of_kind(self, *kinds: str) -> list[Manifest]:
        return [item for item in self if item["kind"] in kinds]

    def workloads(self) -> list[Manifest]:
        found = self.of_kind("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod")
        assert {item["kind"] for item in found} <= {"Deployment", "StatefulSet"}, "teach these tests the new kind"
        return found

    def workload(self, name: str) -> Manifest:
        (found,) = (item for item in self.workloads() if item["metadata"]["name"] == name)
        return found

    def selected(self, selector: Manifest, namespace: str) -> list[str]:
        """Names of the workloads whose pods a LabelSelector takes."""
        return [
            item["metadata"]["name"]
            for item in self.workloads()
            if item["metadata"]["namespace"] == namespace
            and _matches(selector, item["spec"]["template"]["metadata"]["labels"])
        ]

    def below(self, node: Any, path: str = "") -> Iterator[tuple[str, Manifest]]:
        """Every mapping in `node` with the keys that lead to it."""
        if isinstance(node, dict):
            yield path, node
            for key, value in node.items():
                yield from self.below(value, f"{path}.{key}")
        elif isinstance(node, list):
            for value in node:
                yield from self.below(value, path)


@pytest.fixture(scope="session")
def built() -> Callable[[str], Objects]:
    """`built("overlays/gke")`: the objects of a folder under infra/kubernetes."""
    return _built


@pytest.fixture
def objects(overlay: str) -> Objects:
    """The objects of the overlay that a test is parametrized with."""
    return _built(overlay)


@cache
def _built(folder: str) -> Objects:
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", KUBERNETES / folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr  # deprecations
    return Objects(yaml.safe_load_all(done.stdout))


def _matches(selector: Manifest, labels: dict[str, str]) -> bool:
    for wanted in selector.get("matchExpressions", []):
        if wanted["operator"] != "Exists":
            raise NotImplementedError(wanted["operator"])
        if wanted["key"] not in labels:
            return False
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())
