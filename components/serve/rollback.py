"""`python -m components.serve rollback`: the model before the one in service, back in service."""

from __future__ import annotations

from components.cxr.errors import UserError
from components.cxr.report import load_report
from components.cxr.shards import LoadedManifest, load_manifest
from components.cxr.storage.storage import Root
from components.cxr.tracking.registry import champion_version
from components.serve.config import ServeConfig
from components.serve.copies import check_copy
from components.serve.deployment import CURRENT, Deployment, nothing_deployed, read_deployment, write_deployment
from components.serve.golden import running_server
from components.serve.service import check_served, check_signed, rolled_out_and_checked, tell_mlflow, with_room

__all__ = ["rollback"]


def rollback(config: ServeConfig, *, root: Root) -> Deployment:
    """Put the model before the one in service back, with its operating points of then.

    In deploy's order: its copy's seal, the golden studies on a real server, for a cluster the rollout and the check of
    what it serves, the pointer, MLflow. The model that was in service leaves the history; deploying it again needs its
    promotion.

    Raises:
        UserError: nothing is deployed, nothing was before, its copy or data are gone or damaged, a server that does not
            give evaluation's answers, or another deployment meanwhile. Then the model in service stays.
    """
    current, generation = read_deployment(root)
    if current is None:
        raise nothing_deployed(root, remedy="Run the pipeline.")
    if (deployment := current.before()) is None:
        raise UserError(
            "no-previous-model",
            "there is no model before the one in service",
            where=f"{root.deployed().uri}/{CURRENT}",
            found=f"model {current.bundle_hash[:16]}",
            expected="one that it replaced",
            remedy="Deploy another model.",
        )
    root.deployed().remove_partials()
    copy = root.at(deployment.bundle)
    check_copy(copy, seal=deployment.seal)
    check_signed(config, copy, copy)
    report, manifest = load_report(copy), _manifest(root, deployment)
    served = with_room(config, report)
    with running_server(served, copy, seal=deployment.seal) as server:
        check_served(config, server, report, manifest=manifest)
    with rolled_out_and_checked(served, root, deployment, current, report, manifest=manifest):
        write_deployment(root, deployment, over=generation)
    print(f"serve: rolled back from model {current.bundle_hash[:16]} to {deployment.bundle_hash[:16]} at {copy.uri}")
    _tell_mlflow(root, deployment)
    return deployment


def _tell_mlflow(root: Root, deployment: Deployment) -> None:
    name, version = deployment.model_name, deployment.model_version
    remedy = f"Give version {version} of {name} the alias champion there; another rollback would go one model further."
    try:
        expected = champion_version(root, name) if name else None  # whichever: a person has decided
    except UserError as error:
        what = f"the model is in service, but MLflow does not know: {error}"
        raise UserError("mlflow-not-told", what, remedy=remedy) from None
    tell_mlflow(root, deployment, expected=expected, remedy=remedy)


def _manifest(root: Root, deployment: Deployment) -> LoadedManifest:
    """The data that the model was evaluated on, for the golden studies' films."""
    manifest = load_manifest(root.at(deployment.data))
    if manifest.hash != deployment.manifest_hash:
        raise UserError(
            "evaluated-on-other-data",
            "the model was evaluated on other data",
            where=manifest.storage.uri,
            found=manifest.hash[:16],
            expected=deployment.manifest_hash[:16],
            remedy="Restore that data: without it the model's answers cannot be checked.",
        )
    return manifest
