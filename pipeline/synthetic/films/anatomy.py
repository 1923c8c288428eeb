"""A patient's own anatomy, the same on every film: outlines of lungs, heart, bones and vessels in body coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pipeline.synthetic.films.canvas import Points, Stack, curves, tubes
from pipeline.synthetic.keys import Stream, generator
from pipeline.synthetic.patients import Patient

__all__ = ["Anatomy", "Tree", "anatomy_of", "mirrored", "wall_at"]

_WALL_Y = np.array([0.09, 0.115, 0.16, 0.24, 0.38, 0.52, 0.65, 0.80])
_WALL_X = np.array([0.10, 0.15, 0.21, 0.265, 0.318, 0.342, 0.348, 0.346])


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Branching vessels of one lung, as outlines, with the share of full density of each."""

    outlines: Stack
    levels: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """Measures in body coordinates (1 is the film's long side); right is the patient's right, at negative x."""

    chest_width: float
    lung_top: float
    dome_right: float
    dome_left: float
    heart_right: float
    heart_left: float
    heart_top: float
    upper_mediastinum: float
    knob: float
    rib_slope: float
    rib_width: float
    bone: float
    clavicle_tilt: float
    scoliosis: float
    fat: float
    breast: float
    breast_y: float
    hilum_y: float
    emphysema: float
    sternal_wires: bool
    trees: tuple[Tree, Tree]
    """Right and left."""


@lru_cache(maxsize=4)
def anatomy_of(patient: Patient) -> Anatomy:
    """Draw the anatomy from the patient's own generator, age, sex and habitus."""
    rng = generator(patient.seed, Stream.ANATOMY, patient.index)
    n = rng.normal(size=20)
    age = (patient.age_years - 60) / 17
    female = patient.sex == "F"
    dome = 0.665 + 0.030 * n[2] - 0.014 * patient.habitus
    hilum_y = 0.405 + 0.01 * n[15]
    emphysema = max(0.0, 0.25 * n[16] + 0.1 * age)
    return Anatomy(
        chest_width=0.965 + 0.055 * n[0] - 0.025 * female,
        lung_top=0.015 * n[1],
        dome_right=dome + 0.03 * emphysema,
        dome_left=dome + 0.018 + 0.008 * n[3] + 0.03 * emphysema,
        heart_right=0.087 + 0.010 * n[4],
        heart_left=0.166 + 0.021 * n[5] + 0.006 * age,
        heart_top=0.42 + 0.016 * n[6],
        upper_mediastinum=0.057 + 0.009 * n[7] + 0.004 * patient.habitus,
        knob=0.030 + 0.006 * n[8] + 0.005 * age,
        rib_slope=0.13 + 0.022 * n[9],
        rib_width=0.0195 + 0.0012 * n[10] + 0.001 * (not female),
        bone=float(np.clip(1.0 - 0.13 * age + 0.1 * n[11], 0.55, 1.3)),
        clavicle_tilt=0.025 * n[12],
        scoliosis=0.010 * n[13],
        fat=max(0.008, 0.04 + 0.02 * patient.habitus),
        breast=(max(0.15, 0.6 + 0.25 * n[14] + 0.25 * patient.habitus) if female else max(0.0, 0.08 * patient.habitus)),
        breast_y=0.60 + 0.02 * n[17] + 0.015 * age * female,
        hilum_y=hilum_y,
        emphysema=emphysema,
        sternal_wires=bool(0.5 * patient.chronic[1] + 0.87 * n[18] + 0.2 * age > 1.6),
        trees=(_tree(rng, side=-1, hilum_y=hilum_y + 0.012), _tree(rng, side=1, hilum_y=hilum_y - 0.008)),
    )


def wall_at(y: float, *, width: float) -> float:
    """Half width of the rib cage's inside at a height."""
    return float(np.interp(y, _WALL_Y, _WALL_X)) * width


def mirrored(points: Points, side: int) -> Points:
    """Points drawn for the left of the patient (positive x), taken to `side` (-1 is the patient's right)."""
    return points * (side, 1)


def _tree(rng: np.random.Generator, *, side: int, hilum_y: float) -> Tree:
    """Grow the pulmonary arteries of a lung outward from its hilum, all branches of a generation at once."""
    degrees = np.array([-78.0, -52.0, -28.0, -5.0, 18.0, 40.0, 60.0, 80.0])
    start_y = hilum_y + 0.045 * degrees / 80 + 0.006 * rng.normal(size=8)
    start = np.stack([0.078 + 0.012 * rng.random(8), start_y], axis=1)
    angle = np.deg2rad(degrees + 7 * rng.normal(size=8))
    width = np.where(degrees > 20, 0.0135, 0.011)
    outlines, levels = [], []
    for generation in range(4):
        reach = 0.085 * 0.82**generation * rng.uniform(0.75, 1.25, size=len(angle))[:, None] / 2
        bent = angle + 0.25 * rng.normal(size=len(angle))
        middle = start + reach * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        end = middle + reach * np.stack([np.cos(bent), np.sin(bent)], axis=1)
        lines = curves(np.stack([start, middle, end], axis=1), num=4)
        outlines.append(tubes(lines, width[:, None] * np.linspace(1, 0.72, lines.shape[1])) * (side, 1))
        levels.append(np.clip(0.25 + 60 * width, 0.25, 1.0))
        fork = rng.uniform(0.2, 0.55, size=(len(angle), 2)) * (-1, 1)
        start, angle = np.repeat(end, 2, axis=0), (bent[:, None] + fork).ravel()
        width = (width[:, None] * rng.uniform(0.55, 0.78, size=(len(width), 2))).ravel()
    return Tree(outlines=np.concatenate(outlines[::-1]), levels=np.concatenate(levels[::-1]))
