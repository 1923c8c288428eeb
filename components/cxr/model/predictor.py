"""One way to turn studies into answers, used by evaluate, serve and the MLflow model alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from components.cxr.bundle import Bundle
from components.cxr.model.batch import Batch, Study, collate, has_metadata
from components.cxr.model.device import exact_float32
from components.cxr.model.network import positive_score, probabilities
from components.cxr.operating_points import OperatingPoints, fitting_condition, states_of
from components.cxr.report import Condition

__all__ = ["Answer", "Logits", "answer", "condition_of", "predict", "restrict", "shown"]


class Logits(NamedTuple):
    """Raw output for S studies."""

    score_SP: npt.NDArray[np.float32]
    """z1 - z0, uncalibrated."""
    uncertain_SP: npt.NDArray[np.float32]
    """3-way probability of uncertain, in [0, 1]."""


class Answer(NamedTuple):
    """What a user is told about one pathology."""

    probability: float
    """Calibrated, in [0, 1]."""
    uncertain: float
    """3-way probability of uncertain, in [0, 1]."""
    state: int
    """-1 where it is left open (operating_points.states_of), else 1 at or above the threshold, else 0."""
    threshold: float


@torch.inference_mode()
def predict(
    bundle: Bundle,
    studies: Sequence[Study],
    *,
    condition: Condition = "all",
    batch_size: int = 32,
    device: torch.device | str = "cpu",
) -> Logits:
    """Run the model on studies, seeing only what `condition` allows; of several the logits' mean is the answer.

    Padding is masked, so a study's answer does not depend on its neighbors (beyond float32 rounding).
    """
    device = torch.device(device)
    exact_float32()
    models = [model.to(device).eval() for model in bundle.models]
    scores, uncertains = [], []
    for start in range(0, len(studies), batch_size):
        batch = collate(
            studies[start : start + batch_size],
            tokenizer=bundle.tokenizer,
            max_tokens=bundle.info.architecture.max_tokens,
            size=bundle.info.pixel_preset.size,
        )
        seen = restrict(batch, condition).to(device)
        logits_BP3 = torch.stack([model(seen).float().cpu() for model in models]).mean(dim=0)
        scores.append(positive_score(logits_BP3).numpy())
        uncertains.append(probabilities(logits_BP3)[1].numpy())
    return Logits(np.concatenate(scores), np.concatenate(uncertains))


def restrict(batch: Batch, condition: Condition) -> Batch:
    """Mask what the condition does not show."""
    return batch.keep(
        image_B=condition in ("all", "image", "image+meta"),
        text_B=condition in ("all", "text"),
        meta_B=condition in ("all", "image+meta", "meta"),
    )


def condition_of(study: Study) -> Condition:
    """The condition by whose operating points a study is judged: the evaluated one nearest to what it has."""
    text = bool(study.text.strip())
    return fitting_condition(films=bool(study.films), text=text, metadata=has_metadata(study))


def shown(study: Study, condition: Condition) -> Study:
    """What of a study the condition shows, as `restrict` masks it: a text without a film comes without age and sex."""
    if condition not in ("all", "text"):
        study = replace(study, text="")
    if condition not in ("all", "image", "image+meta"):
        study = replace(study, films=[], view_positions=[])
    if condition not in ("all", "image+meta", "meta"):
        study = replace(study, view_positions=[None] * len(study.films), age_years=None, sex=None)
    return study


def answer(
    bundle: Bundle, logits: Logits, points: OperatingPoints, *, condition: Condition, row: int = 0
) -> dict[str, Answer]:
    """Calibrate one study's logits and apply the thresholds, by pathology."""
    answers = {}
    for p, name in enumerate(bundle.info.pathologies):
        point = points.conditions[condition][name]
        score, uncertain = float(logits.score_SP[row, p]), float(logits.uncertain_SP[row, p])
        probability = calibrated(score, slope=point.calibration.slope, intercept=point.calibration.intercept)
        state = int(states_of(score, probability, uncertain, point))
        answers[name] = Answer(probability, uncertain, state, point.threshold)
    return answers


def calibrated(score: float, *, slope: float, intercept: float) -> float:
    """Platt scaling of one score, in [0, 1]."""
    return float(1.0 / (1.0 + np.exp(-(slope * score + intercept))))
