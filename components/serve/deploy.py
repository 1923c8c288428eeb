"""The deployment step: check the model behind a real server, copy it, roll it out, and point at it last."""

from __future__ import annotations

from components.cxr.decision import Decision, load_decision, write_decision
from components.cxr.errors import UserError
from components.cxr.operating_points import OperatingPoints, load_operating_points
from components.cxr.report import Report, load_report
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root, Storage
from components.cxr.tracking.outbox import send_outboxes
from components.cxr.tracking.registry import champion_version
from components.serve.config import ServeConfig
from components.serve.copies import check_copy, make_copy
from components.serve.deployment import Deployment, read_deployment, write_deployment
from components.serve.golden import running_server
from components.serve.service import check_served, check_signed, rolled_out_and_checked, tell_mlflow, with_room

__all__ = ["deploy"]


def deploy(
    config: ServeConfig, *, root: Root, bundle: Storage, evaluation: Storage, manifest: LoadedManifest
) -> Deployment:
    """Put an evaluated and promoted bundle into service, with that evaluation's operating points.

    Bundle, points, card and report are copied side by side, so that no later evaluation changes what is served.

    In order: the check, the copy under `deployed/`, for a cluster the rollout and the check of what it serves, the
    pointer, MLflow. Whatever the moment of a crash, running it again completes it; a model that is current already is
    not checked again, unless its copy is damaged, and made anew, or the cluster does not have it as configured.

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
    root.deployed().remove_partials()  # of a step that was killed, the pointer's too
    if current is not None and current.bundle_hash == report.bundle_hash:
        same = current.operating_points_hash == report.operating_points_hash
        other = "" if same else f"; the operating points stay those of {current.evaluation}"
        print(f"serve: already deployed, model {current.bundle_hash[:16]}{other}")
        _repair(config, root, current, bundle, manifest=manifest)
        _restore(config, root, current, report, manifest=manifest)
        tell_mlflow(root, current, expected=decision.champion_version)
        return current
    _check(report, decision, current, manifest=manifest, where=evaluation.uri)
    _check_champion(root, decision)
    points = _points(evaluation, report)
    check_signed(config, bundle, evaluation)
    served = with_room(config, report)
    with running_server(served, bundle, evaluation) as server:
        check_served(config, server, report, manifest=manifest)

    target = root.deployed().child(f"{report.bundle_hash[:16]}-{points.hash}")
    seal = make_copy(bundle, evaluation, target)
    deployment = Deployment(
        bundle=root.relative(target.uri),
        seal=seal.hash,
        bundle_hash=report.bundle_hash,
        operating_points_hash=points.hash,
        evaluation=root.relative(evaluation.uri),
        data=root.relative(manifest.storage.uri),
        manifest_hash=report.manifest_hash,
        mlflow_run_id=report.mlflow_run_id,
        model_name=decision.registered_model,
        model_version=decision.challenger_version,
        previous=current.replaced() if current else (),
    )
    with rolled_out_and_checked(served, root, deployment, current, report, manifest=manifest):
        write_deployment(root, deployment, over=generation)
    print(f"serve: deployed model {deployment.bundle_hash[:16]} at {target.uri}")
    tell_mlflow(root, deployment, expected=decision.champion_version)
    return deployment


def _repair(config: ServeConfig, root: Root, current: Deployment, bundle: Storage, *, manifest: LoadedManifest) -> None:
    """Make the current model's copy anew where it is damaged or gone, from the bundle and its own evaluation."""
    copy = root.at(current.bundle)
    try:
        check_copy(copy, seal=current.seal)
        check_signed(config, copy, copy)
    except UserError as error:
        print(f"serve: the deployed copy is damaged and made again: {error}", flush=True)
        check_signed(config, bundle, root.at(current.evaluation))
        make_copy(bundle, root.at(current.evaluation), copy, expected=current.seal)
        report = load_report(copy)
        with running_server(with_room(config, report), copy, seal=current.seal) as server:
            check_served(config, server, report, manifest=manifest)


def _restore(config: ServeConfig, root: Root, current: Deployment, report: Report, *, manifest: LoadedManifest) -> None:
    """Roll the current model out where the cluster lacks it: a new target, other settings, or a deleted Deployment."""
    if config.target == "local":
        return
    from components.serve.rollout import rolled_out, serves

    served = with_room(config, report)
    if not serves(served, current, root=root):
        if current.operating_points_hash != report.operating_points_hash:
            raise UserError(
                "other-operating-points",
                "the model in service was promoted by another evaluation",
                where=current.evaluation,
                found=report.operating_points_hash,
                expected=current.operating_points_hash,
                remedy="Deploy that evaluation to bring it back to the cluster.",
            )
        with rolled_out(served, current, root=root, current=current, published=lambda: False) as server:
            check_served(config, server, report, manifest=manifest)


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
