"""`<root>/deployed/current.json`: which model is in service."""

from __future__ import annotations

import json
from typing import NamedTuple

from components.cxr.config import Config
from components.cxr.errors import UserError
from components.cxr.shards import read_versioned
from components.cxr.storage.storage import ABSENT, Root, StaleWriteError

__all__ = ["CURRENT", "Deployment", "VersionedDeployment", "read_deployment", "write_deployment"]

SCHEMA_VERSION = 2
CURRENT = "current.json"


class Deployment(Config):
    """The model in service."""

    schema_version: int = SCHEMA_VERSION
    bundle: str
    """URI of its folder under `deployed/`, which also holds the operating points, the model card and the report."""
    bundle_hash: str
    operating_points_hash: str
    """Of the operating points in that folder."""
    evaluation: str
    """URI of the evaluation that promoted it, and from which they are copied."""
    manifest_hash: str
    """Of the data it was evaluated on."""
    mlflow_run_id: str | None
    model_name: str | None
    """Name in MLflow's registry; None when it is not registered."""
    model_version: str | None
    previous: str | None
    """Bundle hash of the model that it replaced."""


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
