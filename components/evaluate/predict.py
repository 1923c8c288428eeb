"""The first half of evaluation, the only one with the model: raw scores for every study under every condition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from components.cxr.bundle import Bundle, load_bundle
from components.cxr.bundle_info import Description
from components.cxr.config import content_hash
from components.cxr.model.batch import Study, has_metadata
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.device import pick_device
from components.cxr.model.predictor import Logits
from components.cxr.model.predictor import predict as predict_batch
from components.cxr.progress import track
from components.cxr.report import Condition
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Storage
from components.evaluate.config import EvaluateConfig
from components.evaluate.predictions import (
    PASSES,
    Pass,
    Predictions,
    Rows,
    Scores,
    Studies,
    read_scores,
    read_studies,
    write_scores,
    write_studies,
)

__all__ = ["Job", "predict", "run_model"]


def predict(
    config: EvaluateConfig,
    *,
    storage: Storage,
    bundle: Storage,
    model: Description,
    manifest: LoadedManifest,
    passes: Sequence[Pass] = PASSES,
    unit: str = "studies",
) -> Predictions:
    """What the model says on validation and test; what `storage` holds already is read, not run again.

    Args:
        storage: of the predictions, by predictions_key.
        bundle: the model's folder; opened only when there is something to run.
        passes: what is wanted.
        unit: what the progress counts.
    """
    pathologies = model.info.pathologies
    present = storage.sizes()
    missing = [job for job in passes if job.file not in present]
    if missing or not {"studies/test.parquet", "studies/validate.parquet"} <= present.keys():
        test, validation = (
            StudyDataset(manifest, splits=[split], text=model.info.text, facts=("race", "insurance"))
            for split in ("test", "validate")
        )
        for split, studies in (("test", test), ("validate", validation)):
            found = _facts(studies, model=model, manifest=manifest)
            write_studies(storage, split, found, pathologies=pathologies)
        films, film_studies = _films_alone(test)
        rows: dict[str, Sequence[Study] | StudyDataset] = {"test": test, "validate": validation, "films": films}
        rows["shuffled"] = _with_other_texts(test) if any(job.rows == "shuffled" for job in missing) else []
        ids = dict.fromkeys(("test", "shuffled"), test.study_ids)
        ids |= {"validate": validation.study_ids, "films": film_studies}
        for job in missing:
            if not len(rows[job.rows]):
                nothing_NP = np.zeros((0, len(pathologies)), np.float32)
                write_scores(storage, job, Scores([], nothing_NP, nothing_NP), pathologies=pathologies)
        missing = [job for job in missing if len(rows[job.rows])]
        if missing:
            jobs = [Job(rows[job.rows], job.condition) for job in missing]
            for job, logits in zip(
                missing, run_model(load_bundle(bundle), jobs, config=config, unit=unit), strict=True
            ):
                write_scores(storage, job, Scores(ids[job.rows], *logits), pathologies=pathologies)
    else:
        print(f"evaluate: reused predictions/{storage.uri.rstrip('/').rpartition('/')[2]}", flush=True)
    test_facts, validation_facts = (read_studies(storage, s, pathologies=pathologies) for s in ("test", "validate"))
    scores = {job: read_scores(storage, job, pathologies=pathologies) for job in passes}
    return Predictions(
        test_facts, validation_facts, {job: found for job, found in scores.items() if len(found.studies)}
    )


class Job(NamedTuple):
    """Studies, and what of them the model may see."""

    studies: Sequence[Study] | StudyDataset
    condition: Condition


def run_model(bundle: Bundle, jobs: Sequence[Job], *, config: EvaluateConfig, unit: str = "studies") -> list[Logits]:
    """The model's output for each job, with one progress over all of them; a job needs a study."""
    device = pick_device(config.device, where="evaluate.device")
    size = config.batch_size
    steps = [(i, start) for i, job in enumerate(jobs) for start in range(0, len(job.studies), size)]
    answers: list[list[Logits]] = [[] for _ in jobs]

    def num_studies(step: tuple[int, int]) -> int:
        return min(size, len(jobs[step[0]].studies) - step[1])

    total = sum(map(num_studies, steps))
    for step in track(steps, total=total, what="evaluate", unit=unit, size=num_studies):
        (i, start), (studies, condition) = step, jobs[step[0]]
        batch = [studies[j] for j in range(start, start + num_studies(step))]
        answers[i].append(predict_batch(bundle, batch, condition=condition, batch_size=size, device=device))
    return [Logits(*(np.concatenate(parts) for parts in zip(*found, strict=True))) for found in answers]


def _facts(studies: StudyDataset, *, model: Description, manifest: LoadedManifest) -> Studies:
    every = [studies[s] for s in range(len(studies))]
    return Studies(
        rows=Rows(studies.states_SP, studies.labeled_S, studies.patient_ids, studies.study_ids),
        shards=[place.shard for place in studies.places],
        first_row_S=np.array([place.row for place in studies.places], dtype=np.int64),
        num_images_S=np.array([place.num_images for place in studies.places], dtype=np.int64),
        has_text_S=np.array([bool(study.text.strip()) for study in every], dtype=bool),
        has_age_S=np.array([study.age_years is not None for study in every], dtype=bool),
        traits={
            "age_years": [study.age_years for study in every],
            "sex": [study.sex for study in every],
            "race": studies.facts["race"],
            "insurance": studies.facts["insurance"],
            "view": [_view_of(study) for study in every],
        },
        complete_S=np.array(
            [bool(study.films) and bool(study.text.strip()) and has_metadata(study) for study in every], dtype=bool
        ),
        trained_on_S=model.knows(
            studies.patient_ids,
            lambda: (study.films for study in every),
            id_key_fingerprint=manifest.manifest.id_key_fingerprint,
        ),
    )


def _films_alone(studies: StudyDataset) -> tuple[list[Study], list[str]]:
    """Every film as a study of its own, and the study that it belongs to."""
    films, source = [], []
    for study_id, study in zip(studies.study_ids, studies, strict=True):
        for film, view in zip(study.films, study.view_positions, strict=True):
            films.append(Study(films=[film], view_positions=[view], text="", age_years=None, sex=None))
            source.append(study_id)
    return films, source


def _with_other_texts(studies: StudyDataset) -> list[Study]:
    """Each study with the text of another patient's; empty where there are too few texts of too few patients.

    Patients come in the order of their keyed hashes, with all of their texts; each study gets the text that stands as
    many places further on as the patient with the most texts has.
    """
    texts = studies.texts()
    keyed = {patient: content_hash("texts of other patients", patient) for patient in studies.patient_ids}
    patients = studies.patient_ids
    order = sorted((s for s, text in enumerate(texts) if text.strip()), key=lambda s: (keyed[patients[s]], s))
    most = max(Counter(patients[s] for s in order).values(), default=0)
    if len(order) < 2 * most or not order:
        return []
    shuffled = list(studies)
    for place, s in enumerate(order):
        shuffled[s] = replace(shuffled[s], text=texts[order[(place + most) % len(order)]])
    return shuffled


def _view_of(study: Study) -> str | None:
    """PA or AP of the first frontal film; LATERAL where there are others alone."""
    views = [view for view in study.view_positions if view]
    frontal = [view for view in views if view in ("PA", "AP")]
    return frontal[0] if frontal else "LATERAL" if set(views) & {"LATERAL", "LL"} else None
