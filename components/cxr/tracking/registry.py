"""MLflow's model registry: evaluate registers every bundle as challenger, deploy makes one champion."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from components.cxr.errors import UserError
from components.cxr.storage.storage import Root
from components.cxr.tracking.identity import NOTE
from components.cxr.tracking.mlflow_server import MlflowError, warn, with_client
from components.cxr.tracking.tracked_run import MAX_CHARACTERS, TrackedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [
    "CHALLENGER", "CHAMPION",
    "Registration", "challenger_version", "champion_version", "register_model", "set_champion",
]  # fmt: skip

CHALLENGER, CHAMPION = "challenger", "champion"
"""Aliases: the newest evaluated model, and the one in service."""

DESCRIPTION = """Chest X-ray classifiers. Alias `challenger` is the newest that was evaluated, `champion` the one in \
service. The scores of a version are on the page of its source model.

```python
import mlflow
import pandas as pd

# The server's address, or sqlite:////ROOT/mlflow/mlflow.db
mlflow.set_tracking_uri("...")
model = mlflow.pyfunc.load_model("models:/cxrflow@champion")
study = {"film": "film.dcm", "text": "cough and fever"}
study |= {"age_years": 63, "sex": "F"}
model.predict(pd.DataFrame([study]))
```
"""
"""Of the registered model."""


class Registration(NamedTuple):
    """Versions of a registered model."""

    name: str
    """Of the registered model."""
    version: str
    """Of the bundle."""
    champion: str | None
    """That had the alias `champion` at that moment."""
    model_id: str | None
    """Of MLflow's logged model."""


def register_model(
    run: TrackedRun,
    *,
    name: str,
    artifacts: Mapping[str, Path],
    pathologies: Sequence[str],
    params: Mapping[str, object],
    identity: Mapping[str, str],
    tags: Mapping[str, str],
    description: str,
    instead_of: str | None,
) -> Registration | None:
    """Register an evaluated bundle and give it the alias `challenger`.

    The alias stays where another evaluation has put it since; that is said, and nothing else follows from it, as
    deployment goes by the version in the decision.

    Args:
        name: of the registered model.
        artifacts: folders on this machine: `bundle`, and `evaluation` with its operating points.
        params: what the model is, for its page.
        identity: tags that make it that model; a version that has them is found and not registered again.
        tags: further tags, replacing their former values.
        description: of the model and of its version, as Markdown.
        instead_of: the version that had the alias when the evaluation began (challenger_version).

    Returns:
        The versions; None when MLflow does not answer.
    """

    def register(client: MlflowClient, run_id: str) -> Registration:
        known = "".join(f" and tag.{tag} = '{value}'" for tag, value in identity.items())
        found = client.search_model_versions(f"name = '{name}'{known}")
        if found:
            version, model_id = str(found[0].version), _model_id(found[0].source)
        else:
            version, model_id = _register(client, run_id, name, artifacts, pathologies, params)
        client.update_model_version(name, version, description=description)
        if model_id is not None:
            registered = json.dumps([{"name": name, "version": int(version)}])
            client.set_logged_model_tags(model_id, {"mlflow.modelVersions": registered, NOTE: description, **identity})
        for tag, value in {**tags, **identity}.items():
            client.set_model_version_tag(name, version, tag, value)
        now = _alias(client, name, CHALLENGER)
        if now in (instead_of, version):
            client.set_registered_model_alias(name, CHALLENGER, version)
        else:
            warn(f"version {now} of {name} has become challenger meanwhile and stays it; this is version {version}")
        return Registration(name, version, _alias(client, name, CHAMPION), model_id)

    return run.attempt(register)


def challenger_version(run: TrackedRun, name: str) -> str | None:
    """The version with the alias `challenger`; None without one, or when MLflow does not answer."""

    def ask(client: MlflowClient, _: str) -> str | None:
        return _alias(client, name, CHALLENGER) if client.search_registered_models(f"name = '{name}'") else None

    return run.attempt(ask)


def champion_version(root: Root, name: str) -> str | None:
    """The version with the alias `champion`; None without one.

    Raises:
        UserError: MLflow does not answer.
    """
    try:
        return with_client(root, lambda client: _alias(client, name, CHAMPION))
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
    client: MlflowClient,
    run_id: str,
    name: str,
    artifacts: Mapping[str, Path],
    pathologies: Sequence[str],
    params: Mapping[str, object],
) -> tuple[str, str]:
    """Log the bundle as a model of the run and make it a new version; returns the version and the model's id."""
    from components.cxr.tracking.mlflow_model import log_model

    shown = {param: str(value)[:MAX_CHARACTERS] for param, value in params.items()}
    uri = log_model(client, run_id, name=name, artifacts=artifacts, pathologies=pathologies, params=shown)
    model_id = uri.rpartition("/")[2]
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description=DESCRIPTION)
    with _tracking_at(client.tracking_uri):
        version = client.create_model_version(name, source=uri, run_id=run_id, model_id=model_id)
    return str(version.version), model_id


def _model_id(source: str) -> str | None:
    """Of the logged model that a version was made of; MLflow's registry does not keep it apart."""
    return source.removeprefix("models:/") if source.startswith("models:/m-") else None


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


def _alias(client: MlflowClient, name: str, alias: str) -> str | None:
    version = client.get_registered_model(name).aliases.get(alias)
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
