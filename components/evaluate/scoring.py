"""Runs a bundle on studies under each input condition, and turns its scores into the report's tables.

Shape letters: S studies, N rows of a table (studies or images), P pathologies, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from components.cxr.bundle import Bundle, OperatingPoint
from components.cxr.labels import BLANK, truth_of
from components.cxr.model.batch import Study
from components.cxr.model.dataset import StudyDataset
from components.cxr.model.device import pick_device
from components.cxr.model.predictor import Logits, predict
from components.cxr.progress import track
from components.cxr.report import Condition, Protocol, Score
from components.evaluate.bootstrap import auroc_resamples
from components.evaluate.config import EvaluateConfig
from components.evaluate.metrics import mean_score, pathology_score

__all__ = ["Pass", "Rows", "films_alone", "has_every_modality", "run_model", "score_rows", "study_rows"]


@dataclass(frozen=True)
class Rows:
    """Labels of what a table counts: studies, or images with their study's labels."""

    states_NP: npt.NDArray[np.int8]
    labeled_N: npt.NDArray[np.bool_]
    patients: Sequence[str]
    studies: Sequence[str]

    def select(self, chosen_N: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Rows:
        """The chosen rows, in order."""
        indices = np.arange(len(self.labeled_N))[chosen_N]
        patients, studies = [self.patients[i] for i in indices], [self.studies[i] for i in indices]
        return Rows(self.states_NP[chosen_N], self.labeled_N[chosen_N], patients, studies)


def study_rows(studies: StudyDataset) -> Rows:
    """One row per study."""
    return Rows(studies.states_SP, studies.labeled_S, studies.patient_ids, studies.study_ids)


def films_alone(studies: StudyDataset) -> tuple[list[Study], Rows]:
    """Every film as a study of its own, with its study's labels."""
    films, source = [], []
    for s in range(len(studies)):
        study = studies[s]
        for film, view in zip(study.films, study.view_positions, strict=True):
            films.append(Study(films=[film], view_positions=[view], text="", age_years=None, sex=None))
            source.append(s)
    return films, study_rows(studies).select(np.array(source, dtype=np.int64))


def has_every_modality(studies: StudyDataset) -> npt.NDArray[np.bool_]:
    """Bool by study: there are a film, text, and metadata (age, sex or a view)."""
    return np.array(
        [
            bool(study.films) and bool(study.text.strip()) and _has_metadata(study)
            for study in (studies[s] for s in range(len(studies)))
        ],
        dtype=bool,
    )


class Pass(NamedTuple):
    """One run of the model over studies that see only what the condition shows."""

    studies: Sequence[Study] | StudyDataset
    condition: Condition


def run_model(bundle: Bundle, passes: Sequence[Pass], *, config: EvaluateConfig, unit: str = "studies") -> list[Logits]:
    """The model's output for each pass, with one progress over all of them; a pass needs a study."""
    device = pick_device(config.device, where="evaluate.device")
    size = config.batch_size
    steps = [(i, start) for i, job in enumerate(passes) for start in range(0, len(job.studies), size)]
    answers: list[list[Logits]] = [[] for _ in passes]

    def num_studies(step: tuple[int, int]) -> int:
        return min(size, len(passes[step[0]].studies) - step[1])

    total = sum(map(num_studies, steps))
    for step in track(steps, total=total, what="evaluate", unit=unit, size=num_studies):
        (i, start), (studies, condition) = step, passes[step[0]]
        batch = [studies[j] for j in range(start, start + num_studies(step))]
        answers[i].append(predict(bundle, batch, condition=condition, batch_size=size, device=device))
    return [Logits(*(np.concatenate(parts) for parts in zip(*found, strict=True))) for found in answers]


def score_rows(
    score_NP: npt.NDArray[np.floating],
    rows: Rows,
    *,
    points: dict[str, OperatingPoint],
    pathologies: Sequence[str],
    config: EvaluateConfig,
    condition: Condition,
    protocol: Protocol,
    unit: Literal["study", "image"] = "study",
    subset: Literal["all", "common"] = "all",
    missing: Sequence[str] = (),
) -> Score:
    """One table of the report.

    Args:
        missing: pathologies of which the labels say nothing.
    """
    truth_NP = truth_of(rows.states_NP, rows.labeled_N, protocol="A" if protocol == "truth" else protocol)
    truth_NP[:, [list(pathologies).index(name) for name in missing]] = BLANK
    auroc_RP = auroc_resamples(score_NP, truth_NP, rows.patients, num_resamples=config.num_bootstrap, seed=config.seed)
    scores = {
        name: pathology_score(score_NP[:, p], truth_NP[:, p], points[name], auroc_R=auroc_RP[:, p])
        for p, name in enumerate(pathologies)
    }
    headline = config.headline or tuple(pathologies)
    return Score(
        condition=condition,
        protocol=protocol,
        unit=unit,
        subset=subset,
        num_patients=len(set(rows.patients)),
        num_studies=len(set(rows.studies)),
        num_rows=len(rows.studies),
        pathologies=scores,
        mean=mean_score(scores, headline=headline, pathologies=pathologies, auroc_RP=auroc_RP),
    )


def _has_metadata(study: Study) -> bool:
    return study.age_years is not None or study.sex is not None or any(study.view_positions)
