"""The MLflow run of a training, and its journal beside the checkpoints."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from components.cxr.errors import UserError
from components.cxr.report import LEAKY_TEXT
from components.cxr.shards import LoadedManifest
from components.cxr.storage.pointers import pointed_at
from components.cxr.storage.storage import Root, Storage
from components.cxr.tracking.identity import NOTE, TRIAL, data_set_name, flat, run_name
from components.cxr.tracking.journal import DESCRIPTION, JOURNAL, upload_journal
from components.cxr.tracking.mlflow_server import warn
from components.cxr.tracking.outbox import send_outboxes
from components.cxr.tracking.tracked_run import TrackedRun, replay
from components.cxr.tracking.tracking import joined_run
from components.train.checkpoint import Progress
from components.train.distributed import is_main
from components.train.setup import Setup

__all__ = ["RUN", "tracked_training"]

RUN = "run.json"
"""Beside the checkpoints: the run of a training that was killed before its first checkpoint."""


@contextlib.contextmanager
def tracked_training(
    root: Root, setup: Setup, loaded: LoadedManifest, progress: Progress, checkpoints: Storage
) -> Iterator[TrackedRun | None]:
    """Join or create the run, on the main process; `progress.run_id` is then the run that the bundle names.

    A resumed training joins its former run; where that was deleted, a new one gets parameters and journal. What a
    server missed that was away for a while is sent at the end, also where it was away at the start.
    """
    if not is_main():
        yield None
        return
    with contextlib.ExitStack() as stack:
        journal = checkpoints.local_path(JOURNAL)
        if journal is None:
            journal = Path(stack.enter_context(tempfile.TemporaryDirectory()), JOURNAL)
            stack.callback(upload_journal, checkpoints, journal)
            with contextlib.suppress(FileNotFoundError):
                checkpoints.download(JOURNAL, journal)
        known = progress.run_id = progress.run_id or _known_run(checkpoints)
        join = functools.partial(
            joined_run,
            root,
            experiment=setup.config.experiment,
            run_id=known,
            run_name=run_name(os.environ.get(TRIAL) or data_set_name(root), *_recipe(setup)),
            source="components.train",
            journal=journal,
        )
        with join(system_metrics=True) as tracked:
            if tracked.link:
                print(f"train: MLflow run {tracked.link}", flush=True)
            _describe(tracked, root, setup, loaded, progress, checkpoints, known=known)
            replay(journal, tracked)
            if progress.step == 0 and (rates := _pseudo_label_rates(setup)):
                tracked.metrics(rates, step=0)
            if tracked.id is not None:
                send_outboxes(root, "train")
            yield tracked
            if tracked.missed:
                tracked.ask_again()
                _describe(tracked, root, setup, loaded, progress, checkpoints, known=None)
                replay(journal, tracked)
        if tracked.id is None:
            try:
                with join() as late:
                    _describe(late, root, setup, loaded, progress, checkpoints, known=None)
                    replay(journal, late)
            except UserError as error:
                warn(f"the training is not tracked ({error})")


def _describe(
    tracked: TrackedRun,
    root: Root,
    setup: Setup,
    loaded: LoadedManifest,
    progress: Progress,
    checkpoints: Storage,
    *,
    known: str | None,
) -> None:
    """Say what is trained, unless it is the run `known`, where that was said; keep it while there is no run."""
    params, tags = _params(setup, loaded), _tags(setup, loaded)
    if tracked.id is None:
        checkpoints.write(DESCRIPTION, json.dumps({"params": params, "tags": tags}).encode())
        return
    progress.run_id = tracked.id
    if tracked.id == known:
        return
    checkpoints.write(RUN, (json.dumps({"run_id": tracked.id}) + "\n").encode())
    tracked.params(params)
    for split in ("train", "validate"):
        if split in loaded.manifest.counts:
            tracked.dataset(loaded, split, name=data_set_name(root))
    tracked.tags({NOTE: _note(root, setup)} | tags)


def _tags(setup: Setup, loaded: LoadedManifest) -> dict[str, str]:
    leaky = setup.info.leaky
    return {
        "manifest_hash": loaded.hash,
        "text_sections": ", ".join(setup.info.text.sections) or "none",
        "leaky": str(leaky).lower(),
        **({"LEAKY": LEAKY_TEXT} if leaky else {}),
    }


def _params(setup: Setup, loaded: LoadedManifest) -> dict[str, object]:
    """What decides the weights, as dotted names: what is trained, on what, how."""
    config = setup.config.model_dump(mode="json", exclude={"architecture", "cluster", "experiment"})
    architecture = setup.config.architecture.model_dump(mode="json")
    return {
        **flat(architecture, "architecture."),
        "architecture.num_parameters": setup.info.num_parameters,
        **flat(loaded.manifest.pixel_preset.model_dump(mode="json"), "pixels."),
        "data.num_training_studies": len(setup.training),
        "data.num_validation_studies": len(setup.validation),
        "data.num_pathologies": len(setup.info.pathologies),
        **flat(config, "train."),
    }


def _pseudo_label_rates(setup: Setup) -> dict[str, float]:
    """Share of all studies' entries that the teachers labeled, and their mean probability there; empty without any."""
    if setup.pseudo_SP is None:
        return {}
    known_SP = ~setup.pseudo_SP.isnan()
    rates = {"train/pseudo_label_share": float(known_SP.float().mean())}
    return rates | ({"train/pseudo_label_rate": float(setup.pseudo_SP[known_SP].mean())} if known_SP.any() else {})


def _note(root: Root, setup: Setup) -> str:
    """The run's description until its evaluation replaces it."""
    num_patients = len(set(setup.training.patient_ids))
    return (
        f"**{', '.join([data_set_name(root), *_recipe(setup)])}**: {len(setup.training):,} training studies of "
        f"{num_patients:,} patients, {setup.info.size}. Not evaluated yet."
    )


def _recipe(setup: Setup) -> list[str]:
    """Encoder, side of a film in pixels, how unlabeled studies are used, and how many models answer, if not one."""
    vision = setup.config.architecture.vision
    encoder = (vision.pretrained or vision.model_type).rstrip("/").rpartition("/")[2]
    recipe = [f"{encoder} {setup.info.pixel_preset.size} px", "supervised" if setup.method == "none" else setup.method]
    recipe += [f"fine-tuned from {each.bundle_hash[:12]}" for each in setup.info.fine_tuned_from[:1]]
    return recipe if setup.config.num_models == 1 else [*recipe, f"{setup.config.num_models} models"]


def _known_run(checkpoints: Storage) -> str | None:
    """The run of a training that was killed before its first checkpoint."""
    with contextlib.suppress(FileNotFoundError, UserError):  # damaged: a new run takes its place
        return pointed_at(checkpoints.read(RUN).data, "run_id", where=RUN, remedy="")
    return None
