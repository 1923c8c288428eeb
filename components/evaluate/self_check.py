"""What a server must answer to the synthetic studies; run once for a bundle and a data set, as all predictions are."""

from __future__ import annotations

from components.cxr.bundle import load_bundle
from components.cxr.model.batch import Study
from components.cxr.model.device import pick_device
from components.cxr.model.predictor import condition_of, predict, shown
from components.cxr.self_check import SELF_CHECK, ProbeLogits, SelfCheck, load_self_check, probes, write_self_check
from components.cxr.storage.storage import Storage
from components.cxr.text.text import request_text
from components.evaluate.config import EvaluateConfig

__all__ = ["self_check"]


def self_check(config: EvaluateConfig, *, predictions: Storage, bundle: Storage) -> SelfCheck:
    """The model's output for every probe, each under the condition by which a server judges it.

    Args:
        predictions: folder by predictions_key, where the output is kept.
        bundle: the model's folder; opened only when there is something to run.
    """
    if predictions.exists(SELF_CHECK):
        return load_self_check(predictions)
    device, loaded = pick_device(config.device, where="evaluate.device"), load_bundle(bundle)
    info, found = loaded.info, []
    for probe in probes(loaded.info):
        text = request_text(probe.text, config=info.text, reader=info.section_reader)
        study = Study(
            films=probe.films,
            view_positions=probe.view_positions,
            text=text,
            age_years=probe.age_years,
            sex=probe.sex,
        )
        logits = predict(loaded, [shown(study, condition_of(study))], device=device)
        found.append(ProbeLogits(score=logits.score_SP[0].tolist(), uncertain=logits.uncertain_SP[0].tolist()))
    write_self_check(predictions, check := SelfCheck(studies=tuple(found)))
    return check
