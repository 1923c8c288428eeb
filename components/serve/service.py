"""What putting a model into service takes, for deploy and rollback alike: the check, the cluster, MLflow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from components.cxr.bundle_info import file_hashes, local_folder
from components.cxr.errors import UserError
from components.cxr.report import Report
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root, Storage
from components.cxr.tracking.mlflow_server import MlflowError
from components.cxr.tracking.registry import set_champion
from components.cxr.tracking.tracking import tag_run
from components.serve.config import ServeConfig
from components.serve.copies import seal_of_copy
from components.serve.deployment import Deployment, read_deployment
from components.serve.golden import Server, check_answers
from components.serve.signature import check_signature

__all__ = ["check_served", "check_signed", "rolled_out_and_checked", "tell_mlflow", "with_room"]


def with_room(config: ServeConfig, report: Report) -> ServeConfig:
    """The configuration with room for the golden studies' films."""
    num_films = max((study.num_images for study in report.golden), default=1)
    return config.model_copy(update={"max_files": max(config.max_files, num_films)})


def check_signed(config: ServeConfig, bundle: Storage, evaluation: Storage) -> None:
    """Refuse what `serve.public_key`'s owner has not signed; a deployed copy is both bundle and evaluation.

    Raises:
        UserError: as check_signature.
    """
    if config.public_key is not None:
        with local_folder(bundle) as folder:
            seal = seal_of_copy(file_hashes(folder), evaluation)
        check_signature(seal, evaluation, public_key=config.public_key)


def check_served(config: ServeConfig, server: Server, report: Report, *, manifest: LoadedManifest) -> None:
    """Send the golden studies and say how many answers were compared.

    Raises:
        UserError: as check_answers.
    """
    checked = check_answers(server, report, manifest=manifest, tolerance=config.golden_tolerance)
    compared = f"{checked.num_answers} answers to {checked.num_studies} studies"
    left_out = f", {checked.num_left_out} studies left out" if checked.num_left_out else ""
    print(f"serve: {compared} are evaluation's, within {config.golden_tolerance:g}{left_out}", flush=True)


@contextlib.contextmanager
def rolled_out_and_checked(
    config: ServeConfig,
    root: Root,
    deployment: Deployment,
    current: Deployment | None,
    report: Report,
    *,
    manifest: LoadedManifest,
) -> Iterator[None]:
    """Within, the cluster serves the model and has been checked; it gets its old state back if the pointer stays."""
    if config.target == "local":
        yield
        return
    from components.serve.rollout import rolled_out  # a second of imports that a local target need not wait for

    def published() -> bool:
        now = read_deployment(root).deployment
        return now is not None and now.bundle_hash == deployment.bundle_hash

    with rolled_out(config, deployment, root=root, current=current, published=published) as server:
        check_served(config, server, report, manifest=manifest)
        yield


def tell_mlflow(root: Root, deployment: Deployment, *, expected: str | None, remedy: str | None = None) -> None:
    """Move the alias `champion` and tag the training's run; doing it twice changes nothing.

    Args:
        expected: the version that may have the alias now.
        remedy: what to do when MLflow cannot be told.

    Raises:
        UserError: another version has become champion, or MLflow does not answer.
    """
    name, version = deployment.model_name, deployment.model_version
    if name is None or version is None:
        print("serve: MLflow did not answer when the model was evaluated, so no version becomes champion")
        return
    try:
        set_champion(root, name=name, version=version, expected=expected)
        tag_run(root, deployment.mlflow_run_id, {"deployed": root.at(deployment.bundle).uri})
    except (UserError, MlflowError) as error:
        what = f"the model is in service, but MLflow does not know: {error}"
        raise UserError("mlflow-not-told", what, remedy=remedy) from None
    print(f"serve: {name} version {version} is champion")
