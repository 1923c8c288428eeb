"""The MLflow model answers as predictor.py does; loading it elsewhere is tested with the evaluation."""

from __future__ import annotations

import base64
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from components.cxr.bundle_info import Description, describe
from components.cxr.errors import UserError
from components.cxr.film_check import FILM_CHECK, FilmCheck
from components.cxr.films.pixels import encode_png
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.predictor import answer, condition_of, predict
from components.cxr.operating_points import (
    MODEL_CARD,
    OPERATING_POINTS,
    Calibration,
    OperatingPoint,
    OperatingPoints,
    write_operating_points,
)
from components.cxr.report import CONDITIONS
from components.cxr.seal import write_seal
from components.cxr.self_check import SelfCheck, write_self_check
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Storage, open_storage

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of MLflow's own import
    from components.cxr.tracking.mlflow_model import CxrflowModel, input_example, requirements, signature_of


class Context(NamedTuple):
    """What MLflow gives to load_context."""

    artifacts: dict[str, str]


@pytest.fixture(scope="module")
def model(fitted_bundle: Storage, tmp_path_factory: pytest.TempPathFactory) -> CxrflowModel:
    """With another calibration for every condition."""
    evaluation = open_storage(tmp_path_factory.mktemp("evaluation"))
    _seal(evaluation, describe(fitted_bundle))
    return _loaded(fitted_bundle, evaluation)


def _seal(evaluation: Storage, described: Description) -> None:
    points = {
        condition: dict.fromkeys(
            described.info.pathologies, OperatingPoint(threshold=0.5, calibration=Calibration(intercept=float(i)))
        )
        for i, condition in enumerate(CONDITIONS)
    }
    write_operating_points(evaluation, OperatingPoints(bundle_hash=described.hash, conditions=points))
    evaluation.write(MODEL_CARD, b"# Card")
    write_self_check(evaluation, SelfCheck(studies=()))
    write_seal(evaluation, described.files)


def _loaded(bundle: Storage, evaluation: Storage) -> CxrflowModel:
    model = CxrflowModel()
    model.load_context(Context({"bundle": bundle.uri, "evaluation": evaluation.uri}))
    return model


@pytest.mark.parametrize("name", [OPERATING_POINTS, "weights.safetensors"])
def test_what_is_loaded_is_what_was_sealed(fitted_bundle: Storage, tmp_path: Path, name: str) -> None:
    """A flipped byte of the bundle, or operating points that are as good as the sealed ones but others."""
    places = {place: open_storage(tmp_path / place) for place in ("bundle", "evaluation")}
    places["bundle"].upload_folder(Path(fitted_bundle.uri))
    evaluation = places["evaluation"]
    _seal(evaluation, describe(fitted_bundle))
    _loaded(**places)
    owner = evaluation if name == OPERATING_POINTS else places["bundle"]
    data = owner.read(name).data
    owner.write(
        name, data.replace(b"0.5", b"0.4", 1) if name == OPERATING_POINTS else data[:-1] + bytes([data[-1] ^ 1])
    )
    with pytest.raises(UserError, match=f"a file is not the one that was sealed: {owner.uri}/{name}"):
        _loaded(**places)


def test_rows_of_a_study_share_its_answer(model: CxrflowModel, tiny_data: LoadedManifest) -> None:
    """Two films, then a text alone, then one film without a name, in one table."""
    studies = StudyDataset(tiny_data, splits=["test"], text=model.bundle.info.text)
    pair = next(studies[s] for s in range(len(studies)) if len(studies[s].films) == 2 and studies[s].text)
    single = next(studies[s] for s in range(len(studies)) if len(studies[s].films) == 1)
    rows = [
        {
            **_film(film),
            "view_position": view,
            "study": "a",
            "text": pair.text,
            "age_years": pair.age_years,
            "sex": pair.sex,
        }
        for film, view in zip(pair.films, pair.view_positions, strict=True)
    ]
    rows.insert(1, {"text": "cough edema"})
    rows.append({**_film(single.films[0]), "view_position": None, "text": float("nan"), "sex": None})
    found = model.predict(None, pd.DataFrame(rows))
    assert list(found.columns) == [*tiny_data.manifest.pathologies, "in_distribution"]
    assert found.pop("in_distribution").tolist() == [None] * len(rows), "no check is beside this model"
    assert found.iloc[0].equals(found.iloc[2])
    logits = predict(model.bundle, [pair])
    expected = answer(model.bundle, logits, model.points, condition=condition_of(pair))
    assert found.iloc[0].to_dict() == pytest.approx({name: one.probability for name, one in expected.items()}, abs=1e-5)
    assert found.iloc[1].to_dict() != pytest.approx(found.iloc[3].to_dict(), abs=1e-3)


def test_a_film_that_is_no_chest_film_is_marked(
    fitted_bundle: Storage, chest_films: npt.NDArray[np.uint8], film_check: FilmCheck, tmp_path: Path
) -> None:
    evaluation = open_storage(tmp_path)
    described = describe(fitted_bundle)
    evaluation.write(FILM_CHECK, film_check.save())
    _seal(evaluation, described)
    chest = chest_films[film_check.score(chest_films).argmin()]
    rows = [
        {"film": encode_png(chest), "study": "a"},
        {"film": encode_png(chest), "study": "b"},
        {"film": encode_png(np.ascontiguousarray(255 - chest)), "study": "b"},
        {"text": "cough"},
    ]
    found = _loaded(fitted_bundle, evaluation).predict(None, pd.DataFrame(rows))
    assert found["in_distribution"].tolist() == [True, False, False, None]
    assert found[list(described.info.pathologies)].notna().all(axis=None)


def test_a_dicom_header_fills_in_what_is_not_given(model: CxrflowModel, dicom_bytes: Any) -> None:
    stored = np.random.default_rng(0).integers(0, 4096, size=(32, 32)).astype(np.uint16)
    tags = {"ViewPosition": "AP", "PatientAge": "063Y", "PatientSex": "F"}
    full = _encoded(dicom_bytes(stored, bits_stored=12, **tags))
    without = _encoded(dicom_bytes(stored, bits_stored=12))
    given = {"view_position": "AP", "age_years": 63.0, "sex": "F"}
    found = model.predict(None, pd.DataFrame([{"film": full}, {"film": without, **given}, {"film": without}]))
    found = found.drop(columns="in_distribution")
    assert found.iloc[0].to_dict() == pytest.approx(found.iloc[1].to_dict(), abs=1e-6)
    assert found.iloc[0].to_dict() != pytest.approx(found.iloc[2].to_dict(), abs=1e-6)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"age_years": 60.0}, "neither film nor text: row 0"),
        (
            {"film": "not base64!"},
            "film cannot be read: row 0; expected bytes, base64 or the path of a file here",
        ),
        ({"text": "cough", "age_years": 131}, "bad age: row 0; expected 0 to 130 years, or nothing"),
        ({"text": "cough", "age_years": "old"}, "bad age: row 0; expected 0 to 130 years, or nothing"),
        (
            {"film": base64.b64encode(b"GIF89a").decode()},
            "film cannot be used: row 0; found neither DICOM, PNG nor JPEG",
        ),
        ({"text": "Doe, Jane has a cough", "sex": "female"}, "bad sex: row 0; expected F, M or nothing"),
    ],
)
def test_what_cannot_be_read_is_refused_without_its_content(
    model: CxrflowModel, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as error:
        model.predict(None, pd.DataFrame([row]))
    assert "Jane" not in str(error.value)


def test_a_film_comes_as_bytes_as_base64_or_as_a_path(model: CxrflowModel, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, size=(32, 32)).astype(np.uint8)
    file = tmp_path / "film.png"
    file.write_bytes(encode_png(pixels))
    forms = [file.read_bytes(), bytearray(file.read_bytes()), _encoded(file.read_bytes()), str(file), file]
    found = model.predict(None, pd.DataFrame({"film": forms, "view_position": ["PA", "pa", " Pa ", "PA", "PA"]}))
    for row in range(1, len(forms)):
        assert found.iloc[row].to_dict() == pytest.approx(found.iloc[0].to_dict(), abs=1e-6)


def test_a_server_takes_no_paths(model: CxrflowModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may ask it would otherwise read films of the server's disk."""
    file = tmp_path / "film.png"
    file.write_bytes(encode_png(np.zeros((32, 32), np.uint8)))
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
    with pytest.raises(UserError, match="film cannot be read: row 0; expected bytes or base64"):
        model.predict(None, pd.DataFrame([{"film": str(file)}]))


def test_a_bad_view_is_refused(model: CxrflowModel) -> None:
    row = {**_film(np.arange(1024, dtype=np.uint8).reshape(32, 32)), "view_position": "OBLIQUE"}
    with pytest.raises(UserError, match="bad view position: row 0; expected PA, AP"):
        model.predict(None, pd.DataFrame([row]))


def test_the_input_example_fits_signature_and_model(model: CxrflowModel) -> None:
    signature = signature_of(model.bundle.info.pathologies)
    assert set(input_example().columns) == set(signature.inputs.input_names())
    found = model.predict(None, input_example())
    assert list(found.columns) == signature.outputs.input_names()
    probabilities = found.drop(columns="in_distribution")
    assert ((probabilities > 0) & (probabilities < 1)).all(axis=None)


def test_requirements_name_versions_that_pip_can_find() -> None:
    for line in requirements():
        assert re.fullmatch(r"[a-z-]+==\d[\w.]*", line), line


def _film(pixels: np.ndarray) -> dict[str, str]:
    return {"film": _encoded(encode_png(np.ascontiguousarray(pixels)))}


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
