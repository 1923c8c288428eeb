"""Who the patients are: age, sex, habitus, chronic state and number of studies; `studies.py` gives them a history."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import numpy as np

from pipeline.synthetic.keys import MAX_STUDIES_PER_PATIENT, Stream, generator, subject_id
from pipeline.synthetic.presets import Settings

__all__ = ["FACTORS", "Patient", "draw_patient", "draw_patients"]

FACTORS = ("frailty", "fluid", "infection", "acuity", "trauma", "neoplasm", "age")
"""What several findings share: poor health, fluid overload, infection, acute illness, injury, malignancy, old age."""


@dataclass(frozen=True, kw_only=True)
class Patient:
    """A person whose anatomy and chronic state outlast a study."""

    settings: Settings
    index: int
    subject_id: int
    sex: Literal["F", "M"]
    age_years: int
    """At the first study, 18 to 91."""
    habitus: float
    """Body mass as a standard score: thicker soft tissue, less contrast."""
    chronic: tuple[float, ...]
    """The lasting part of each of `FACTORS`, as standard scores."""
    first_visit: datetime
    num_studies: int

    @property
    def seed(self) -> int:
        """What every generator of this patient starts from."""
        return self.settings.seed


def draw_patient(index: int, *, settings: Settings) -> Patient:
    """Draw patient number `index`; nothing about other patients matters."""
    seed = settings.seed
    rng = generator(seed, Stream.PATIENT, index)
    age_score = float(rng.normal())
    age_years = int(np.clip(61 + 17 * age_score, 18, 91))
    chronic = rng.normal(size=len(FACTORS))
    chronic[-1] = age_score
    illness = float(chronic[0] + chronic[1] + chronic[3]) / np.sqrt(3)
    mean_extra = float(np.clip(1.1 * np.exp(0.35 * illness), 0.2, 3.5))
    first_visit = datetime(2110, 1, 1) + timedelta(days=int(rng.integers(80 * 365)), seconds=int(rng.integers(86_400)))
    return Patient(
        settings=settings,
        index=index,
        subject_id=subject_id(seed, index),
        sex="F" if rng.random() < 0.48 else "M",
        age_years=age_years,
        habitus=float(rng.normal()),
        chronic=tuple(float(score) for score in chronic),
        first_visit=first_visit,
        num_studies=int(min(1 + rng.poisson(mean_extra), MAX_STUDIES_PER_PATIENT)),
    )


def draw_patients(num_studies: int, *, settings: Settings) -> Iterator[tuple[Patient, int]]:
    """Yield patients with how many of their studies belong to the data set, until `num_studies` are reached."""
    remaining, index = num_studies, 0
    while remaining > 0:
        patient = draw_patient(index, settings=settings)
        taken = min(patient.num_studies, remaining)
        yield patient, taken
        remaining -= taken
        index += 1
