"""Rows of the table that `predict` writes, in this process or several; each has the server's own predictor."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import cv2
import pyarrow as pa
import torch

from components.cxr.errors import UserError
from components.cxr.film_check import are_chest_films, is_chest_film
from components.cxr.processes import processes
from components.cxr.storage.storage import DamagedFileError, open_storage
from components.cxr.text.text import decode_report
from components.serve.config import ServeConfig
from components.serve.errors import RequestError
from components.serve.fields import study_form
from components.serve.other_pictures import NO_CHEST_FILM, to_leave_out
from components.serve.predictor import Prediction, StudyPredictor
from components.serve.seen import cautions, overall
from components.serve.self_check import check_self
from components.serve.studies import FilmFiles, StudyFiles
from components.serve.told import Told

__all__ = ["Model", "predicted_parts", "predictions_schema"]

_AHEAD = 2
"""Parts per process that wait or are done and not yet taken."""


class Model(NamedTuple):
    """What answers, before it is loaded, so that it can travel to another process."""

    bundle: str
    evaluation: str | None
    """Folder of the operating points; None where they lie beside the bundle."""
    seal: str | None
    version: str | None
    """In MLflow's registry."""

    def load(self, config: ServeConfig) -> StudyPredictor:
        """The model in this process, once it answers synthetic studies as evaluation did."""
        beside = None if self.evaluation is None else open_storage(self.evaluation)
        predictor = StudyPredictor.of(config, open_storage(self.bundle), beside, seal=self.seal)
        check_self(predictor, tolerance=config.golden_tolerance)
        return predictor


def predictions_schema(pathologies: Sequence[str]) -> pa.Schema:
    """The table's columns; docs/serving.md says what each holds."""
    fields = [
        pa.field("study", pa.string(), nullable=False),
        pa.field("films", pa.list_(pa.string()), nullable=False),
        pa.field("left_out", pa.list_(pa.string()), nullable=False),
        pa.field("left_out_reasons", pa.list_(pa.string()), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("condition", pa.string()),
        pa.field("overall", pa.string()),
        pa.field("in_distribution", pa.bool_()),
        pa.field("warnings", pa.list_(pa.string())),
    ]
    for kind, dtype in (("probability", pa.float64()), ("uncertain", pa.float64()), ("state", pa.int8())):
        fields += [pa.field(f"{kind}/{name}", dtype) for name in pathologies]
    return pa.schema(fields)


class _Spec(NamedTuple):
    config: ServeConfig
    model: Model
    open_files: Callable[[], FilmFiles]
    told: Mapping[str, Told]


class _Answerer:
    """What one process answers with."""

    def __init__(self, spec: _Spec) -> None:
        torch.set_num_threads(spec.config.threads)
        cv2.setNumThreads(spec.config.threads)
        self.config, self.model, self.files, self.told = spec.config, spec.model, spec.open_files(), spec.told
        self.predictor = spec.model.load(spec.config)
        self.schema = predictions_schema(self.predictor.bundle.info.pathologies).with_metadata(
            {
                "bundle_hash": self.predictor.bundle.hash,
                "operating_points_hash": self.predictor.points.hash,
                "model_version": spec.model.version or "",
            }
        )

    def part(self, studies: Sequence[StudyFiles]) -> pa.Table:
        """The rows of some studies."""
        return pa.Table.from_pylist([self._row(study) for study in studies], schema=self.schema)

    def _row(self, study: StudyFiles) -> dict[str, Any]:
        row: dict[str, Any] = {"study": study.name}
        if study.reason is not None:
            return row | {"films": [], "left_out": [], "left_out_reasons": [], "reason": study.reason}
        left_out: dict[str, str] = {}
        films: dict[str, bytes] = {}
        for name in study.films:
            try:
                films[name] = self._read(name)
            except RequestError as error:
                left_out[name] = error.code
        try:
            told = self.told.get(study.name, Told())
            if not told.text and study.text is not None:
                told = told._replace(text=decode_report(self._read(study.text)))
            row |= self._answer(films, left_out, told)
        except RequestError as error:
            row["reason"] = error.code
        return row | {
            "films": list(films),
            "left_out": list(left_out),
            "left_out_reasons": list(left_out.values()),
        }

    def _answer(self, films: dict[str, bytes], left_out: dict[str, str], told: Told) -> dict[str, Any]:
        """The answer to the films that can be used; those that cannot move to `left_out`."""
        if len(films) > self.config.max_files:
            self._leave_out(films, left_out)
        while True:
            if not films and left_out:
                raise RequestError(422, "no-usable-film", "No film can be used.")
            values = {name: [value] for name, value in told._asdict().items()}
            form = study_form(list(films.values()), values, self.config)
            try:
                read = self.predictor.read(form.files, text=form.text, age_years=form.age_years, sex=form.sex)
            except RequestError as error:
                if error.film is None:
                    raise
                _move([error.film - 1], error.code, films, left_out)
                continue
            if others := to_leave_out([is_chest_film(score) for score in read.foreign or ()]):
                _move(others, NO_CHEST_FILM, films, left_out)
                continue
            found = self.predictor.answer([read])[0]
            return self._columns(found) | {"warnings": [c.code for c in cautions(form, found, self.predictor)]}

    def _leave_out(self, films: dict[str, bytes], left_out: dict[str, str]) -> None:
        """Read each film alone, so that those that cannot be used are not counted."""
        for name, data in list(films.items()):
            try:
                read = self.predictor.read([data])
            except RequestError as error:
                reason: str | None = error.code
            else:
                reason = NO_CHEST_FILM if are_chest_films(read.foreign or ()) is False else None
            if reason is not None:
                left_out[name] = reason
                del films[name]

    def _columns(self, found: Prediction) -> dict[str, Any]:
        said = overall(found.answers, in_distribution=found.in_distribution)
        columns: dict[str, Any] = {"condition": found.condition, "overall": said}
        columns["in_distribution"] = found.in_distribution
        for name, answer in found.answers.items():
            columns |= {
                f"probability/{name}": answer.probability,
                f"uncertain/{name}": answer.uncertain,
                f"state/{name}": answer.state,
            }
        return columns

    def _read(self, name: str) -> bytes:
        try:
            path = self.files.local_path(name)
            if path is not None and path.stat().st_size > self.config.max_file_bytes:
                raise RequestError(413, "film-too-large", "The film is too large.")
            data = self.files.read(name).data
        except FileNotFoundError:
            raise RequestError(422, "film-vanished", "The film was found and is there no more.") from None
        except DamagedFileError:
            raise RequestError(
                422, "film-damaged", "The film's bytes are damaged in its archive, or its PACS does not give them."
            ) from None
        except (IsADirectoryError, PermissionError):
            raise RequestError(422, "film-unreadable", "The film cannot be read.") from None
        except OSError as error:
            remedy = "Check the disk or the mount and run the same command again; what is finished is kept."
            raise UserError(
                "unreadable-films", "cannot read films", where=self.files.uri, found=error.strerror, remedy=remedy
            ) from None
        if len(data) > self.config.max_file_bytes:
            raise RequestError(413, "film-too-large", "The film is too large.")
        return data


def _move(places: Sequence[int], reason: str, films: dict[str, bytes], left_out: dict[str, str]) -> None:
    """Films by their places, from 0, go to those left out."""
    for name in [name for place, name in enumerate(films) if place in places]:
        left_out[name] = reason
        del films[name]


_spec: _Spec | None = None
_answerer: _Answerer | None = None


def _set_spec(spec: _Spec) -> None:
    global _spec
    _spec = spec


def _part(studies: Sequence[StudyFiles]) -> pa.Table:
    global _answerer
    if _answerer is None:  # not in _set_spec, whose errors the parent would not see
        assert _spec is not None
        _answerer = _Answerer(_spec)
    return _answerer.part(studies)


def predicted_parts(
    parts: Sequence[tuple[int, Sequence[StudyFiles]]],
    *,
    config: ServeConfig,
    model: Model,
    open_files: Callable[[], FilmFiles],
    num_processes: int,
    told: Mapping[str, Told],
) -> Generator[tuple[int, pa.Table], None, None]:
    """Each part's number and its rows, in order.

    Args:
        open_files: opens where the studies' files are, in each process.
        num_processes: with 1, this process answers.
        told: what is known of studies beside their films, by name.

    Raises:
        UserError: no usable model, a folder or PACS that cannot be read, or a process that was killed.
    """
    if not parts:
        return
    spec = _Spec(config, model, open_files, told)
    if num_processes == 1:
        answerer = _Answerer(spec)
        with answerer.predictor.reader:
            yield from ((i, answerer.part(studies)) for i, studies in parts)
        return
    window: deque[tuple[int, Future[pa.Table]]] = deque()
    with processes(num_processes, _set_spec, spec, where="predict", option="--processes") as pool:
        for i, studies in parts:
            window.append((i, pool.submit(_part, studies)))
            if len(window) >= _AHEAD * num_processes:
                first, future = window.popleft()
                yield first, future.result()
        while window:
            first, future = window.popleft()
            yield first, future.result()
