"""The check of every server before it is ready: it must answer synthetic studies as evaluation did.

A pod takes traffic once it is ready, whoever started it: a rollout, an autoscaler, a drained machine. So it checks
itself, without the golden studies, which are patients' and whose shards a pod need not reach. The deployment step still
sends those to a server of its own before a rollout, and to the service after it.
"""

from __future__ import annotations

import numpy as np

from components.cxr.errors import UserError
from components.cxr.films.pixels import encode_png
from components.cxr.model.predictor import Logits, answer
from components.cxr.self_check import SELF_CHECK, Probe, ProbeLogits, probes
from components.serve.errors import RequestError
from components.serve.predictor import Prediction, StudyPredictor

__all__ = ["UNCHECKED", "check_self"]

UNCHECKED = f"not checked by synthetic studies: the model's evaluation has no {SELF_CHECK}; evaluate again for one"


def check_self(predictor: StudyPredictor, *, tolerance: float) -> str:
    """Answer the synthetic studies on the way that requests take, from a film's file on.

    Args:
        tolerance: largest difference of a probability.

    Returns:
        What was checked, for the terminal: nothing of a model whose evaluation left no answers, which deploy refuses.

    Raises:
        UserError: an answer that is off by more, or none.
    """
    if predictor.self_check is None:
        return UNCHECKED
    studies, names = predictor.self_check.studies, predictor.bundle.info.pathologies
    asked = probes(predictor.bundle.info)
    if len(studies) != len(asked):
        raise _failed("the synthetic studies", found=str(len(asked)), expected=str(len(studies)))
    for position, (probe, logits) in enumerate(zip(asked, studies, strict=True), start=1):
        where = f"synthetic study {position} of {len(asked)}"
        found = _answered(predictor, probe, where=where)
        wanted = answer(predictor.bundle, _logits(logits), predictor.points, condition=found.condition)
        for name in names:
            pairs = zip(found.answers[name][:2], wanted[name][:2], strict=True)  # probability and uncertain
            for got, expected in pairs:
                if not abs(got - expected) <= tolerance:
                    raise _failed(
                        f"{where}, {name}", found=f"{got:.6f}", expected=f"{expected:.6f} within {tolerance:g}"
                    )
    return f"{len(asked) * len(names)} answers to synthetic studies are evaluation's"


def _answered(predictor: StudyPredictor, probe: Probe, *, where: str) -> Prediction:
    try:
        return predictor.predict(
            [encode_png(film) for film in probe.films],
            text=probe.text,
            age_years=probe.age_years,
            sex=probe.sex,
            view_positions=probe.view_positions,
        )
    except RequestError as error:
        raise _failed(where, found=error.message, expected="an answer") from None


def _logits(sealed: ProbeLogits) -> Logits:
    return Logits(np.asarray([sealed.score], np.float32), np.asarray([sealed.uncertain], np.float32))


def _failed(where: str, *, found: str, expected: str) -> UserError:
    return UserError(
        "self-check-failed",
        "this server does not answer as evaluation did",
        where=where,
        found=found,
        expected=expected,
        remedy="Serve with the versions of packages that evaluated it, or evaluate again with these.",
    )
