"""Where a finding sits and what kind it is; `studies.py` draws it, films show it and reports name it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

__all__ = ["Finding", "Shown", "Side", "Zone", "place_devices", "place_drain", "place_finding"]

Side = Literal["right", "left", "bilateral"]
Zone = Literal["upper", "middle", "lower"]
Shown = Literal["both", "frontal", "lateral"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A finding as it truly is; the shape seed keeps it recognizable from one study to the next."""

    pathology: str
    severity: float
    """From 0 (barely there) to 1 (gross)."""
    side: Side
    """The patient's side: the right lung is on the left of a frontal film."""
    zone: Zone
    kind: str
    shape_seed: int
    shows_on: Shown = "both"
    """The views that show it; a small effusion lies behind the dome, a nodule behind the heart."""


# pathology: weights of (right, left, bilateral), of (upper, middle, lower), and of its kinds
_PLACES: dict[str, tuple[tuple[float, ...], tuple[float, ...], dict[str, float]]] = {
    "Enlarged Cardiomediastinum": ((0, 0, 1), (1, 0, 0), {"wide": 0.6, "tortuous aorta": 0.4}),
    "Cardiomegaly": ((0, 0, 1), (0, 0, 1), {"heart": 1.0}),
    "Lung Opacity": ((0.4, 0.4, 0.2), (0.25, 0.3, 0.45), {"hazy": 1.0}),
    "Lung Lesion": ((0.55, 0.45, 0), (0.45, 0.3, 0.25), {"nodule": 0.6, "mass": 0.25, "nodules": 0.15}),
    "Edema": ((0, 0, 1), (0, 1, 0), {"edema": 1.0}),
    "Consolidation": ((0.5, 0.4, 0.1), (0.25, 0.25, 0.5), {"lobar": 1.0}),
    "Pneumonia": ((0.45, 0.35, 0.2), (0.2, 0.25, 0.55), {"patchy": 1.0}),
    "Atelectasis": ((0.25, 0.35, 0.4), (0, 0.15, 0.85), {"linear": 0.6, "basal": 0.4}),
    "Pneumothorax": ((0.55, 0.45, 0), (1, 0, 0), {"apical": 1.0}),
    "Pleural Effusion": ((0.3, 0.3, 0.4), (0, 0, 1), {"free": 1.0}),
    "Pleural Other": ((0.4, 0.3, 0.3), (0.4, 0.3, 0.3), {"apical cap": 0.4, "thickening": 0.4, "plaques": 0.2}),
    "Fracture": ((0.5, 0.5, 0), (0.2, 0.5, 0.3), {"rib": 0.65, "ribs": 0.2, "clavicle": 0.15}),
}
_ONE_VIEW = {
    "Pleural Effusion": (0.62, 0.08, 0.30),
    "Lung Lesion": (0.50, 0.28, 0.22),
    "Enlarged Cardiomediastinum": (0.55, 0.27, 0.18),
}
"""How often a finding shows on both views, the frontal only, the lateral only."""
_VIEWS: tuple[Shown, ...] = ("both", "frontal", "lateral")
_SIDES: tuple[Side, ...] = ("right", "left", "bilateral")
_ZONES: tuple[Zone, ...] = ("upper", "middle", "lower")
_ACUTE = {"et tube": 0.3, "ng tube": 0.25, "central line": 0.3, "picc": 0.25}
_CHRONIC = {"pacemaker": 0.45, "port": 0.3, "picc": 0.25}


def place_finding(rng: np.random.Generator, pathology: str, *, severity: float, before: Sequence[Finding]) -> Finding:
    """Place a new finding, or keep the place of the one seen `before` and change its severity."""
    if before:
        return replace(before[0], severity=severity)
    sides, zones, kinds = _PLACES[pathology]
    return Finding(
        pathology=pathology,
        severity=severity,
        side=_SIDES[int(rng.choice(3, p=sides))],
        zone=_ZONES[int(rng.choice(3, p=zones))],
        kind=str(rng.choice(list(kinds), p=list(kinds.values()))),
        shape_seed=int(rng.integers(2**31)),
        shows_on=_VIEWS[int(rng.choice(3, p=_ONE_VIEW.get(pathology, (1.0, 0.0, 0.0))))],
    )


def place_devices(
    rng: np.random.Generator,
    *,
    severity: float,
    acuity: float,
    before: Sequence[Finding],
    others: Sequence[Finding],
) -> list[Finding]:
    """One to four devices: tubes and lines in the acutely ill, pacemakers and ports in others, drains where needed."""
    kinds = {finding.kind: finding for finding in before if finding.kind in _CHRONIC or rng.random() < 0.6}
    pool = _ACUTE if rng.random() < 1 / (1 + np.exp(-1.5 * acuity)) else _CHRONIC
    num_new = int(rng.integers(1, 2 + round(2 * severity))) if pool is _ACUTE else 1
    names = list(pool)
    weights = np.array(list(pool.values())) / sum(pool.values())
    if not kinds or pool is _ACUTE:
        for name in rng.choice(names, size=min(num_new, len(names)), replace=False, p=weights):
            kinds.setdefault(str(name), _device(rng, str(name), severity=severity, side=None))
    for other in others:
        wanted = 0.45 if other.pathology == "Pneumothorax" else 0.12 * (other.pathology == "Pleural Effusion")
        if other.side != "bilateral" and rng.random() < wanted:
            kinds.setdefault("chest tube", place_drain(rng, other))
    return [replace(finding, severity=severity) for finding in kinds.values()]


def place_drain(rng: np.random.Generator, cause: Finding) -> Finding:
    """The chest tube on the side of a pneumothorax or effusion."""
    return _device(rng, "chest tube", severity=cause.severity, side=cause.side)


def _device(rng: np.random.Generator, kind: str, *, severity: float, side: Side | None) -> Finding:
    left_share = {"pacemaker": 0.9, "port": 0.25, "picc": 0.45, "central line": 0.25}.get(kind, 0.5)
    drawn: Side = "left" if rng.random() < left_share else "right"
    return Finding(
        pathology="Support Devices",
        severity=severity,
        side=side or drawn,
        zone="upper",
        kind=kind,
        shape_seed=int(rng.integers(2**31)),
    )
