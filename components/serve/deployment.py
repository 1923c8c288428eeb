"""`<root>/deployed/current.json`: which model is in service."""

from __future__ import annotations

import json
from typing import NamedTuple

from components.cxr.config import Config
from components.cxr.errors import UserError
from components.cxr.shards import read_versioned
from components.cxr.storage.storage import ABSENT, Root, StaleWriteError

__all__ = [
    "CURRENT", "Deployed", "Deployment", "VersionedDeployment",
    "nothing_deployed", "read_deployment", "write_deployment",
]  # fmt: skip

SCHEMA_VERSION = 3
CURRENT = "current.json"


class Deployed(Config):
    """A model that was put into service. Places are relative to the root, or URIs if elsewhere (Root.at)."""

    bundle: str
    """Its folder under `deployed/`, which also holds operating points, model card, report and seal."""
    seal: str
    """SHA-256 of that seal, and so of every file in the folder."""
    bundle_hash: str
    operating_points_hash: str
    """Of the operating points in that folder."""
    evaluation: str
    """The evaluation that promoted it, and from which they are copied."""
    data: str
    """The shards that it was evaluated on."""
    manifest_hash: str
    """Of that data."""
    mlflow_run_id: str | None
    model_name: str | None
    """Name in MLflow's registry; None when it is not registered."""
    model_version: str | None


class Deployment(Deployed):
    """`current.json`: the model in service."""

    schema_version: int = SCHEMA_VERSION
    previous: tuple[Deployed, ...] = ()
    """The models before it, the newest first."""

    def replaced(self) -> tuple[Deployed, ...]:
        """`previous` of the model that comes after this one."""
        return (Deployed(**self.model_dump(include=set(Deployed.model_fields))), *self.previous)

    def before(self) -> Deployment | None:
        """The deployment of the model before this one; None without one."""
        if not self.previous:
            return None
        return Deployment(**self.previous[0].model_dump(), previous=self.previous[1:])


class VersionedDeployment(NamedTuple):
    """What is in service, and the generation of the pointer that says so."""

    deployment: Deployment | None
    generation: int


def read_deployment(root: Root) -> VersionedDeployment:
    """The model in service; None before the first deployment.

    Raises:
        UserError: not JSON, or another schema version.
    """
    storage = root.deployed()
    try:
        data, generation = storage.read(CURRENT)
    except FileNotFoundError:
        return VersionedDeployment(None, ABSENT)
    where = f"{storage.uri}/{CURRENT}"
    values = read_versioned(data, where=where, version=SCHEMA_VERSION, made_by="deploy")
    return VersionedDeployment(Deployment.parse(values, where=where), generation)


def nothing_deployed(root: Root, *, remedy: str) -> UserError:
    """That there is no model in service."""
    return UserError("nothing-deployed", "nothing is deployed", where=root.deployed().uri, remedy=remedy)


def write_deployment(root: Root, deployment: Deployment, *, over: int) -> None:
    """Put a model into service, over the pointer's generation `over`.

    Raises:
        UserError: another deployment came first.
    """
    data = json.dumps(deployment.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"
    storage = root.deployed()
    try:
        storage.write(CURRENT, data.encode(), if_generation=over)
    except StaleWriteError:
        raise UserError(
            "deployed-meanwhile",
            "another model was deployed meanwhile",
            where=f"{storage.uri}/{CURRENT}",
            remedy="Run evaluate again to compare with it.",
        ) from None
