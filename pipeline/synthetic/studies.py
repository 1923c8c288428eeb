"""The truth of each study, drawn from a correlated latent, and its views; films and reports both start here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from components.cxr.labels import PATHOLOGIES
from pipeline.synthetic.keys import Stream, generator, study_id
from pipeline.synthetic.patients import FACTORS, Patient
from pipeline.synthetic.places import Finding, place_devices, place_drain, place_finding
from pipeline.synthetic.rates import prevalence

__all__ = ["CHILDREN_OF_OPACITY", "LATENT", "Study", "View", "draw_studies"]

View = Literal["PA", "AP", "LATERAL", "LL"]

CHILDREN_OF_OPACITY = ("Edema", "Consolidation", "Pneumonia", "Atelectasis", "Lung Lesion")
"""Findings that are opacities: Lung Opacity is present wherever one of them is (the hierarchy of Irvin et al. 2019)."""

LATENT: dict[str, tuple[tuple[float, ...], float]] = {
    # pathology: loadings on (frailty, fluid, infection, acuity, trauma, neoplasm, age), share of the rest that lasts
    "Enlarged Cardiomediastinum": ((0.32, 0.30, 0.00, 0.10, 0.10, 0.20, 0.25), 0.80),
    "Cardiomegaly": ((0.30, 0.50, 0.00, 0.05, 0.00, 0.00, 0.30), 0.85),
    "Lung Opacity": ((0.32, 0.10, 0.30, 0.15, 0.10, 0.15, 0.05), 0.20),
    "Lung Lesion": ((0.32, 0.00, 0.00, 0.00, 0.00, 0.60, 0.15), 0.85),
    "Edema": ((0.30, 0.60, 0.05, 0.25, 0.00, 0.00, 0.10), 0.25),
    "Consolidation": ((0.32, 0.00, 0.72, 0.22, 0.00, 0.10, 0.00), 0.15),
    "Pneumonia": ((0.32, 0.00, 0.78, 0.15, 0.00, 0.05, 0.05), 0.10),
    "Atelectasis": ((0.30, 0.35, 0.05, 0.40, 0.10, 0.10, 0.10), 0.30),
    "Pneumothorax": ((0.32, 0.00, 0.00, 0.30, 0.45, 0.10, -0.10), 0.15),
    "Pleural Effusion": ((0.30, 0.50, 0.15, 0.30, 0.05, 0.25, 0.10), 0.35),
    "Pleural Other": ((0.32, 0.00, 0.10, 0.00, 0.10, 0.35, 0.25), 0.90),
    "Fracture": ((0.32, 0.00, 0.00, 0.05, 0.65, 0.05, 0.20), 0.85),
    "Support Devices": ((0.32, 0.25, 0.05, 0.65, 0.10, 0.15, 0.10), 0.50),
}
_LASTING = np.array([0.50, 0.60, 0.15, 0.25, 0.30, 0.80, 1.00])
"""Share of each factor's variance that belongs to the patient, not to the moment."""
_CARRY_OVER = 0.5
"""Correlation of the momentary part from one study to the next."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """One examination: what is truly there, and which films were taken."""

    patient: Patient
    index: int
    study_id: int
    when: datetime
    age_years: int
    acuity: float
    """How ill the patient is at the moment, a standard score."""
    findings: tuple[Finding, ...]
    truth: tuple[int, ...]
    """1 or 0 for each of `PATHOLOGIES`."""
    views: tuple[View, ...]

    @property
    def is_portable(self) -> bool:
        """Taken at the bedside: no lateral view, more often supine."""
        return set(self.views) == {"AP"}

    @property
    def procedure(self) -> str:
        """The examination as ordered."""
        if any(view in ("LATERAL", "LL") for view in self.views):
            return "CHEST (PA AND LAT)"
        return "CHEST (PORTABLE AP)" if self.is_portable else "CHEST (SINGLE VIEW)"

    def has(self, pathology: str) -> bool:
        """Whether the pathology is truly present."""
        return bool(self.truth[PATHOLOGIES.index(pathology)])


def draw_studies(patient: Patient, num_studies: int) -> tuple[Study, ...]:
    """Draw the patient's first `num_studies` studies in time order; each depends on those before it."""
    rng = generator(patient.seed, Stream.HISTORY, patient.index)
    names = tuple(LATENT)
    loadings = np.array([LATENT[name][0] for name in names])  # (13, 6)
    lasting = np.array([LATENT[name][1] for name in names])
    residual = np.sqrt(1 - (loadings**2).sum(axis=1))
    own = rng.normal(size=len(names))
    factors_now, own_now = rng.normal(size=len(FACTORS)), rng.normal(size=len(names))
    when = patient.first_visit
    prior: tuple[Finding, ...] = ()
    studies: list[Study] = []
    for index in range(num_studies):
        if index:
            gap_days = float(rng.exponential(3.0) if rng.random() < 0.4 else rng.exponential(200.0))
            when = when + timedelta(days=0.25 + gap_days)
            keep = _CARRY_OVER if gap_days < 30 else 0.0
            factors_now = keep * factors_now + np.sqrt(1 - keep**2) * rng.normal(size=len(FACTORS))
            own_now = keep * own_now + np.sqrt(1 - keep**2) * rng.normal(size=len(names))
        factors = np.sqrt(_LASTING) * np.array(patient.chronic) + np.sqrt(1 - _LASTING) * factors_now
        scores = loadings @ factors + residual * (np.sqrt(lasting) * own + np.sqrt(1 - lasting) * own_now)
        acuity = float(factors[FACTORS.index("acuity")])
        findings = _findings(patient, index, names=names, scores=scores, acuity=acuity, prior=prior)
        years = (when - patient.first_visit).days // 365
        studies.append(
            Study(
                patient=patient,
                index=index,
                study_id=study_id(patient.seed, patient.index, index),
                when=when,
                age_years=min(patient.age_years + years, 91),
                acuity=acuity,
                findings=findings,
                truth=_truth(findings),
                views=_draw_views(patient, index, acuity=acuity, findings=findings),
            )
        )
        prior = findings
    return tuple(studies)


def _findings(
    patient: Patient,
    index: int,
    *,
    names: tuple[str, ...],
    scores: npt.NDArray[np.float64],
    acuity: float,
    prior: tuple[Finding, ...],
) -> tuple[Finding, ...]:
    """Threshold each latent score at its prevalence; how far it lies in the tail is the severity in (0, 1)."""
    found: list[Finding] = []
    for name, score in zip(names, scores, strict=True):
        share = prevalence(name, patient.settings.prevalence)
        tail = 1 - NormalDist().cdf(float(score))
        if tail >= share:
            continue
        rng = generator(patient.seed, Stream.PLACE, patient.index, index, PATHOLOGIES.index(name))
        severity = 1 - tail / share
        before = [finding for finding in prior if finding.pathology == name]
        if name == "Support Devices":
            found.extend(place_devices(rng, severity=severity, acuity=acuity, before=before, others=found))
        else:
            found.append(place_finding(rng, name, severity=severity, before=before))
    return (*found, *_confounders(patient, index, found))


def _confounders(patient: Patient, index: int, found: Sequence[Finding]) -> list[Finding]:
    """A drain for a pneumothorax that has no device yet, as often as `confounding` says."""
    rng = generator(patient.seed, Stream.CONFOUNDER, patient.index, index)
    if rng.random() >= patient.settings.confounding or any(f.pathology == "Support Devices" for f in found):
        return []
    return [place_drain(rng, f) for f in found if f.pathology == "Pneumothorax"]


def _truth(findings: tuple[Finding, ...]) -> tuple[int, ...]:
    present = {finding.pathology for finding in findings}
    if present & set(CHILDREN_OF_OPACITY):
        present.add("Lung Opacity")
    if not present - {"Support Devices"}:
        present.add("No Finding")
    return tuple(int(name in present) for name in PATHOLOGIES)


def _draw_views(patient: Patient, index: int, *, acuity: float, findings: tuple[Finding, ...]) -> tuple[View, ...]:
    """The sick are filmed AP at the bedside, the others PA and lateral in the department."""
    rng = generator(patient.seed, Stream.ORDER, patient.index, index)
    has_device = any(finding.pathology == "Support Devices" for finding in findings)
    logit = -0.75 + 0.7 * acuity + 0.8 * has_device + 0.3 * patient.chronic[-1]
    if any(finding.pathology == "Edema" for finding in findings):
        logit += 4 * patient.settings.confounding
    if rng.random() < 1 / (1 + np.exp(-logit)):
        return (("AP",), ("AP", "AP"), ("AP", "AP", "AP"))[int(rng.choice(3, p=[0.86, 0.11, 0.03]))]
    lateral: View = "LATERAL" if rng.random() < 0.7 else "LL"
    orders: tuple[tuple[View, ...], ...] = (
        ("PA", lateral),
        ("PA",),
        ("PA", "PA", lateral),
        ("AP", lateral),
        (lateral,),
    )
    return orders[int(rng.choice(5, p=[0.77, 0.09, 0.06, 0.07, 0.01]))]
