"""A bundle of several models is evaluated and served as one: the mean of their logits, by either engine."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from starlette.testclient import TestClient

from components.cxr.bundle import load_bundle, save_bundle
from components.cxr.bundle_info import describe
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.predictor import predict
from components.cxr.operating_points import load_operating_points
from components.cxr.report import CONDITIONS
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Storage, open_storage
from components.serve.app import create_app
from components.serve.config import ServeConfig
from components.serve.onnx_encoder import OnnxEncoder
from components.serve.predictor import StudyPredictor
from components.serve.self_check import check_self
from tests.components.serve.conftest import World, evaluate_bundle


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRFLOW_CACHE", str(tmp_path_factory.getbasetemp() / "onnx"))


@pytest.fixture(scope="module")
def both(
    tiny_data: LoadedManifest,
    fitted_bundle: Storage,
    untrained_bundle: Storage,
    tmp_path_factory: pytest.TempPathFactory,
) -> World:
    """One that finds the blobs and one that guesses."""
    first, second, storage = (
        load_bundle(fitted_bundle),
        load_bundle(untrained_bundle),
        open_storage(tmp_path_factory.mktemp("both")),
    )
    info = first.info.model_copy(update={"num_models": 2, "num_parameters": 2 * first.info.num_parameters})
    seen = describe(fitted_bundle).trained_on
    models = [first.model, second.model]
    save_bundle(storage, info=info, models=models, tokenizer=first.tokenizer, trained_on=seen)
    return evaluate_bundle(tmp_path_factory.mktemp("evaluated"), tiny_data, storage)


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_the_server_answers_with_the_mean_of_the_models(
    both: World, fitted_bundle: Storage, untrained_bundle: Storage, engine: Literal["torch", "onnx"]
) -> None:
    served = StudyPredictor(both.bundle, both.evaluation, engine=engine)
    onnx = [isinstance(model.get_submodule("vision"), OnnxEncoder) for model in served.bundle.models]
    assert onnx == [engine == "onnx"] * 2
    studies = list(StudyDataset(both.manifest, splits=["test"], text=served.bundle.info.text))
    for condition in CONDITIONS:
        alone = [predict(load_bundle(each), studies, condition=condition) for each in (fitted_bundle, untrained_bundle)]
        assert np.abs(alone[0].score_SP - alone[1].score_SP).max() > 0.1
        found = predict(served.bundle, studies, condition=condition).score_SP
        np.testing.assert_allclose(found, (alone[0].score_SP + alone[1].score_SP) / 2, atol=1e-4)
    assert "evaluation's" in check_self(served, tolerance=1e-5), "the scores by which thresholds were found"


def test_a_reader_is_told_how_many_models_answer(both: World) -> None:
    from components.evaluate.model_card import model_card

    model, points = describe(both.bundle), load_operating_points(both.evaluation, bundle_hash=both.report.bundle_hash)
    card = model_card(model, both.report, points, manifest=both.manifest.manifest, check=None)
    said = f"{model.info.num_parameters:,} parameters in 2 models, the mean of whose logits is the answer"
    assert said in card
    with TestClient(create_app(StudyPredictor(both.bundle, both.evaluation), ServeConfig())) as client:
        told = client.get("/v1/model").json()
    assert (told["num_models"], told["num_parameters"]) == (2, model.info.num_parameters)
