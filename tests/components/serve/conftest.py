"""A root as the steps before deployment leave it, and servers for its model."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import pytest

from tests.components.serve.in_chromium import browser, dicom, open_page, page

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from components.cxr.film_check import FilmCheck
    from components.cxr.model.batch import Study
    from components.cxr.report import Report
    from components.cxr.shards import LoadedManifest
    from components.cxr.storage.storage import Root, Storage
    from components.serve.golden import RunningServer
    from components.serve.predictor import StudyPredictor

__all__ = ["browser", "dicom", "open_page", "page"]

MIB = 1 << 20
SERVER_LIMITS = {"max_file_bytes": MIB, "max_request_bytes": 2 * MIB, "max_files": 3}


class World(NamedTuple):
    """What evaluation leaves."""

    root: Root
    manifest: LoadedManifest
    bundle: Storage
    evaluation: Storage
    report: Report

    def decide(self, **changes: Any) -> None:
        """Write a decision that promotes the model over nothing, with some fields changed."""
        from components.cxr.decision import Decision, write_decision

        values: dict[str, Any] = {
            "promoted": True,
            "verdict": "first",
            "policy": "superior",
            "reason": "nothing is deployed yet.",
            "challenger_bundle": self.report.bundle_hash,
            "champion_bundle": None,
            "difference": None,
            "difference_ci": None,
        }
        write_decision(self.evaluation, Decision(**values | changes))


@pytest.fixture(scope="session")
def evaluated(tiny_data: LoadedManifest, fitted_bundle: Storage, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A bundle, and the operating points and the report of its real evaluation, not to be written to."""
    return evaluate_bundle(tmp_path_factory.mktemp("evaluated"), tiny_data, fitted_bundle)


@pytest.fixture
def world(evaluated: World, tmp_path: Path) -> World:
    """A root of the test's own, where that model was promoted."""
    from components.cxr.storage.storage import Root

    root = Root(tmp_path / "root")
    own = World(root, evaluated.manifest, root.bundle("tiny"), root.evaluation("tiny"), evaluated.report)
    own.bundle.upload_folder(Path(evaluated.bundle.uri))
    own.evaluation.upload_folder(Path(evaluated.evaluation.uri))
    return own


@pytest.fixture(scope="session")
def predictor(evaluated: World) -> StudyPredictor:
    from components.serve.predictor import StudyPredictor

    return StudyPredictor(evaluated.bundle, evaluated.evaluation)


@pytest.fixture
def client(predictor: StudyPredictor) -> Iterator[TestClient]:
    """The application in this process."""
    from starlette.testclient import TestClient

    from components.serve.app import create_app
    from components.serve.config import ServeConfig

    with TestClient(create_app(predictor, ServeConfig())) as client:
        yield client


@pytest.fixture(scope="session")
def server(evaluated: World) -> Iterator[RunningServer]:
    """A real server process with small limits."""
    from components.serve.config import ServeConfig
    from components.serve.golden import running_server

    with running_server(ServeConfig(**SERVER_LIMITS), evaluated.bundle, evaluated.evaluation) as server:
        yield server
    assert server.process.returncode == 0, server.log


@pytest.fixture
def checked(world: World, film_check: FilmCheck) -> World:
    """A root of the test's own, whose evaluation left a check of films."""
    from components.cxr.bundle_info import describe
    from components.cxr.film_check import FILM_CHECK
    from components.cxr.seal import write_seal

    world.evaluation.write(FILM_CHECK, film_check.save())
    write_seal(world.evaluation, describe(world.bundle).files)
    return world


@pytest.fixture(scope="session")
def study(evaluated: World) -> Study:
    """The first test study that has two films, a text, age and sex."""
    from components.cxr.model.dataset import StudyDataset
    from components.cxr.text.text import TextConfig

    studies = StudyDataset(evaluated.manifest, splits=["test"], text=TextConfig())
    found = (studies[i] for i in range(len(studies)))
    return next(s for s in found if len(s.films) == 2 and s.text and s.age_years is not None and s.sex)


@pytest.fixture(scope="session")
def png() -> bytes:
    """A film that is not the model's size."""
    return _png()


@pytest.fixture(scope="session")
def make_png() -> Callable[..., bytes]:
    return _png


def _png(height: int = 60, width: int = 48, *, extension: str = ".png") -> bytes:
    rows, columns = np.mgrid[:height, :width]
    written, data = cv2.imencode(extension, ((rows * 3 + columns * 2) % 251).astype(np.uint8))
    assert written
    return io.BytesIO(data.tobytes()).getvalue()


def evaluate_bundle(folder: Path, data: LoadedManifest, bundle: Storage) -> World:
    from components.cxr.bundle_info import describe
    from components.cxr.operating_points import MODEL_CARD, write_operating_points
    from components.cxr.report import write_predictions, write_report
    from components.cxr.seal import write_seal
    from components.cxr.self_check import write_self_check
    from components.cxr.storage.storage import Root
    from components.evaluate.config import EvaluateConfig
    from components.evaluate.predict import predict
    from components.evaluate.score import score
    from components.evaluate.self_check import self_check

    root = Root(folder)
    own = root.bundle("tiny")
    own.upload_folder(Path(bundle.uri))
    config, model = EvaluateConfig(num_bootstrap=100), describe(own)
    predictions = predict(config, storage=root.predictions("tiny"), bundle=own, model=model, manifest=data)
    found = score(config, model, predictions, manifest_hash=data.hash, run_id=None)
    world = World(root, data, own, root.evaluation("tiny"), found.report)
    write_predictions(world.evaluation, found.predictions)
    write_operating_points(world.evaluation, found.points)
    world.evaluation.write(MODEL_CARD, b"# The card of this evaluation")
    write_self_check(world.evaluation, self_check(config, predictions=root.predictions("tiny"), bundle=own))
    write_seal(world.evaluation, model.files)
    write_report(world.evaluation, found.report)
    world.decide()
    return world
