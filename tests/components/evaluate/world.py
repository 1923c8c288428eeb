"""A root in which a model was trained and evaluated once, for tests of what an evaluation leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from components.cxr.bundle_info import BUNDLE
from components.cxr.decision import Decision
from components.cxr.report import Report
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root, Storage
from components.cxr.tracking.journal import append_metrics
from components.cxr.tracking.tracking import joined_run
from components.evaluate.config import EvaluateConfig
from components.evaluate.evaluate import run

CONFIG = EvaluateConfig(num_bootstrap=200, num_golden=5)
KEY = "trained"


class World(NamedTuple):
    """A root in which the fitted bundle was trained and evaluated once."""

    root: Root
    bundle: Storage
    report: Report
    decision: Decision
    evaluation: Storage
    run_id: str


def evaluated_world(folder: Path, *, data: LoadedManifest, trained: Storage) -> World:
    """As training leaves it: a finished run, its journal with a line that MLflow never got, and the bundle."""
    root = Root(folder)
    journal = Path(root.checkpoints(KEY).uri, "metrics.jsonl")
    with joined_run(root, experiment="of training", journal=journal) as training:
        training.metrics({"train/loss": 0.5}, step=1)
    append_metrics(journal, {"train/loss": 0.25}, step=2, time_ms=1)
    assert training.id is not None
    bundle = root.bundle(KEY)
    bundle.upload_folder(Path(trained.uri))
    edit_bundle(bundle, mlflow_run_id=training.id)
    found = run(CONFIG, root=root, manifest=data, bundle=bundle)
    return World(root, bundle, *found, training.id)


def edit_bundle(bundle: Storage, **values: Any) -> None:
    found = json.loads(bundle.read(BUNDLE).data)
    bundle.write(BUNDLE, json.dumps(found | values).encode())
