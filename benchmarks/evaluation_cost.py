"""Seconds that an evaluation of a full-size test set takes once the model has spoken: tables, card and figures."""

from __future__ import annotations

import io
import time

import numpy as np

from components.cxr.bundle_info import BundleInfo, Description
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.labels import BLANK, PATHOLOGIES, UNCERTAIN, LabelPolicy, derive_no_finding, truth_of
from components.cxr.model.architecture import Architecture
from components.cxr.text.text import TextConfig
from components.cxr.trained_on import TrainedOn
from components.evaluate.calibration import calibrate
from components.evaluate.config import EvaluateConfig
from components.evaluate.figures import Panel, figures
from components.evaluate.predictions import PASSES, Pass, Predictions, Rows, Scores, Studies
from components.evaluate.score import score

__all__ = ["drawn_predictions", "time_evaluation"]

FILMS, STUDIES, PATIENTS = 5159, 3269, 293
"""Of MIMIC-CXR's test split."""
VALIDATION_STUDIES, VALIDATION_PATIENTS = 1808, 222


def time_evaluation(*, num_bootstrap: int = 1000) -> float:
    """Score drawn predictions of every condition with every interval, and draw the figures."""
    predictions = drawn_predictions()
    config = EvaluateConfig(num_bootstrap=num_bootstrap)
    started = time.monotonic()
    found = score(config, _model(), predictions, manifest_hash="0" * 16, run_id=None)
    headline, rows = found.report.headline, predictions.test.rows
    truth_SP = truth_of(rows.states_NP, rows.labeled_N, protocol="A", pathologies=PATHOLOGIES)
    raw_SP = predictions.scores[Pass("test", "all")].score_NP
    panels = {}
    for p, (name, point) in enumerate(found.points.conditions["all"].items()):
        panels[name] = Panel(raw_SP[:, p], calibrate(raw_SP[:, p], point.calibration), truth_SP[:, p] == 1)
    for figure in figures(panels, headline, subtitle="Drawn at random.").values():
        figure.savefig(io.BytesIO(), format="png")
    size = len(found.report.model_dump_json())
    seconds = time.monotonic() - started
    print(f"{len(found.report.scores)} tables, {size / 1e6:.1f} MB of report, {seconds:.1f} s")
    return seconds


def drawn_predictions() -> Predictions:
    """As a model of middling skill would leave them."""
    rng = np.random.default_rng(0)
    test = _studies(rng, STUDIES, PATIENTS, films=FILMS)
    validation = _studies(rng, VALIDATION_STUDIES, VALIDATION_PATIENTS, films=2 * VALIDATION_STUDIES)
    scores = {}
    for job in PASSES:
        studies = validation if job.rows == "validate" else test
        source_N = np.arange(len(studies))
        if job.rows == "films":
            source_N = np.repeat(source_N, studies.num_images_S)
        raw_NP = rng.normal(size=(len(source_N), len(PATHOLOGIES))) + (studies.rows.states_NP[source_N] == 1) - 2
        uncertain_NP = rng.random(raw_NP.shape) * 0.2
        ids = [studies.rows.studies[s] for s in source_N.tolist()]
        scores[job] = Scores(ids, raw_NP.astype(np.float32), uncertain_NP.astype(np.float32))
    return Predictions(test, validation, scores)


def _studies(rng: np.random.Generator, count: int, patients: int, *, films: int) -> Studies:
    prevalence_P = np.geomspace(0.4, 0.01, len(PATHOLOGIES))
    state_SP = np.where(rng.random((count, len(PATHOLOGIES))) < prevalence_P, 1, BLANK).astype(np.int8)
    told_SP = rng.random(state_SP.shape)
    state_SP[(state_SP == BLANK) & (told_SP < 0.1)] = 0
    state_SP[(state_SP == BLANK) & (told_SP > 0.95)] = UNCERTAIN
    state_SP[:, 0] = np.where((state_SP[:, 1:] == 1).any(axis=1), BLANK, 1)
    state_SP = derive_no_finding(state_SP, pathologies=PATHOLOGIES)
    patient_S = rng.integers(patients, size=count)
    extra_S = np.bincount(rng.integers(count, size=films - count), minlength=count)
    some_S = rng.random(count) < 0.8
    names = [f"{count}-{s}" for s in range(count)]
    rows = Rows(state_SP, np.ones(count, bool), [f"{count}-{g}" for g in patient_S], names)
    return Studies(
        rows=rows,
        shards=["shard"] * count,
        first_row_S=np.arange(count),
        num_images_S=1 + extra_S,
        has_text_S=some_S,
        has_age_S=some_S,
        complete_S=some_S,
        trained_on_S=np.zeros(count, bool),
    )


def _model() -> Description:
    preset, nobody = PixelPreset(), np.zeros(0, dtype=np.uint64)
    info = BundleInfo(
        pathologies=PATHOLOGIES, pixel_preset=preset, pixel_preset_hash=preset.hash, text=TextConfig(),
        label_policy=LabelPolicy(), architecture=Architecture(), num_parameters=0, manifest_hash="0" * 16,
        id_key_fingerprint="", train_config_hash="", mlflow_run_id=None, git_revision=None,
    )  # fmt: skip
    return Description(info, (TrainedOn(nobody, nobody),), "0" * 64, {})
