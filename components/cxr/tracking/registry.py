"""MLflow's model registry: evaluate registers every bundle as challenger, deploy makes one champion."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from components.cxr.errors import UserError
from components.cxr.storage.storage import Root
from components.cxr.tracking.mlflow_server import MlflowError, with_client
from components.cxr.tracking.tracked_run import TrackedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["CHALLENGER", "CHAMPION", "Registration", "champion_version", "register_model", "set_champion"]

CHALLENGER, CHAMPION = "challenger", "champion"
"""Aliases: the newest evaluated model, and the one in service."""


class Registration(NamedTuple):
    """Versions of a registered model."""

    version: str
    """Of the bundle."""
    champion: str | None
    """That had the alias `champion` at that moment."""


def register_model(
    run: TrackedRun,
    *,
    name: str,
    artifacts: Mapping[str, Path],
    pathologies: Sequence[str],
    identity: Mapping[str, str],
    tags: Mapping[str, str],
) -> Registration | None:
    """Register an evaluated bundle and give it the alias `challenger`.

    Args:
        name: of the registered model.
        artifacts: folders on this machine: `bundle`, and `evaluation` with its operating points.
        identity: tags that make it that model; a version that has them is found and not registered again.
        tags: further tags, replacing their former values.

    Returns:
        The versions; None when MLflow does not answer.
    """

    def register(client: MlflowClient, run_id: str) -> Registration:
        known = "".join(f" and tag.{tag} = '{value}'" for tag, value in identity.items())
        found = client.search_model_versions(f"name = '{name}'{known}")
        version = str(found[0].version) if found else _register(client, run_id, name, artifacts, pathologies)
        for tag, value in {**tags, **identity}.items():
            client.set_model_version_tag(name, version, tag, value)
        client.set_registered_model_alias(name, CHALLENGER, version)
        return Registration(version, _champion(client, name))

    return run.attempt(register)


def champion_version(root: Root, name: str) -> str | None:
    """The version with the alias `champion`; None without one.

    Raises:
        UserError: MLflow does not answer.
    """
    try:
        return with_client(root, lambda client: _champion(client, name))
    except MlflowError as error:
        if error.unknown:
            return None
        raise _refused(name, error) from None


def set_champion(root: Root, *, name: str, version: str, expected: str | None) -> None:
    """Give a version the alias `champion`; nothing happens when it has it already.

    MLflow has no compare-and-swap: of two deployments in the same instant, deployed/current.json decides.

    Args:
        expected: the version that had the alias when the decision was made (Decision.champion_version).

    Raises:
        UserError: another version has become champion since, or MLflow does not answer.
    """
    found = champion_version(root, name)
    if found == version:
        return
    if found != expected:
        raise UserError(
            "champion-changed",
            "another model has become champion since the evaluation",
            where=f"{name}, alias {CHAMPION}",
            found="no version" if found is None else f"version {found}",
            expected="no version" if expected is None else f"version {expected}",
            remedy="Run evaluate again.",
        )
    try:
        with_client(root, lambda client: client.set_registered_model_alias(name, CHAMPION, version))
    except MlflowError as error:
        raise _refused(name, error) from None


def _register(
    client: MlflowClient, run_id: str, name: str, artifacts: Mapping[str, Path], pathologies: Sequence[str]
) -> str:
    """Log the bundle as a model of the run and make it a new version."""
    from components.cxr.tracking.mlflow_model import log_model

    uri = log_model(client, run_id, artifacts=artifacts, pathologies=pathologies)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    with _tracking_at(client.tracking_uri):
        version = client.create_model_version(name, source=uri, run_id=run_id, model_id=uri.rpartition("/")[2])
    return str(version.version)


@contextlib.contextmanager
def _tracking_at(uri: str) -> Iterator[None]:
    """MLFLOW_TRACKING_URI for a while: MLflow looks up models:/ by it, whatever the client's server is."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = uri
    try:
        yield
    finally:
        if before is None:
            del os.environ["MLFLOW_TRACKING_URI"]
        else:
            os.environ["MLFLOW_TRACKING_URI"] = before


def _champion(client: MlflowClient, name: str) -> str | None:
    version = client.get_registered_model(name).aliases.get(CHAMPION)
    return None if version is None else str(version)


def _refused(name: str, error: MlflowError) -> UserError:
    where = f"{name}, alias {CHAMPION}"
    return UserError(
        "mlflow-refuses",
        "MLflow refuses or does not answer",
        where=where,
        found=str(error),
        remedy="Check MLFLOW_TRACKING_URI.",
    )
