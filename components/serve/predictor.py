"""From a request's raw parts to the answer, with evaluation's own pixels, text and weights."""

from __future__ import annotations

import copy
import itertools
import math
import threading
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Self

import numpy as np
import torch
from torch.nn.utils import convert_conv2d_weight_memory_format

from components.cxr.bundle import load_bundle
from components.cxr.errors import UserError
from components.cxr.film_check import are_chest_films, is_chest_film, load_film_check
from components.cxr.films.isolated import FilmReader
from components.cxr.films.limits import DecodeLimits
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.films.pixels import Film, FilmError, encode_png
from components.cxr.model.batch import VIEW_INDEX, Study
from components.cxr.model.device import pick_device
from components.cxr.model.heatmaps import has_heatmaps, heatmaps
from components.cxr.model.predictor import Answer, answer, condition_of, predict, shown
from components.cxr.operating_points import MODEL_CARD, load_operating_points
from components.cxr.report import Condition
from components.cxr.seal import check_files, load_seal
from components.cxr.self_check import SELF_CHECK, load_self_check
from components.cxr.storage.storage import Storage
from components.cxr.text.text import request_text
from components.serve.config import ServeConfig
from components.serve.copies import seal_of_copy
from components.serve.errors import RequestError
from components.serve.heatmap import Heatmap, spread_over
from components.serve.metrics import load_metrics
from components.serve.onnx_encoder import OnnxEncoder
from components.serve.signature import check_signature

__all__ = ["MAX_AGE_YEARS", "Prediction", "ReadStudy", "StudyPredictor"]

MAX_AGE_YEARS = 130


class Prediction(NamedTuple):
    """The answer for one study."""

    answers: dict[str, Answer]
    """By pathology."""
    condition: Condition
    """The one that was evaluated and is nearest to what was given; its operating points were used."""
    study: Study
    """What the model saw."""
    films: tuple[Film, ...] = ()
    """Its films with what their headers say."""
    foreign: tuple[float, ...] | None = None
    """By film, how much it looks unlike a chest film (`FilmCheck.score`). None without a check."""

    @property
    def in_distribution(self) -> bool | None:
        """Whether every film is taken for a chest film; None where nothing tells."""
        return are_chest_films(self.foreign or ())


class ReadStudy(NamedTuple):
    """A study before the model."""

    study: Study
    films: tuple[Film, ...] = ()
    """Its films with what their headers say."""
    foreign: tuple[float, ...] | None = None
    """As Prediction's."""


class StudyPredictor:
    """One bundle with the operating points of one evaluation, loaded once.

    Args:
        storage: the bundle's folder.
        evaluation: folder of the operating points; the bundle's own when it is None, as deploy copies them there.
        seal: hash of the seal beside them, by the deployment; None for any.
        public_key: whose signature of the seal there must be; None for none.
        limits: what a film may cost.
        device: where the model answers.
        engine: what runs the film encoder; `onnx` on the CPU alone.

    Raises:
        UserError: no bundle, no operating points or those of another model here, a file that is not as it was sealed,
            an encoder that cannot be exported to ONNX, or a model that does not answer.
    """

    @classmethod
    def of(
        cls, config: ServeConfig, storage: Storage, evaluation: Storage | None = None, *, seal: str | None = None
    ) -> Self:
        """As a configuration has it.

        Raises:
            UserError: as the class, or no such device here.
        """
        return cls(
            storage,
            evaluation,
            seal=seal,
            public_key=config.public_key,
            limits=config.limits,
            device=pick_device(config.device, where="serve.device"),
            engine=config.engine,
        )

    def __init__(
        self,
        storage: Storage,
        evaluation: Storage | None = None,
        *,
        seal: str | None = None,
        public_key: str | None = None,
        limits: DecodeLimits | None = None,
        device: torch.device | str = "cpu",
        engine: Literal["torch", "onnx"] = "torch",
    ) -> None:
        self.reader = FilmReader(limits)
        self.device = torch.device(device)
        beside = evaluation or storage
        found = load_seal(beside, expected=seal)

        def check(files: Mapping[str, str]) -> None:
            check_files(found, files, bundle=storage.uri, evaluation=beside)
            if public_key is not None:
                check_signature(seal_of_copy(files, beside), beside, public_key=public_key)

        self.bundle = load_bundle(storage, check=check)
        self.own_tokenizer = copy.deepcopy(self.bundle.tokenizer)
        """For other threads than the model's: a tokenizer keeps the truncation of its last call."""
        size = self.bundle.info.pixel_preset.size
        if engine == "onnx":
            if self.device.type != "cpu":
                remedy = "Set serve.device to cpu, or serve.engine to torch."
                raise UserError(
                    "no-onnx", "ONNX Runtime is for the CPU", where="serve.engine", found=self.device, remedy=remedy
                )
            for number, model in enumerate(self.bundle.models):
                key = f"{self.bundle.hash} {number}"
                model.set_submodule("vision", OnnxEncoder(model.vision, size=size, key=key))
        else:
            # A convolution on the CPU takes .77 to .99 of the time so; values differ by some 1e-6 of the largest.
            for model in self.bundle.models:
                convert_conv2d_weight_memory_format(model.vision, torch.channels_last)
        pathologies = self.bundle.info.pathologies
        self.points = load_operating_points(beside, bundle_hash=self.bundle.hash, pathologies=pathologies)
        self.film_check = load_film_check(beside)
        self._lock = threading.Lock()
        self.metrics = load_metrics(beside, self.points)
        self.model_card = beside.read(MODEL_CARD).data.decode()
        self.self_check = load_self_check(beside) if SELF_CHECK in found.files else None
        blank = Study(
            films=[np.zeros((size, size), np.uint8)], view_positions=[None], text="", age_years=None, sex=None
        )
        if not all(math.isfinite(found.probability) for found in self.answer([ReadStudy(blank)])[0].answers.values()):
            raise UserError("model-answers-nan", "model answers with NaN", where=storage.uri, remedy="Train again.")

    def predict(
        self,
        files: Sequence[bytes],
        *,
        text: str = "",
        age_years: float | None = None,
        sex: str | None = None,
        view_positions: Sequence[str | None] | None = None,
    ) -> Prediction:
        """Answer for one study.

        Args:
            files: DICOM, PNG or JPEG, in any number.
            text: indication or whole report, of which only the model's sections are read.
            age_years: in [0, 130]; None takes the first DICOM header's.
            sex: F or M; None takes the first DICOM header's.
            view_positions: by film PA, AP, LATERAL or LL; None, as a whole or for a film, takes the DICOM header's.

        Raises:
            RequestError: neither film nor text to read, an unusable film, or a value that makes no sense.
        """
        read = self.read(files, text=text, age_years=age_years, sex=sex, view_positions=view_positions)
        return self.answer([read])[0]

    def read(
        self,
        files: Sequence[bytes],
        *,
        text: str = "",
        age_years: float | None = None,
        sex: str | None = None,
        view_positions: Sequence[str | None] | None = None,
    ) -> ReadStudy:
        """The first half of predict, without the model."""
        views = _checked_views(view_positions, num_films=len(files))
        if age_years is not None and not 0 <= age_years <= MAX_AGE_YEARS:  # False for NaN too
            raise RequestError(422, "bad-age", f"The age must be between 0 and {MAX_AGE_YEARS} years.")
        if sex not in (None, "F", "M"):
            raise RequestError(422, "bad-sex", "The sex must be F or M.", remedy="Leave it out when it is unknown.")
        info = self.bundle.info
        read = request_text(text, config=info.text, reader=info.section_reader)
        if not files and not read:
            raise self._nothing_to_read(given=bool(text.strip()))
        films = [self._film(data, position=i, num_films=len(files)) for i, data in enumerate(files, start=1)]
        if age_years is None:
            age_years = next((film.age_years for film in films if film.age_years is not None), None)
        study = Study(
            films=[film.pixels for film in films],
            view_positions=[view or film.view_position for view, film in zip(views, films, strict=True)],
            text=read,
            age_years=age_years,
            sex=sex or next((film.sex for film in films if film.sex is not None), None),
        )
        check = self.film_check
        foreign = None if check is None else tuple(check.score(study.films).tolist())
        return ReadStudy(study, tuple(films), foreign)

    def answer(self, studies: Sequence[ReadStudy]) -> list[Prediction]:
        """The second half of predict, for all studies in one pass of the model.

        A study's answer is the one that it gets alone, beyond float32 rounding.
        """
        conditions = [condition_of(read.study) for read in studies]
        seen = [shown(read.study, condition) for read, condition in zip(studies, conditions, strict=True)]
        with self._lock:
            logits = predict(self.bundle, seen, batch_size=max(1, len(seen)), device=self.device)
        return [
            Prediction(
                answer(self.bundle, logits, self.points, condition=condition, row=row),
                condition,
                seen[row],
                read.films,
                read.foreign,
            )
            for row, (read, condition) in enumerate(zip(studies, conditions, strict=True))
        ]

    def render(self, file: bytes, *, size: int | None = None) -> bytes:
        """A film as the server reads it, as a gray PNG.

        Args:
            size: side in pixels of the same reading with more or fewer of them; None for the model's very pixels.

        Raises:
            RequestError: an unusable film.
        """
        preset = self.bundle.info.pixel_preset
        if size is not None:
            preset = preset.model_copy(update={"size": size})
        return encode_png(self._film(file, position=1, num_films=1, preset=preset).pixels)

    def heatmaps(self, read: ReadStudy, pathologies: Sequence[str], *, size: int) -> tuple[Heatmap, ...]:
        """Where each film that is taken for a chest film speaks for pathologies or against them.

        Args:
            size: the longer side of a map in pixels.

        Raises:
            RequestError: no such pathology, or a model that has no heatmaps.
        """
        info, study = self.bundle.info, read.study
        if not pathologies:
            return ()
        if not has_heatmaps(self.bundle):
            message = "This model has no expert of patches, whose answer alone has places on a film."
            raise RequestError(422, "no-heatmaps", message)
        if any(name not in info.pathologies for name in pathologies):
            remedy = f"Known: {', '.join(info.pathologies)}."
            raise RequestError(422, "no-such-pathology", "The model does not know this pathology.", remedy=remedy)
        chest = [v for v in range(len(study.films)) if read.foreign is None or is_chest_film(read.foreign[v])]
        if not chest:
            return ()
        with self._lock:
            map_VPSS = heatmaps(self.bundle, study.films, study.view_positions, device=self.device)
        found = []
        for v, name in itertools.product(chest, pathologies):
            map_SS = map_VPSS[v, info.pathologies.index(name)]
            spread_HW = spread_over(map_SS, extent=read.films[v].extent, size=size)
            found.append(Heatmap(v + 1, name, spread_HW, float(map_SS.sum())))
        return tuple(found)

    def _film(self, data: bytes, *, position: int, num_films: int, preset: PixelPreset | None = None) -> Film:
        name = "The film" if num_films == 1 else f"Film {position} of {num_films}"
        if not data:
            raise RequestError(422, "film-empty", f"{name} is an empty file.", film=position)
        try:
            return self.reader.read(data, preset=preset or self.bundle.info.pixel_preset)
        except FilmError as error:
            message = f"{name} cannot be used: {error.reason}."
            raise RequestError(422, f"film-{error.code}", message, film=position) from None

    def _nothing_to_read(self, *, given: bool) -> RequestError:
        sections = ", ".join(self.bundle.info.text.sections)
        if not given:
            return RequestError(
                422,
                "nothing-to-read",
                "There is neither a film nor a text.",
                remedy="Send at least one of them.",
            )
        if not sections:
            return RequestError(422, "nothing-to-read", "This model reads no text.", remedy="Add a film.")
        return RequestError(
            422,
            "nothing-to-read",
            f"The text has no part that the model reads ({sections}), and there is no film.",
            remedy="Add a film, or paste the indication alone.",
        )


def _checked_views(view_positions: Sequence[str | None] | None, *, num_films: int) -> list[str | None]:
    """One view per film, None where unknown."""
    if view_positions is None:
        return [None] * num_films
    if len(view_positions) != num_films:
        message = f"There are {len(view_positions)} view positions for {num_films} films."
        remedy = "Give one for each film, empty where unknown, or none at all."
        raise RequestError(422, "bad-view-positions", message, remedy=remedy)
    views = [view or None for view in view_positions]
    if any(view is not None and view not in VIEW_INDEX for view in views):
        message = f"A view position must be one of {', '.join(VIEW_INDEX)}."
        raise RequestError(422, "bad-view-positions", message, remedy="Leave it empty where it is unknown.")
    return views
