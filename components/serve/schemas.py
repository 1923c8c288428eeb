"""What the server sends: the JSON of every endpoint."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.cxr.config import Config
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.labels import LabelPolicy
from components.cxr.report import Condition, Estimate, Metric
from components.cxr.text.text import SectionReader

__all__ = [
    "INTENDED_USE",
    "Caution", "ConditionMetrics", "ErrorBody", "ErrorReply", "ExplainReply", "FilmHeatmap", "FilmScore",
    "InputUse", "Limits", "ModelReply", "Overall", "PathologyAnswer", "PathologyMetrics", "PredictReply", "Seen",
    "Status",
]  # fmt: skip

INTENDED_USE = "For research and education. Not a medical device: not for diagnosis, triage or treatment."


class Status(Config):
    """Whether the server is there and able to answer."""

    status: str
    """`ok`, `ready` or `stuck`."""


class ErrorBody(Config):
    """Why there is no answer."""

    code: str
    """Stable name for programs."""
    message: str
    """One sentence for people; never a text, a file name or an id from the request."""
    remedy: str | None = None
    """What to do about it."""
    film: int | None = None
    """The film that cannot be used, from 1; null where it is something else."""


class ErrorReply(Config):
    """Every answer with a status of 400 or more."""

    error: ErrorBody


class PathologyAnswer(Config):
    """The answer for one pathology."""

    probability: float = Field(ge=0.0, le=1.0)
    """Calibrated probability of positive."""
    uncertain: float = Field(ge=0.0, le=1.0)
    """Probability that a report would call it uncertain."""
    state: int
    """-1 uncertain, where that is the likeliest of the three classes or, if evaluation chose a threshold for it, from
    there up; else 1 at or above `threshold`, else 0."""
    threshold: float
    """Chosen on validation data for this `condition`."""
    auroc: Estimate
    """Of the model on the evaluation's test studies in this `condition`, with its 95 % interval; null if undefined."""
    low_support: bool
    """Fewer than 10 positive or negative patients among them: how good the model is here is hardly known."""
    valid: bool = True
    """False where a film is taken for no chest film: the numbers are then no answer to anything."""


Overall = Literal["findings", "no-finding", "open", "not-a-chest-film"]
"""One statement of a whole study: `not-a-chest-film` where a film is taken for none;
`findings` where a finding (anything but No Finding and Support Devices) is positive;
`no-finding` where none is positive or uncertain and No Finding is positive; else `open`. The states themselves are each
by its own threshold, so that No Finding may be positive beside a finding."""


class InputUse(Config):
    """One part of the request and what became of it."""

    name: Literal["film", "view_position", "text", "age_years", "sex"]
    film: int | None = None
    """From 1; for films and their views."""
    used: bool
    """Whether it was input of the model."""
    source: Literal["request", "header"] | None = None
    """The request itself, or the DICOM header; null when it is nowhere."""
    why: str | None = None
    """Why it was not used."""


class FilmScore(Config):
    """Whether a film is taken for a chest film like those the model was trained on."""

    film: int
    """From 1."""
    in_distribution: bool
    score: float
    """A log-odds with the limit at 0: above it the film is refused, as 1 % of the validation films are."""


class Caution(Config):
    """What a reader of the answer should know about the request."""

    code: str
    """Stable name for programs: `not-a-chest-film`, `burned-in`, `unusual-view`, `view-differs`, `films-differ`,
    `age-differs`, `sex-differs`, `text-left-out` or `text-cut`."""
    message: str
    """One sentence for people, without anything from the request's text or ids."""


class Seen(Config):
    """What the model saw of the request."""

    films: int
    view_positions: tuple[str | None, ...]
    """By film: the form's, else the DICOM header's; null when unknown."""
    text: bool
    """Whether any of the text was input: of a whole report only the model's sections are."""
    age_years: float | None = None
    """The form's, else the DICOM header's."""
    sex: str | None = None
    """The form's, else the DICOM header's: F or M."""


class FilmHeatmap(Config):
    """Where one film's patches speak for a pathology or against it."""

    film: int
    """From 1."""
    pathology: str
    log_odds: float
    """What they add together to the answer, beyond what films of its view add usually."""
    rows: int
    columns: int
    map: tuple[tuple[float, ...], ...]
    """By row and column, from the film's upper left corner to its lower right one: what each point adds of them, per
    hundredth of the square around the film."""


class PredictReply(Config):
    """The answer for one study."""

    answers: dict[str, PathologyAnswer]
    """By pathology, in the model's order."""
    condition: Condition
    """Which of the evaluated kinds of input fits what was given; its operating points were used."""
    overall: Overall
    """One statement of the whole study."""
    in_distribution: bool | None = None
    """Whether every film is taken for a chest film; null without a film, or where the model came without a check."""
    films: tuple[FilmScore, ...]
    """What that rests on."""
    seen: Seen
    inputs: tuple[InputUse, ...]
    """Every part that a request can have, used or not, and why."""
    warnings: tuple[Caution, ...]
    heatmaps: tuple[FilmHeatmap, ...] = ()
    """Of each film that is taken for a chest film and each pathology that `explain` names."""
    study_uid: str | None = None
    """The request's, unchanged."""
    model_version: str | None = None
    """In MLflow's registry; null where it is not registered or not deployed."""
    bundle_hash: str
    """SHA-256 of the model."""
    intended_use: str = INTENDED_USE


class ExplainReply(FilmHeatmap):
    """The heatmap of a film that was sent alone."""

    model_version: str | None = None
    """In MLflow's registry; null where it is not registered or not deployed."""
    bundle_hash: str
    """SHA-256 of the model."""
    intended_use: str = INTENDED_USE


class Limits(Config):
    """What a request may hold."""

    max_files: int
    max_file_bytes: int
    max_request_bytes: int
    max_pixels: int
    """Rows x columns of one film, checked before it is decoded."""
    max_text_chars: int


class PathologyMetrics(Config):
    """What the evaluation found of one pathology on test studies (protocol A: blank and uncertain labels are 0)."""

    metrics: dict[Metric, Estimate]
    """Each in [0, 1] with its 95 % interval; recall, specificity, precision and F1 at the threshold."""
    positives: int
    negatives: int
    positive_patients: int
    negative_patients: int
    low_support: bool
    """Fewer than 10 positive or negative patients."""


class ConditionMetrics(Config):
    """What the evaluation found in one input condition."""

    studies: int
    patients: int
    pathologies: dict[str, PathologyMetrics]
    mean_auroc: Estimate
    """Over the pathologies whose AUROC is defined."""


class ModelReply(Config):
    """The model in service and where it comes from."""

    model_version: str | None = None
    """In MLflow's registry; null where it is not registered or not deployed."""
    bundle_hash: str
    """SHA-256 of the model."""
    operating_points_hash: str
    """Of thresholds and calibration, as the evaluation's report names them."""
    pathologies: tuple[str, ...]
    pixel_preset: PixelPreset
    pixel_preset_hash: str
    text_sections: tuple[str, ...]
    """Report sections that the model reads."""
    section_reader: SectionReader
    """How a pasted report is split into sections."""
    leaky: bool
    """True when the model reads what was, or may be, written after the film was read: the labels' own source."""
    label_policy: LabelPolicy
    heatmaps: bool
    """Whether `/v1/explain` answers: the model has an expert of patches that counts."""
    thresholds: dict[Condition, dict[str, float]]
    """By condition and pathology."""
    metrics: dict[Condition, ConditionMetrics]
    """By condition, of the evaluation whose operating points are served."""
    num_models: int
    """Networks, the mean of whose logits is the answer."""
    num_parameters: int
    """Of all of them."""
    manifest_hash: str
    """Of the training data."""
    mlflow_run_id: str | None
    git_revision: str | None
    limits: Limits
    intended_use: str = INTENDED_USE
