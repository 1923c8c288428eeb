"""The deployment step: check the model behind a real server, copy it, roll it out, and point at it last."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from components.cxr.bundle_info import local_folder
from components.cxr.decision import Decision, load_decision, write_decision
from components.cxr.errors import UserError
from components.cxr.operating_points import MODEL_CARD, OPERATING_POINTS, OperatingPoints, load_operating_points
from components.cxr.report import REPORT, Report, load_report
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root, Storage
from components.cxr.tracking.mlflow_server import MlflowError
from components.cxr.tracking.outbox import send_outboxes
from components.cxr.tracking.registry import champion_version, set_champion
from components.cxr.tracking.tracking import tag_run
from components.serve.config import ServeConfig
from components.serve.deployment import Deployment, read_deployment, write_deployment
from components.serve.golden import Server, check_answers, running_server

__all__ = ["deploy"]


def deploy(
    config: ServeConfig, *, root: Root, bundle: Storage, evaluation: Storage, manifest: LoadedManifest
) -> Deployment:
    """Put an evaluated and promoted bundle into service, with that evaluation's operating points.

    Bundle, points, model card and report are copied side by side, so that no later evaluation changes what is served.

    In order: the check, the copy under `deployed/`, for a cluster the rollout and the check of what it serves, the
    pointer, MLflow. Whatever the moment of a crash, running it again completes it; a model that is current already is
    not checked again, unless the cluster does not have it.

    Args:
        bundle: the trained model.
        evaluation: folder of its report, decision, operating points and model card.
        manifest: the data that it was evaluated on.

    Raises:
        UserError: not promoted, another model in service than the one it was compared with, a server that does not
            start or does not give evaluation's answers. Then nothing is published, and the cluster has its old state.
    """
    report, decision = _evaluated(evaluation)
    if decision.registered_model is None:
        decision = _registered_late(root, evaluation, decision)
    current, generation = read_deployment(root)
    if current is not None and current.bundle_hash == report.bundle_hash:
        same = current.operating_points_hash == report.operating_points_hash
        other = "" if same else f"; the operating points stay those of {current.evaluation}"
        print(f"serve: already deployed, model {current.bundle_hash[:16]}{other}")
        _restore(config, current, report, manifest=manifest)
        _tell_mlflow(root, current, decision)
        return current
    _check(report, decision, current, manifest=manifest, where=evaluation.uri)
    _check_champion(root, decision)
    points = _points(evaluation, report)
    served = _with_room(config, report)
    with running_server(served, bundle, evaluation) as server:
        _check_answers(config, server, report, manifest=manifest)

    target = root.deployed().child(f"{report.bundle_hash[:16]}-{points.hash}")
    with local_folder(bundle) as folder:
        target.upload_folder(folder)
    for name in (OPERATING_POINTS, MODEL_CARD, REPORT):
        target.write(name, evaluation.read(name).data)
    deployment = Deployment(
        bundle=target.uri,
        bundle_hash=report.bundle_hash,
        operating_points_hash=points.hash,
        evaluation=evaluation.uri,
        manifest_hash=report.manifest_hash,
        mlflow_run_id=report.mlflow_run_id,
        model_name=decision.registered_model,
        model_version=decision.challenger_version,
        previous=current.bundle_hash if current else None,
    )
    with _rolled_out(served, root, deployment, current, report, manifest=manifest):
        write_deployment(root, deployment, over=generation)
    print(f"serve: deployed model {deployment.bundle_hash[:16]} at {target.uri}")
    _tell_mlflow(root, deployment, decision)
    return deployment


def _with_room(config: ServeConfig, report: Report) -> ServeConfig:
    """The configuration with room for the golden studies' films."""
    num_films = max((study.num_images for study in report.golden), default=1)
    return config.model_copy(update={"max_files": max(config.max_files, num_films)})


def _check_answers(config: ServeConfig, server: Server, report: Report, *, manifest: LoadedManifest) -> None:
    checked = check_answers(server, report, manifest=manifest, tolerance=config.golden_tolerance)
    compared = f"{checked.num_answers} answers to {checked.num_studies} studies"
    left_out = f", {checked.num_left_out} studies left out" if checked.num_left_out else ""
    print(f"serve: {compared} are evaluation's, within {config.golden_tolerance:g}{left_out}", flush=True)


@contextlib.contextmanager
def _rolled_out(
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

    with rolled_out(config, deployment, current=current, published=published) as server:
        _check_answers(config, server, report, manifest=manifest)
        yield


def _restore(config: ServeConfig, current: Deployment, report: Report, *, manifest: LoadedManifest) -> None:
    """Roll the current model out where the cluster does not have it: a new target, or a deleted Deployment."""
    if config.target == "local":
        return
    from components.serve.rollout import rolled_out, serves

    if not serves(config, current):
        if current.operating_points_hash != report.operating_points_hash:
            raise UserError(
                "other-operating-points",
                "the model in service was promoted by another evaluation",
                where=current.evaluation,
                found=report.operating_points_hash,
                expected=current.operating_points_hash,
                remedy="Deploy that evaluation to bring it back to the cluster.",
            )
        with rolled_out(_with_room(config, report), current, current=None, published=lambda: False) as server:
            _check_answers(config, server, report, manifest=manifest)


def _evaluated(evaluation: Storage) -> tuple[Report, Decision]:
    try:
        return load_report(evaluation), load_decision(evaluation)
    except FileNotFoundError:
        raise UserError(
            "no-evaluation", "no complete evaluation here", where=evaluation.uri, remedy="Run evaluate first."
        ) from None


def _registered_late(root: Root, evaluation: Storage, decision: Decision) -> Decision:
    """The decision with its versions, where MLflow did not answer when the model was evaluated and does now."""
    found = send_outboxes(root, "serve").get(evaluation.uri)
    if found is None:
        return decision
    versions = {"challenger_version": found.version, "champion_version": found.champion}
    decision = decision.model_copy(update={"registered_model": found.name, **versions})
    write_decision(evaluation, decision)
    return decision


def _points(evaluation: Storage, report: Report) -> OperatingPoints:
    points = load_operating_points(evaluation, bundle_hash=report.bundle_hash)
    if points.hash != report.operating_points_hash:
        raise UserError(
            "other-operating-points",
            "operating points and report are of two evaluations",
            where=evaluation.uri,
            found=points.hash,
            expected=report.operating_points_hash,
            remedy="Delete this folder and run evaluate again.",
        )
    return points


def _check(
    report: Report, decision: Decision, current: Deployment | None, *, manifest: LoadedManifest, where: str
) -> None:
    """Refuse what evaluation did not decide, for this model, on this data, against what is in service."""
    if not decision.promoted:
        raise UserError("not-promoted", "the model was not promoted", where=where, found=decision.reason)
    if decision.challenger_bundle != report.bundle_hash:
        found, expected = decision.challenger_bundle[:16], report.bundle_hash[:16]
        raise UserError(
            "decision-of-other-model",
            "decision and report are of two models",
            where=where,
            found=found,
            expected=expected,
            remedy="Run evaluate again.",
        )
    if report.manifest_hash != manifest.hash:
        found, expected = manifest.hash[:16], report.manifest_hash[:16]
        raise UserError(
            "evaluated-on-other-data",
            "the model was evaluated on other data",
            where=manifest.storage.uri,
            found=found,
            expected=expected,
        )
    in_service = current.bundle_hash if current else None
    if in_service != decision.champion_bundle:
        raise UserError(
            "champion-changed",
            "the model in service is not the one that was compared",
            where=where,
            found=in_service[:16] if in_service else "none",
            expected=decision.champion_bundle[:16] if decision.champion_bundle else "none",
            remedy="Run evaluate again to compare with it.",
        )
    if not report.golden:
        raise UserError(
            "no-golden-studies", "the report has no golden studies to check", where=where, remedy="Run evaluate again."
        )


def _check_champion(root: Root, decision: Decision) -> None:
    """Refuse before anything is published what set_champion would refuse afterwards."""
    if (name := decision.registered_model) is None:
        return
    found, expected = champion_version(root, name), decision.champion_version
    if found not in (expected, decision.challenger_version):
        raise UserError(
            "champion-changed",
            "MLflow's champion is not the one that was compared",
            where=f"registered model {name}",
            found=f"version {found}",
            expected=f"version {expected}" if expected else "none",
            remedy="Run evaluate again to compare with it.",
        )


def _tell_mlflow(root: Root, deployment: Deployment, decision: Decision) -> None:
    """Move the alias `champion` and tag the training's run; doing it twice changes nothing."""
    name, version = deployment.model_name, deployment.model_version
    if name is None or version is None:
        print("serve: MLflow did not answer when the model was evaluated, so no version becomes champion")
        return
    try:
        set_champion(root, name=name, version=version, expected=decision.champion_version)
        tag_run(root, deployment.mlflow_run_id, {"deployed": deployment.bundle})
    except (UserError, MlflowError) as error:
        raise UserError("mlflow-not-told", f"the model is in service, but MLflow does not know: {error}") from None
    print(f"serve: {name} version {version} is champion")
