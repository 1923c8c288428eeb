"""The evaluation step: score a bundle on the test split, compare it with the deployed one, decide, and register it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

from components.cxr.bundle import (
    MODEL_CARD,
    Bundle,
    check_same_pixels,
    load_bundle,
    load_operating_points,
    local_folder,
    write_operating_points,
)
from components.cxr.config import content_hash
from components.cxr.errors import UserError
from components.cxr.model.device import pick_device
from components.cxr.report import (
    REPORT,
    Decision,
    Report,
    load_predictions,
    load_report,
    write_decision,
    write_predictions,
    write_report,
)
from components.cxr.shards import LoadedManifest
from components.cxr.storage.pointers import write_pointer
from components.cxr.storage.storage import Root, Storage
from components.cxr.tracking.journal import JOURNAL
from components.cxr.tracking.registry import register_model
from components.cxr.tracking.tracked_run import TrackedRun, replay
from components.cxr.tracking.tracking import joined_run
from components.evaluate.assess import assess
from components.evaluate.champion import compare
from components.evaluate.config import EvaluateConfig
from components.evaluate.log import log_evaluation
from components.evaluate.model_card import model_card
from components.evaluate.promotion import decide
from components.evaluate.table import print_report
from components.evaluate.truth_table import SecondTruth, read_second_truth

__all__ = ["Evaluation", "evaluation_key", "run"]

EXPERIMENT = "cxrflow"
"""Of a bundle whose training left no run."""


def evaluation_key(config: EvaluateConfig, *, bundle_hash: str, manifest_hash: str, truth_hash: str = "") -> str:
    """Name of the evaluation's folder: 16 hex digits over what decides the report."""
    return content_hash(config.hash, bundle_hash, manifest_hash, truth_hash)


class Evaluation(NamedTuple):
    """What was found, what follows from it, and where both lie."""

    report: Report
    decision: Decision
    storage: Storage


def run(config: EvaluateConfig, *, root: Root, manifest: LoadedManifest, bundle: Storage) -> Evaluation:
    """Evaluate one bundle; a report that is already there is reused, the decision is always made anew.

    Writes predictions, operating points, model card, report and decision under `root.evaluation(evaluation_key(…))`,
    points and card into the bundle too, everything without ids into the training's MLflow run, and registers the model
    as `challenger`.

    Raises:
        UserError: data that does not fit the bundle, no test studies, a second truth that cannot be joined, no such
            device, or no place to track.
    """
    pick_device(config.device, where="evaluate.device")  # its errors come before any work
    model = load_bundle(bundle)
    _check(config, model, manifest)
    truth = _second_truth(config, model, manifest)
    truth_hash = truth.sha256 if truth else ""
    key = evaluation_key(config, bundle_hash=model.hash, manifest_hash=manifest.hash, truth_hash=truth_hash)
    storage = root.evaluation(key)
    known = load_report(storage) if storage.exists(REPORT) else None
    run_id = known.mlflow_run_id if known else model.info.mlflow_run_id
    with joined_run(root, experiment=EXPERIMENT, run_id=run_id) as tracked:
        _replay_training(tracked, root, bundle)
        if known is None:
            _evaluate(config, model, manifest, truth, storage, run_id=tracked.id)
        else:
            print(f"evaluate: reused evaluations/{key}", flush=True)
        report, points = known or load_report(storage), load_operating_points(storage)
        predictions, card = load_predictions(storage), storage.read(MODEL_CARD).data.decode()
        write_operating_points(bundle, points)
        bundle.write(MODEL_CARD, card.encode())

        comparison = compare(config, root=root, manifest=manifest, bundle=model, predictions=predictions)
        decision = decide(report, comparison, config=config.promotion)

        log_evaluation(tracked, report, predictions, card=card, manifest=manifest, key=key)
        identity = {"bundle_hash": model.hash, "operating_points": content_hash(points.canonical_json())}
        with local_folder(bundle) as folder:
            decision = _register(config, decision, tracked, folder=folder, bundle=model, identity=identity)
    write_decision(storage, decision)
    write_pointer(root, "evaluation", storage.uri)
    print_report(report, decision)
    print(f"evaluate: {'promoted' if decision.promoted else 'not promoted'}: {decision.reason}", flush=True)
    return Evaluation(report, decision, storage)


def _second_truth(config: EvaluateConfig, model: Bundle, manifest: LoadedManifest) -> SecondTruth | None:
    if config.second_truth is None:
        return None
    return read_second_truth(
        config.second_truth.table,
        pathologies=model.info.pathologies,
        id_key_fingerprint=manifest.manifest.id_key_fingerprint,
        user_project=config.second_truth.user_project,
    )


def _evaluate(
    config: EvaluateConfig,
    model: Bundle,
    manifest: LoadedManifest,
    truth: SecondTruth | None,
    storage: Storage,
    *,
    run_id: str | None,
) -> None:
    """Score the model and write what was found, the report last."""
    found = assess(config, model, manifest, truth=truth, run_id=run_id)
    card = model_card(model, found.report, found.points, manifest=manifest.manifest)
    write_predictions(storage, found.predictions)
    write_operating_points(storage, found.points)
    storage.write(MODEL_CARD, card.encode())
    write_report(storage, found.report)


def _register(
    config: EvaluateConfig,
    decision: Decision,
    tracked: TrackedRun,
    *,
    folder: Path,
    bundle: Bundle,
    identity: dict[str, str],
) -> Decision:
    """Make the bundle MLflow's challenger; the decision comes back with the versions."""
    registration = register_model(
        tracked,
        name=config.registered_model,
        folder=folder,
        pathologies=bundle.info.pathologies,
        identity=identity,
        tags={
            "decision": "promoted" if decision.promoted else "rejected",
            "reason": decision.reason,
            "leaky": str(bundle.info.leaky).lower(),
        },
    )
    if registration is None:
        return decision
    versions = {"challenger_version": registration.version, "champion_version": registration.champion}
    decision = decision.model_copy(update={"registered_model": config.registered_model, **versions})
    in_service = decision.champion_bundle == decision.challenger_bundle
    if in_service and registration.champion != registration.version:
        reason = "this model is in service already, but its deployment ended before MLflow's champion was set"
        decision = decision.model_copy(update={"promoted": True, "reason": reason})
    return decision


def _check(config: EvaluateConfig, model: Bundle, manifest: LoadedManifest) -> None:
    check_same_pixels(model.info, manifest.manifest, where=manifest.storage.uri)
    for name in config.headline:
        if name not in model.info.pathologies:
            known = ", ".join(model.info.pathologies)
            raise UserError(
                "unknown-pathology",
                "unknown pathology",
                where="evaluate.headline",
                found=name,
                expected=f"some of {known}",
            )
    if not (counts := manifest.manifest.counts.get("test")) or not counts.labeled_studies:
        raise UserError(
            "nothing-to-evaluate",
            "nothing to evaluate on",
            where=f"{manifest.storage.uri}, split test",
            found="0 labeled studies",
            remedy="For answers without labels use python -m components.evaluate.predict.",
        )


def _replay_training(tracked: TrackedRun, root: Root, bundle: Storage) -> None:
    """Log what the training's journal has and MLflow missed; checkpoints have the bundle's key."""
    checkpoints = root.checkpoints(bundle.uri.rstrip("/").rpartition("/")[2])
    if not checkpoints.exists(JOURNAL):
        return
    with tempfile.TemporaryDirectory() as temporary:
        journal = Path(temporary, JOURNAL)
        checkpoints.download(JOURNAL, journal)
        if count := replay(journal, tracked):
            print(f"evaluate: logged {count} metric values that MLflow missed in training", flush=True)
