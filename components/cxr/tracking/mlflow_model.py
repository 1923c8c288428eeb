"""The bundle as an MLflow model (models from code): MLflow runs this file, registry.py logs it.

Input, a row per film (rows that share `study` are one study) or a row per study without films; a dict is one row. All
columns are optional: film (a DICOM, PNG or JPEG file as bytes, base64 or path), view_position (PA, AP, LATERAL or LL;
default the DICOM header's), study, text, age_years and sex (F or M; default the DICOM header's). Output: calibrated
probabilities, a float column per pathology, and `in_distribution`: false where a film of the study is no chest film, so
that its row is not to be used; None where nothing tells. A row per input row; rows of one study share their answer.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import dataclasses
import functools
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.environment_variables import _MLFLOW_IS_IN_SERVING_ENVIRONMENT
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc import PythonModel
from mlflow.types import ColSpec, Schema
from mlflow.types.schema import AnyType

from components.cxr.bundle import load_bundle
from components.cxr.errors import UserError
from components.cxr.film_check import in_distribution, load_film_check
from components.cxr.films.isolated import FilmReader
from components.cxr.films.pixels import Film, FilmError, encode_png
from components.cxr.model.batch import VIEW_INDEX, Study
from components.cxr.model.predictor import answer, condition_of, predict, shown
from components.cxr.operating_points import load_operating_points
from components.cxr.seal import check_files, load_seal
from components.cxr.storage.storage import open_storage
from components.cxr.text.text import request_text

__all__ = ["CxrflowModel", "input_example", "log_model", "requirements", "signature_of"]

COLUMNS = ("film", "view_position", "study", "text", "age_years", "sex")
"""Of any type to MLflow, which would refuse whole numbers as ages, and a column without a value."""

MAX_PATH = 4096
"""Characters of the longest path; a longer string is base64."""
MAX_AGE_YEARS = 130

SHOWN_TAGS = ("mlflow.user", "mlflow.source.name", "mlflow.source.type", "mlflow.source.git.commit")
"""Tags of the run that the model's page shows too."""

DISTRIBUTIONS = (
    "google-cloud-storage", "mlflow", "numpy", "opencv-python-headless", "pandas", "pyarrow", "pydantic", "pydicom",
    "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle", "python-gdcm", "pyyaml", "safetensors",
    "torch", "transformers",
)  # fmt: skip
"""What this file imports, directly or through the code it comes with."""


class CxrflowModel(PythonModel):  # type: ignore[misc]
    """Answers as the server does: same pixels, text, weights and operating points."""

    def load_context(self, context: Any) -> None:
        """Read the artifacts `bundle` and `evaluation` (operating points), each file as evaluate sealed it.

        Raises:
            UserError: the first file that is missing, was changed, or was added to the bundle.
        """
        self.reader = FilmReader()
        bundle, evaluation = (open_storage(context.artifacts[name]) for name in ("bundle", "evaluation"))
        check = functools.partial(check_files, load_seal(evaluation), bundle=bundle.uri, evaluation=evaluation)
        self.bundle = load_bundle(bundle, check=check)
        pathologies = self.bundle.info.pathologies
        self.points = load_operating_points(evaluation, bundle_hash=self.bundle.hash, pathologies=pathologies)
        self.film_check = load_film_check(evaluation)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Probabilities (rows x pathologies) in [0, 1], then the column in_distribution.

        Raises:
            UserError: a film that cannot be used, neither film nor text in a study, or a value that makes no sense.
        """
        del context, params
        frame = model_input.reset_index(drop=True)
        if frame.empty:
            return pd.DataFrame(columns=_columns(self.bundle.info.pathologies), dtype=float)
        groups = [str(name) if _given(name) else f"row {i}" for i, name in enumerate(_column(frame, "study"))]
        studies = {group: self._study(frame[np.asarray(groups) == group]) for group in dict.fromkeys(groups)}
        conditions = {group: condition_of(study) for group, study in studies.items()}
        logits = predict(self.bundle, [shown(study, conditions[group]) for group, study in studies.items()])
        answers: dict[str, list[float | bool | None]] = {}
        for row, group in enumerate(studies):
            found = answer(self.bundle, logits, self.points, condition=conditions[group], row=row)
            answers[group] = [pathology.probability for pathology in found.values()]
            answers[group] += [in_distribution(self.film_check, studies[group].films)]
        return pd.DataFrame([answers[group] for group in groups], columns=_columns(self.bundle.info.pathologies))

    def _study(self, rows: pd.DataFrame) -> Study:
        cells = zip(rows.index, _column(rows, "film"), _column(rows, "view_position"), strict=True)
        films = [self._film(film, view=view, row=row) for row, film, view in cells if _given(film)]
        info = self.bundle.info
        text = request_text(_first(rows, "text") or "", config=info.text, reader=info.section_reader)
        if not films and not text:
            raise UserError(
                "nothing-to-read",
                "neither film nor text",
                where=f"row {rows.index[0]}",
                remedy="Give at least one of them.",
            )
        where = f"row {rows.index[0]}"
        age, sex = _age(_first(rows, "age_years"), where=where), _first(rows, "sex")
        sex = None if sex is None else str(sex).strip().upper() or None
        if sex not in (None, "F", "M"):
            raise UserError("bad-sex", "bad sex", where=where, expected="F, M or nothing")
        return Study(
            films=[film.pixels for film in films],
            view_positions=[film.view_position for film in films],
            text=text,
            age_years=next((f.age_years for f in films if f.age_years is not None), None) if age is None else age,
            sex=next((f.sex for f in films if f.sex is not None), None) if sex is None else sex,
        )

    def _film(self, value: Any, *, view: Any, row: int) -> Film:
        try:
            film = self.reader.read(_bytes(value, row=row), preset=self.bundle.info.pixel_preset)
        except FilmError as error:
            raise UserError("unusable-film", "film cannot be used", where=f"row {row}", found=error.reason) from None
        named = str(view).strip().upper() if _given(view) else ""
        if named and named not in VIEW_INDEX:
            expected = f"{', '.join(VIEW_INDEX)} or nothing"
            raise UserError("bad-view-position", "bad view position", where=f"row {row}", expected=expected)
        return dataclasses.replace(film, view_position=named) if named else film


def signature_of(pathologies: Sequence[str]) -> ModelSignature:
    """Columns in and out."""
    inputs = Schema([ColSpec(AnyType(), name, required=False) for name in COLUMNS])
    *probabilities, chest_films = _columns(pathologies)
    outputs = [ColSpec("double", name) for name in probabilities]
    return ModelSignature(inputs=inputs, outputs=Schema([*outputs, ColSpec("boolean", chest_films, required=False)]))


def input_example() -> pd.DataFrame:
    """One study of one film that shows a gradient, and a text."""
    film = base64.b64encode(encode_png(np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1)))).decode()
    values = {
        "film": film,
        "view_position": "PA",
        "study": "1",
        "text": "cough and fever",
        "age_years": 63,
        "sex": "F",
    }
    return pd.DataFrame([values])


def requirements() -> list[str]:
    """The versions of this machine as pip requirements, without a wheel's local suffix."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in DISTRIBUTIONS]


def log_model(
    client: MlflowClient,
    run_id: str,
    *,
    name: str,
    artifacts: Mapping[str, Path],
    pathologies: Sequence[str],
    params: Mapping[str, str],
) -> str:
    """Log this file with a bundle and the package's source as a model of the run; returns the model's URI.

    Args:
        name: of the model.
        artifacts: folders on this machine: `bundle`, and `evaluation` with its operating points.
    """
    source = Path(__file__)
    run = client.get_run(run_id)
    made_by = {tag: value for tag, value in run.data.tags.items() if tag in SHOWN_TAGS}
    logged = client.create_logged_model(
        run.info.experiment_id,
        name=name,
        source_run_id=run_id,
        params=dict(params),
        tags=made_by,
        model_type="classifier",
    )
    with tempfile.TemporaryDirectory() as temporary:
        mlflow.pyfunc.save_model(
            path=f"{temporary}/model",
            mlflow_model=Model(logged.artifact_location, run_id=run_id, model_id=logged.model_id),
            python_model=str(source),
            artifacts={name: str(folder) for name, folder in artifacts.items()},
            code_paths=[str(source.parents[2])],
            signature=signature_of(pathologies),
            input_example=input_example(),
            pip_requirements=requirements(),
        )
        client.log_model_artifacts(logged.model_id, f"{temporary}/model")
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    client.log_outputs(run_id, models=[LoggedModelOutput(logged.model_id, step=0)])
    return str(logged.model_uri)


def _bytes(value: Any, *, row: int) -> bytes:
    """A film's file from bytes, base64, or a path on this machine.

    MLflow's scoring server takes no paths: whoever may ask would read the server's files.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    text, served = str(value), _MLFLOW_IS_IN_SERVING_ENVIRONMENT.get()
    with contextlib.suppress(OSError, ValueError):  # base64 is no path: too long a name
        if not served and len(text) <= MAX_PATH and Path(text).is_file():
            return Path(text).read_bytes()
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        expected = "bytes or base64" if served else "bytes, base64 or the path of a file here"
        raise UserError("bad-film", "film cannot be read", where=f"row {row}", expected=expected) from None


def _age(value: Any, *, where: str) -> float | None:
    if value is None:
        return None
    with contextlib.suppress(TypeError, ValueError):
        if 0 <= (age := float(value)) <= MAX_AGE_YEARS:
            return age
    raise UserError("bad-age", "bad age", where=where, expected=f"0 to {MAX_AGE_YEARS} years, or nothing")


def _columns(pathologies: Iterable[str]) -> list[str]:
    """Of the answer."""
    return [*pathologies, "in_distribution"]


def _column(frame: pd.DataFrame, name: str) -> list[Any]:
    return frame[name].tolist() if name in frame else [None] * len(frame)


def _given(value: Any) -> bool:
    return value is not None and value is not pd.NA and value == value and value != ""


def _first(rows: pd.DataFrame, name: str) -> Any:
    return next((value for value in _column(rows, name) if _given(value)), None)


mlflow.models.set_model(CxrflowModel())
