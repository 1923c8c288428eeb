"""The film encoder in ONNX Runtime: it answers as PyTorch does, is made once per machine, never used if it differs."""

from __future__ import annotations

import copy
import importlib.util

import httpx
import numpy as np
import pytest
import torch

from components.cxr.errors import UserError
from components.cxr.model.architecture import VisionConfig
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.predictor import predict
from components.cxr.model.vision import VisionEncoder
from components.cxr.report import CONDITIONS
from components.serve import onnx_encoder
from components.serve.config import ServeConfig
from components.serve.golden import running_server
from components.serve.onnx_encoder import OnnxEncoder
from components.serve.predictor import StudyPredictor
from components.serve.self_check import check_self
from tests.components.cxr.model.vision_types import TINY
from tests.components.serve.conftest import World


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for this file's tests, which share the export of the evaluated bundle."""
    monkeypatch.setenv("CXRFLOW_CACHE", str(tmp_path_factory.getbasetemp() / "onnx"))


def encoder(model_type: str = "resnet", *, seed: int = 0) -> VisionEncoder:
    torch.manual_seed(seed)
    return VisionEncoder(VisionConfig(model_type=model_type, config={"num_channels": 1, **TINY[model_type]})).eval()


def side(model_type: str) -> int:
    return int(TINY[model_type].get("image_size", 64))


@pytest.fixture
def with_onnx(evaluated: World) -> StudyPredictor:
    return StudyPredictor(evaluated.bundle, evaluated.evaluation, engine="onnx")


def test_every_study_is_answered_as_by_torch(
    evaluated: World, with_onnx: StudyPredictor, predictor: StudyPredictor
) -> None:
    assert isinstance(with_onnx.bundle.model.get_submodule("vision"), OnnxEncoder)
    studies = list(StudyDataset(evaluated.manifest, splits=["test"], text=predictor.bundle.info.text))
    assert sum(bool(study.films) for study in studies) > 20
    for condition in CONDITIONS:
        ours, theirs = (predict(each.bundle, studies, condition=condition) for each in (with_onnx, predictor))
        np.testing.assert_allclose(ours.score_SP, theirs.score_SP, atol=1e-4, rtol=0)
        np.testing.assert_allclose(ours.uncertain_SP, theirs.uncertain_SP, atol=1e-5, rtol=0)
    assert "evaluation's" in check_self(with_onnx, tolerance=1e-5)


def test_a_machine_exports_an_encoder_once(monkeypatch: pytest.MonkeyPatch) -> None:
    exported = []
    export = onnx_encoder._exported
    monkeypatch.setattr(onnx_encoder, "_exported", lambda *given: exported.append(1) or export(*given))
    vision = encoder()
    films_NHW = torch.randint(0, 256, (5, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        expected = vision(films_NHW)
    for _ in range(2):
        torch.testing.assert_close(OnnxEncoder(vision, size=64, key="a")(films_NHW), expected, atol=1e-5, rtol=1e-4)
    assert len(exported) == 1
    other = encoder(seed=1)
    with torch.inference_mode():
        expected = other(films_NHW)
    torch.testing.assert_close(OnnxEncoder(other, size=64, key="b")(films_NHW), expected, atol=1e-5, rtol=1e-4)
    assert len(exported) == 2


def test_an_export_that_answers_otherwise_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    vision = encoder()
    altered = copy.deepcopy(vision)
    with torch.no_grad():
        next(altered.parameters()).flatten()[0] += 0.01
    export = onnx_encoder._exported
    monkeypatch.setattr(onnx_encoder, "_exported", lambda _, size: export(altered, size))
    with pytest.raises(UserError, match=r"answers otherwise.*a difference of .*Set serve\.engine to torch") as caught:
        OnnxEncoder(vision, size=64, key="altered")
    assert caught.value.code == "no-onnx"


def test_what_cannot_be_exported_or_run_is_one_error(evaluated: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"cannot be exported: serve\.engine; found ConversionError"):
        OnnxEncoder(encoder("swin"), size=side("swin"), key="swin")
    with pytest.raises(UserError, match=r"ONNX Runtime is for the CPU: serve\.engine; found meta"):
        StudyPredictor(evaluated.bundle, evaluated.evaluation, device="meta", engine="onnx")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else name)
    with pytest.raises(UserError, match=r"packages are not installed: serve\.engine; found onnxruntime\. pip install"):
        OnnxEncoder(encoder(), size=64, key="a")


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["convnextv2", "dinov2", "efficientnet", "siglip_vision_model", "vit"])
def test_encoders_of_all_kinds_can_be_exported(model_type: str) -> None:
    OnnxEncoder(encoder(model_type), size=side(model_type), key=model_type)  # which compares


@pytest.mark.slow
def test_a_server_with_it_answers_as_evaluation_did(evaluated: World, capfd: pytest.CaptureFixture[str]) -> None:
    with running_server(ServeConfig(engine="onnx"), evaluated.bundle, evaluated.evaluation) as server:
        assert httpx.get(f"{server.address}/readyz", trust_env=False).status_code == 200
        log = server.log.read_text()
    assert "on cpu by onnx" in log
    assert "answers to synthetic studies are evaluation's" in log
    assert "torchvision" not in log + "".join(capfd.readouterr())
