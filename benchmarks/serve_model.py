"""An evaluated model with another encoder, for the server's benchmark: its weights are random, its cost is real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from components.cxr.bundle import load_bundle, save_bundle
from components.cxr.bundle_info import describe
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.model.architecture import VisionConfig
from components.cxr.model.batch import Study
from components.cxr.model.network import CxrModel
from components.cxr.model.predictor import condition_of, predict, shown
from components.cxr.operating_points import MODEL_CARD, load_operating_points, write_operating_points
from components.cxr.report import load_report, write_report
from components.cxr.seal import write_seal
from components.cxr.self_check import ProbeLogits, SelfCheck, probes, write_self_check
from components.cxr.storage.storage import Storage, open_storage
from components.cxr.text.text import request_text
from components.cxr.trained_on import trained_on

__all__ = ["with_encoder"]


def with_encoder(
    model: Storage, evaluation: Storage | None, folder: Path, encoder: dict[str, Any], *, size: int
) -> Storage:
    """A folder to serve, with the other model's text, fusion, operating points and report.

    Args:
        evaluation: folder of the operating points; None where they lie beside the model.
        encoder: fields of VisionConfig; empty for the default.
        size: side of the films in pixels.
    """
    beside, bundle, into = evaluation or model, load_bundle(model), open_storage(folder)
    vision = VisionConfig(**encoder) if encoder else bundle.info.architecture.vision
    architecture = bundle.info.architecture.model_copy(update={"vision": vision})
    torch.manual_seed(0)
    network = CxrModel(architecture, num_pathologies=len(bundle.info.pathologies))
    preset = PixelPreset(**bundle.info.pixel_preset.model_dump() | {"size": size})
    info = bundle.info.model_copy(
        update={
            "architecture": architecture,
            "num_parameters": sum(parameter.numel() for parameter in network.parameters()),
            "pixel_preset": preset,
            "pixel_preset_hash": preset.hash,
        }
    )
    nobody = trained_on([], [], manifest_hash=info.manifest_hash)
    save_bundle(into, info=info, models=[network], tokenizer=bundle.tokenizer, trained_on=[nobody])
    made = describe(into)
    points = load_operating_points(beside, bundle_hash=bundle.hash).model_copy(update={"bundle_hash": made.hash})
    write_operating_points(into, points)
    into.write(MODEL_CARD, b"# Random weights")
    write_self_check(into, _answers(into))
    write_seal(into, made.files)
    told = {"bundle_hash": made.hash, "operating_points_hash": points.hash}
    write_report(into, load_report(beside).model_copy(update=told))
    return into


def _answers(made: Storage) -> SelfCheck:
    """What the new model makes of the synthetic studies, as evaluation would find."""
    bundle, found = load_bundle(made), []
    for probe in probes(bundle.info):
        study = Study(
            films=probe.films,
            view_positions=probe.view_positions,
            text=request_text(probe.text, config=bundle.info.text, reader=bundle.info.section_reader),
            age_years=probe.age_years,
            sex=probe.sex,
        )
        logits = predict(bundle, [shown(study, condition_of(study))])
        found.append(
            ProbeLogits(score=tuple(logits.score_SP[0].tolist()), uncertain=tuple(logits.uncertain_SP[0].tolist()))
        )
    return SelfCheck(studies=tuple(found))
