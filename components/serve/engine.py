"""What a rollout needs to know of an engine that runs servers; kubernetes.py and kserve.py answer it for rollout.py."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from components.serve.config import ServeCluster

__all__ = ["Engine", "Progress"]


class Progress(NamedTuple):
    """How far a rollout is."""

    ready: bool
    detail: str
    """For people."""
    failed: bool = False
    """Whether waiting longer is of no use."""


class Engine(Protocol):
    """One kind of object that runs servers."""

    kind: tuple[str, str, str]
    """Group, version and plural."""
    container: str
    """Name of the server's container."""
    startup_probe: bool
    """Whether its pods may have one."""
    pod: str
    """JSON pointer to the pod's spec in the object."""
    replicas: str
    """JSON pointer to the number of pods."""
    deadline: str | None
    """JSON pointer to the seconds after which a rollout counts as failed; None for an object that has none."""

    def new(self, config: ServeCluster, /) -> dict[str, Any]:
        """The object, with an empty pod."""

    def service(self, config: ServeCluster, /) -> dict[str, Any] | None:
        """The Service that the object needs; None when the engine makes its own."""

    def progress(self, found: dict[str, Any], /) -> Progress:
        """How far the rollout of the object is."""

    def address(self, found: dict[str, Any], namespace: str, /) -> str | None:
        """URL of the service within the cluster; None while there is none."""

    def selector(self, name: str, /) -> str:
        """Labels of its pods."""
