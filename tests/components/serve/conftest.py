"""A tiny evaluated model with its data, and the application around it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from components.cxr.bundle import (
    BundleInfo,
    Calibration,
    OperatingPoint,
    OperatingPoints,
    load_bundle,
    load_operating_points,
    save_bundle,
    write_operating_points,
)
from components.cxr.dataset import StudyDataset
from components.cxr.labels import PATHOLOGIES, LabelPolicy
from components.cxr.pixel_preset import PixelPreset
from components.cxr.predictor import answer, predict
from components.cxr.report import (
    CONDITIONS,
    Decision,
    GoldenStudy,
    Report,
    write_decision,
    write_report,
)
from components.cxr.shards import (
    ImageRow,
    LoadedManifest,
    Manifest,
    load_manifest,
    write_manifest,
    write_shard,
)
from components.cxr.storage import Root, Storage
from components.cxr.text import TextConfig
from components.serve.app import create_app
from components.serve.config import ServeConfig
from components.serve.predictor import StudyPredictor
from components.train.build import build_model
from components.train.config import TrainConfig

SIZE = 32
TEXTS = ("Chest pain.", "", "Shortness of breath, history: heart failure.", "Fever and cough for two weeks.")


class World(NamedTuple):
    """What the steps before deployment have left under a root."""

    root: Root
    manifest: LoadedManifest
    bundle: Storage
    evaluation: Storage
    report: Report


@pytest.fixture(scope="session")
def world_template(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Made once; tests that deploy take a copy (`make_world`)."""
    return _make_world(tmp_path_factory.mktemp("world"), preset=PixelPreset(size=SIZE), seed=0)


@pytest.fixture(scope="session")
def predictor(world_template: World) -> StudyPredictor:
    return StudyPredictor(world_template.bundle)


@pytest.fixture
def client(predictor: StudyPredictor) -> Iterator[TestClient]:
    with TestClient(create_app(predictor, ServeConfig())) as client:
        yield client


def _make_world(folder: Path, *, preset: PixelPreset, seed: int, champion: str | None = None) -> World:
    root = Root(folder)
    manifest = _make_data(root.data("tiny"), preset)
    bundle = root.bundle(f"tiny{seed}")
    _make_bundle(bundle, manifest, seed=seed)
    evaluation = root.evaluation(f"tiny{seed}")
    report = _evaluate(evaluation, bundle, manifest, champion=champion)
    return World(root, manifest, bundle, evaluation, report)


@pytest.fixture(scope="session")
def make_world():
    return _make_world


def _make_data(storage: Storage, preset: PixelPreset) -> LoadedManifest:
    random = np.random.default_rng(7)
    rows = []
    for s, text in enumerate(TEXTS):
        for view in ("PA", "LATERAL", "RL")[: 1 + s % 3]:
            rows.append(
                ImageRow(
                    study_id=f"study-{s}",
                    patient_id=f"patient-{s}",
                    image_id=f"image-{s}-{view}",
                    split="test",
                    view_position=view,
                    pixels=random.integers(0, 256, (preset.size, preset.size), dtype=np.uint8),
                    text={"indication": text} if text else {},
                    labels=dict.fromkeys(PATHOLOGIES),
                    labeled=True,
                    age_years=[63.0, None, 1 / 3, 80.0][s],
                    sex=["F", "M", None, "F"][s],
                    source_hash="0",
                )
            )
    path = Path(storage.uri, "test-00000.parquet")
    shard = write_shard(path, rows, pathologies=PATHOLOGIES, preset=preset, name=path.name)
    write_manifest(
        storage,
        Manifest(
            schema_version=1,
            pathologies=PATHOLOGIES,
            pixel_preset=preset,
            pixel_preset_hash=preset.hash,
            config_hash="0",
            source_hash="0",
            id_key_fingerprint="0",
            deidentified=False,
            counts={},
            num_rejects=0,
            shards=(shard,),
        ),
    )
    return load_manifest(storage)


def _make_bundle(storage: Storage, manifest: LoadedManifest, *, seed: int) -> None:
    torch.manual_seed(seed)
    config = TrainConfig()
    architecture, model, tokenizer = build_model(config, texts=list(TEXTS), num_pathologies=len(PATHOLOGIES))
    with torch.no_grad():
        model.head_bias_P3.normal_()
    preset = manifest.manifest.pixel_preset
    info = BundleInfo(
        pathologies=PATHOLOGIES,
        pixel_preset=preset,
        pixel_preset_hash=preset.hash,
        text=TextConfig(),
        label_policy=LabelPolicy(),
        architecture=architecture,
        num_parameters=sum(p.numel() for p in model.parameters()),
        manifest_hash=manifest.hash,
        train_config_hash="0",
        mlflow_run_id=None,
        git_revision=None,
    )
    save_bundle(storage, info=info, model=model, tokenizer=tokenizer)
    points = {
        condition: {
            name: OperatingPoint(
                threshold=0.3 + 0.02 * p, calibration=Calibration(slope=0.9, intercept=0.1 * c)
            )
            for p, name in enumerate(PATHOLOGIES)
        }
        for c, condition in enumerate(CONDITIONS)
    }
    write_operating_points(storage, OperatingPoints(conditions=points))


def _evaluate(storage: Storage, bundle: Storage, manifest: LoadedManifest, *, champion: str | None) -> Report:
    """The part of an evaluation that deployment reads."""
    model, points = load_bundle(bundle), load_operating_points(bundle)
    data = StudyDataset(manifest, splits=["test"], text=model.info.text)
    logits = predict(model, [data[i] for i in range(len(data))])
    golden = tuple(
        GoldenStudy(
            shard=place.shard,
            row=place.row,
            num_images=place.num_images,
            probabilities={
                name: found.probability
                for name, found in answer(model, logits, points, condition="all", row=i).items()
            },
        )
        for i, place in enumerate(data.places)
    )
    report = Report(
        bundle_hash=model.hash,
        manifest_hash=manifest.hash,
        mlflow_run_id=None,
        leaky=False,
        label_policy=LabelPolicy(),
        threshold_rule="youden",
        scores=(),
        golden=golden,
        num_bootstrap=0,
    )
    decision = Decision(
        promoted=True,
        policy="superior",
        reason="Nothing is deployed.",
        challenger_bundle=model.hash,
        champion_bundle=champion,
        difference=None,
        difference_ci=None,
    )
    write_decision(storage, decision)
    write_report(storage, report)
    return report
