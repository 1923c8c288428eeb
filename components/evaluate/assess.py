"""The part of an evaluation that runs the model: predict, score, and write what an evaluation leaves behind."""

from __future__ import annotations

import contextlib

from components.cxr.bundle_info import Description
from components.cxr.film_check import FILM_CHECK
from components.cxr.operating_points import MODEL_CARD, write_operating_points
from components.cxr.report import write_predictions, write_report
from components.cxr.seal import write_seal
from components.cxr.self_check import write_self_check
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import ABSENT, StaleWriteError, Storage
from components.evaluate.config import EvaluateConfig
from components.evaluate.film_check import film_check
from components.evaluate.model_card import model_card
from components.evaluate.predict import predict
from components.evaluate.score import score
from components.evaluate.self_check import self_check
from components.evaluate.truth_table import SecondTruth

__all__ = ["assess"]


def assess(
    config: EvaluateConfig,
    storage: Storage,
    *,
    scores: Storage,
    bundle: Storage,
    model: Description,
    manifest: LoadedManifest,
    truth: SecondTruth | None,
    run_id: str | None,
) -> None:
    """Write an evaluation's predictions, operating points, card, checks, seal and report.

    The report goes last: its presence means complete. Of two evaluations at once the first one's counts.

    Args:
        storage: the evaluation's folder.
        scores: folder of the model's raw scores; what it holds already is not run again.
        truth: a second table of labels to score against as well.
        run_id: of the MLflow run that the report names.
    """
    predictions = predict(config, storage=scores, bundle=bundle, model=model, manifest=manifest)
    found = score(config, model, predictions, manifest_hash=manifest.hash, truth=truth, run_id=run_id)
    films = film_check(manifest)
    card = model_card(model, found.report, found.points, manifest=manifest.manifest, check=films)
    answers = self_check(config, predictions=scores, bundle=bundle)

    write_predictions(storage, found.predictions)
    write_operating_points(storage, found.points)
    storage.write(MODEL_CARD, card.encode())
    write_self_check(storage, answers)
    if films is not None:
        with contextlib.suppress(StaleWriteError):
            storage.write(FILM_CHECK, films.save(), if_generation=ABSENT)
    write_seal(storage, model.files)
    with contextlib.suppress(StaleWriteError):
        write_report(storage, found.report, over=ABSENT)
