"""The evaluation step: predict, score, compare with the deployed model, decide, and register.

Two halves with a key each. `predictions/<key>/` holds the model's raw scores: bundle and data set decide them.
`evaluations/<key>/` holds report, operating points and card: the scores, the configuration and a second truth decide
them. A change of the configuration therefore never runs the model again, and the bundle is never written to.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from components.cxr.bundle_info import BundleInfo, Description, check_same_pixels, describe, local_folder
from components.cxr.config import content_hash
from components.cxr.decision import Decision, write_decision
from components.cxr.errors import UserError
from components.cxr.operating_points import (
    MODEL_CARD,
    load_operating_points,
)
from components.cxr.report import (
    REPORT,
    SCHEMA_VERSION,
    Report,
    load_predictions,
    load_report,
)
from components.cxr.seal import SEAL, left_by_evaluate
from components.cxr.shards import LoadedManifest
from components.cxr.storage.pointers import write_pointer
from components.cxr.storage.storage import Root, Storage
from components.cxr.tracking.identity import data_set_name, flat, run_name
from components.cxr.tracking.journal import DESCRIPTION, JOURNAL
from components.cxr.tracking.outbox import Outbox, send_outboxes
from components.cxr.tracking.registry import challenger_version, register_model
from components.cxr.tracking.tracked_run import TrackedRun, replay
from components.cxr.tracking.tracking import joined_run
from components.evaluate.champion import compare
from components.evaluate.config import EvaluateConfig
from components.evaluate.decided import decision_tags, generation_of, log_decision, register_look
from components.evaluate.log import log_evaluation, note_of
from components.evaluate.predictions import predictions_key
from components.evaluate.promotion import Comparison, decide
from components.evaluate.table import print_report
from components.evaluate.truth_table import SecondTruth, read_second_truth

__all__ = ["Evaluation", "evaluation_key", "run"]

VERSION = 6
"""Of the code that decides the report from the scores: metrics, calibration, tables and card."""
EXPERIMENT = "cxrflow"
"""Of a bundle whose training left no run."""


def evaluation_key(config: EvaluateConfig, *, predictions: str, truth_hash: str = "") -> str:
    """Name of the evaluation's folder: 16 hex digits over what decides the report.

    Args:
        predictions: key of the scores, which stands for bundle and data set.
        truth_hash: of the second truth's table.
    """
    return content_hash(f"score {VERSION}", f"report {SCHEMA_VERSION}", config.hash, predictions, truth_hash)


class Evaluation(NamedTuple):
    """What was found, what follows from it, and where both lie."""

    report: Report
    decision: Decision
    storage: Storage


def run(config: EvaluateConfig, *, root: Root, manifest: LoadedManifest, bundle: Storage) -> Evaluation:
    """Evaluate one bundle; scores and a report that are already there are reused, the decision is always made anew.

    Writes raw scores under `root.predictions(…)`, and predictions, operating points, model card, report and decision
    under `root.evaluation(evaluation_key(…))`; everything without ids goes into the training's MLflow run, and the
    model with these operating points is registered as `challenger`.

    Raises:
        UserError: data that does not fit the bundle, no test studies, a second truth that cannot be joined, no such
            device, or no place to track.
    """
    model = describe(bundle)
    _check(config, model, manifest)
    truth = _second_truth(config, model, manifest)
    scores_key = predictions_key(model.hash, manifest.hash)
    key = evaluation_key(config, predictions=scores_key, truth_hash=truth.sha256 if truth else "")
    storage = root.evaluation(key)
    before = generation_of(storage)
    known = load_report(storage) if storage.exists(REPORT) else None
    if known is None:
        from components.cxr.model.device import pick_device  # torch, which only a new report needs

        pick_device(config.device, where="evaluate.device")  # its errors come before any work
    # The outbox is sent by another step, whose environment may name no run or one of its own.
    given = os.environ.get("MLFLOW_RUN_ID")
    run_id = given or (known.mlflow_run_id if known else None) or model.info.mlflow_run_id
    joined: dict[str, Any] = {
        "experiment": EXPERIMENT,
        "run_id": run_id,
        "is_given": bool(given),
        "run_name": run_name(data_set_name(root), f"evaluation of {model.hash[:8]}"),
        "source": "components.evaluate",
    }
    with joined_run(root, **joined) as tracked:
        if tracked.link:
            print(f"evaluate: MLflow run {tracked.link}", flush=True)
        if tracked.id is not None:
            send_outboxes(root, "evaluate")
        tracked.outbox = Outbox(root, key, **joined)
        challenger = challenger_version(tracked, config.registered_model)
        _replay_training(tracked, root, bundle, model=model, manifest=manifest)
        if known is None:
            from components.evaluate.assess import assess  # torch takes seconds, which what is there need not wait for

            scores, run_id = root.predictions(scores_key), tracked.id or run_id
            assess(
                config,
                storage,
                scores=scores,
                bundle=bundle,
                model=model,
                manifest=manifest,
                truth=truth,
                run_id=run_id,
            )
        else:
            print(f"evaluate: reused evaluations/{key}", flush=True)
        report, told = known or load_report(storage), load_predictions(storage)

        points = load_operating_points(storage, bundle_hash=model.hash).hash
        if points != report.operating_points_hash:
            raise UserError(
                "other-operating-points",
                "operating points and report are of two evaluations at once",
                where=storage.uri,
                found=points,
                expected=report.operating_points_hash,
                remedy="Delete this folder and run evaluate again.",
            )
        comparison = compare(
            config, root=root, manifest=manifest, model=model, operating_points=points, predictions=told
        )
        champion = comparison.champion_bundle if comparison else None
        earlier = 0
        if comparison is None or (comparison.problem is None and champion != model.hash):
            earlier = register_look(root, manifest.hash, evaluation=key, champion=champion, config=config.promotion)
        decision = decide(report, comparison, config=config.promotion, earlier_decisions=earlier)

        card = storage.read(MODEL_CARD).data.decode()
        with _as_served(bundle, storage) as artifacts:
            decision, model_id = _register(
                config, decision, comparison, report, tracked,
                artifacts=artifacts, model=model, folders=(bundle, storage), instead_of=challenger,
            )  # fmt: skip
        log_evaluation(
            tracked, report, told,
            card=card, manifest=manifest, data_set=data_set_name(root), model_id=model_id, key=key,
            films=config.tracking.log_images,
        )  # fmt: skip
        write_decision(storage, decision, over=before)
        log_decision(tracked, decision)
    write_pointer(root, "evaluation", storage.uri)
    print_report(report, decision)
    print(f"evaluate: {'promoted' if decision.promoted else 'not promoted'}: {decision.reason}", flush=True)
    return Evaluation(report, decision, storage)


def _check(config: EvaluateConfig, model: Description, manifest: LoadedManifest) -> None:
    check_same_pixels(model.info, manifest.manifest, where=manifest.storage.uri)
    for field, names in (("headline", config.headline), ("prevalence", config.prevalence)):
        for name in names:
            if name not in model.info.pathologies:
                known = ", ".join(model.info.pathologies)
                raise UserError(
                    "unknown-pathology",
                    "unknown pathology",
                    where=f"evaluate.{field}",
                    found=name,
                    expected=f"some of {known}",
                )
    if not (counts := manifest.manifest.counts.get("test")) or not counts.labeled_studies:
        raise UserError(
            "nothing-to-evaluate",
            "nothing to evaluate on",
            where=f"{manifest.storage.uri}, split test",
            found="0 labeled studies",
            remedy="Give the test split labeled studies (data.splits, data.fractions). Answers without labels: "
            "python -m components.evaluate.answers.",
        )


def _second_truth(config: EvaluateConfig, model: Description, manifest: LoadedManifest) -> SecondTruth | None:
    if config.second_truth is None:
        return None
    return read_second_truth(
        config.second_truth.table,
        pathologies=model.info.pathologies,
        id_key_fingerprint=manifest.manifest.id_key_fingerprint,
        user_project=config.second_truth.user_project,
    )


@contextlib.contextmanager
def _as_served(bundle: Storage, evaluation: Storage) -> Iterator[dict[str, Path]]:
    """The bundle and of the evaluation what serving needs, as folders here; no predictions, which hold ids."""
    with local_folder(bundle) as folder, tempfile.TemporaryDirectory() as temporary:
        for name in (*left_by_evaluate(evaluation), SEAL):
            evaluation.download(name, Path(temporary, name))
        yield {"bundle": folder, "evaluation": Path(temporary)}


def _register(
    config: EvaluateConfig,
    decision: Decision,
    comparison: Comparison | None,
    report: Report,
    tracked: TrackedRun,
    *,
    artifacts: dict[str, Path],
    model: Description,
    folders: tuple[Storage, Storage],
    instead_of: str | None,
) -> tuple[Decision, str | None]:
    """Make bundle and operating points MLflow's challenger; returns the decision with versions, and the model's id."""
    wanted: dict[str, Any] = {
        "name": config.registered_model,
        "pathologies": model.info.pathologies,
        "params": _params(model.info),
        "identity": {"bundle_hash": model.hash, "operating_points": report.operating_points_hash},
        "tags": decision_tags(decision) | {"leaky": str(report.leaky).lower()},
        "description": note_of(report),
    }
    registration = register_model(tracked, **wanted, artifacts=artifacts, instead_of=instead_of)
    if registration is None:
        if tracked.outbox is not None:
            bundle, evaluation = (folder.uri for folder in folders)
            files = (*left_by_evaluate(folders[1]), SEAL)
            tracked.outbox.add("model", wanted | {"bundle": bundle, "evaluation": evaluation, "files": files})
        return decision, None
    versions = {"challenger_version": registration.version, "champion_version": registration.champion}
    decision = decision.model_copy(update={"registered_model": config.registered_model, **versions})
    in_service = decision.champion_bundle == decision.challenger_bundle
    if (
        in_service
        and comparison is not None
        and not comparison.other_points
        and registration.champion != registration.version
    ):
        reason = "this model is in service already, but its deployment ended before MLflow's champion was set"
        decision = decision.model_copy(update={"promoted": True, "verdict": "unfinished", "reason": reason})
    return decision, registration.model_id


def _params(info: BundleInfo) -> dict[str, object]:
    """What the model is, for its page in MLflow."""
    architecture = info.architecture.model_dump(mode="json", exclude={"vision": {"config"}, "text": {"config"}})
    return {
        **flat(architecture, "architecture."),
        "architecture.num_parameters": info.num_parameters,
        **flat(info.pixel_preset.model_dump(mode="json"), "pixels."),
        "text.sections": ", ".join(info.text.sections) or "none",
        **flat(info.label_policy.model_dump(mode="json"), "labels."),
        "data.num_pathologies": len(info.pathologies),
        "data.manifest_hash": info.manifest_hash,
    }


def _replay_training(
    tracked: TrackedRun, root: Root, bundle: Storage, *, model: Description, manifest: LoadedManifest
) -> None:
    """Log what MLflow missed of the training: the journal, and all else of one that never had a run of its own.

    Checkpoints have the bundle's key. The training's run is another one where every task of a pipeline has its own.
    """
    checkpoints = root.checkpoints(bundle.uri.rstrip("/").rpartition("/")[2])
    if model.info.mlflow_run_id is None and checkpoints.exists(DESCRIPTION):
        described = json.loads(checkpoints.read(DESCRIPTION).data)
        tracked.params(described["params"])
        tracked.tags(described["tags"])
        if manifest.hash == model.info.manifest_hash:
            for split in ("train", "validate"):
                tracked.dataset(manifest, split, name=data_set_name(root))
    if not checkpoints.exists(JOURNAL):
        return
    with tempfile.TemporaryDirectory() as temporary:
        journal = Path(temporary, JOURNAL)
        checkpoints.download(JOURNAL, journal)
        of = model.info.mlflow_run_id if tracked.of_a_task else None
        if count := replay(journal, tracked, of=of):
            print(f"evaluate: logged {count} metric values that MLflow missed in training", flush=True)
