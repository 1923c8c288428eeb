"""What the server says of a study and of its model, as the schemas have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from components.cxr.model.heatmaps import has_heatmaps
from components.cxr.report import Estimate
from components.serve.config import ServeConfig
from components.serve.fields import StudyForm
from components.serve.heatmap import Heatmap
from components.serve.predictor import Prediction, StudyPredictor
from components.serve.schemas import ExplainReply, FilmHeatmap, Limits, ModelReply, PathologyAnswer, PredictReply
from components.serve.seen import cautions, film_scores, inputs, overall, seen

__all__ = ["explain_reply", "film_heatmaps", "model_reply", "predict_reply"]


def predict_reply(
    form: StudyForm,
    found: Prediction,
    predictor: StudyPredictor,
    model_version: str | None,
    *,
    heatmaps: tuple[FilmHeatmap, ...] = (),
) -> PredictReply:
    """The answer to a study."""
    metrics = predictor.metrics.get(found.condition)
    answers = {}
    for name, answer in found.answers.items():
        known = metrics.pathologies.get(name) if metrics else None
        answers[name] = PathologyAnswer(
            **answer._asdict(),
            auroc=known.metrics["auroc"] if known else Estimate(),
            low_support=known.low_support if known else True,
            valid=found.in_distribution is not False,
        )
    return PredictReply(
        answers=answers,
        condition=found.condition,
        overall=overall(found.answers, in_distribution=found.in_distribution),
        in_distribution=found.in_distribution,
        films=film_scores(found),
        seen=seen(found),
        inputs=inputs(form, found),
        warnings=cautions(form, found, predictor),
        heatmaps=heatmaps,
        study_uid=form.study_uid,
        model_version=model_version,
        bundle_hash=predictor.bundle.hash,
    )


def explain_reply(found: Heatmap, predictor: StudyPredictor, model_version: str | None) -> ExplainReply:
    """The heatmap of a film that was sent alone."""
    return ExplainReply(**_in_numbers(found), model_version=model_version, bundle_hash=predictor.bundle.hash)


def film_heatmaps(found: Sequence[Heatmap]) -> tuple[FilmHeatmap, ...]:
    """Heatmaps in numbers; half a millisecond each, for which the event loop should not wait."""
    return tuple(FilmHeatmap(**_in_numbers(each)) for each in found)


def _in_numbers(found: Heatmap) -> dict[str, Any]:
    rows, columns = found.map_HW.shape
    return {
        "film": found.film,
        "pathology": found.pathology,
        "log_odds": round(found.log_odds, 5),
        "rows": rows,
        "columns": columns,
        "map": found.map_HW.astype(np.float64).round(5).tolist(),
    }


def model_reply(predictor: StudyPredictor, config: ServeConfig, model_version: str | None = None) -> ModelReply:
    """What /v1/model says of the model in service."""
    bundle, info = predictor.bundle, predictor.bundle.info
    return ModelReply(
        model_version=model_version,
        bundle_hash=bundle.hash,
        operating_points_hash=predictor.points.hash,
        pathologies=info.pathologies,
        pixel_preset=info.pixel_preset,
        pixel_preset_hash=info.pixel_preset_hash,
        text_sections=info.text.sections,
        section_reader=info.section_reader,
        leaky=info.leaky,
        label_policy=info.label_policy,
        heatmaps=has_heatmaps(bundle),
        thresholds={
            condition: {name: point.threshold for name, point in points.items()}
            for condition, points in predictor.points.conditions.items()
        },
        metrics=predictor.metrics,
        num_models=info.num_models,
        num_parameters=info.num_parameters,
        manifest_hash=info.manifest_hash,
        mlflow_run_id=info.mlflow_run_id,
        git_revision=info.git_revision,
        limits=Limits(
            max_files=config.max_files,
            max_file_bytes=config.max_file_bytes,
            max_request_bytes=config.max_request_bytes,
            max_pixels=config.limits.max_pixels,
            max_text_chars=config.max_text_chars,
        ),
    )
