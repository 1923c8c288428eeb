"""Paints what looks like a finding and is none: skin folds, nipples, fat pads, calcified cartilage, shallow breath.

None of it depends on the truth. The frontal painter calls it once per film.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.synthetic.films.anatomy import mirrored, wall_at
from pipeline.synthetic.films.canvas import curve, tube
from pipeline.synthetic.films.scene import Scene

__all__ = ["Mimics", "paint_mimics"]


@dataclass(frozen=True, kw_only=True)
class Mimics:
    """Two sources of chance: what belongs to the film, and what stays the patient's own."""

    of_film: np.random.Generator
    of_patient: np.random.Generator
    factor: float
    """Factor on the rates, 0 for none."""
    age_score: float
    """(age - 60) / 17: cartilage calcifies with age."""


def paint_mimics(scene: Scene, mimics: Mimics) -> None:
    """Add the mimics to `scene`, after the findings."""
    scene.gain = 1.0
    rng, factor = mimics.of_film, mimics.factor
    _shallow_breath(scene, factor)
    draws = rng.random(4)
    if draws[0] < factor * (0.16 if scene.pose.is_ap else 0.04):
        _skin_fold(scene, rng)
    _nipples(scene, rng, mimics.of_patient, shown=bool(draws[1] < 0.5 * factor))
    _fat_pads(scene, mimics.of_patient, factor)
    _cartilage(scene, mimics.of_patient, factor=factor, age_score=mimics.age_score)


def _shallow_breath(scene: Scene, factor: float) -> None:
    """Vessels crowd and the bases turn hazy, as in mild edema or atelectasis."""
    shallow = float(np.clip(-0.4 - scene.pose.breath, 0, 2)) * min(factor, 1.5)
    if shallow <= 0:
        return
    scene.vessels *= np.float32(1 + 0.25 * shallow)
    y = 0.5 * (scene.domes[-1] + scene.domes[1]) - 0.06
    haze = scene.canvas.blob(-0.15, y, 0.12, 0.06) + scene.canvas.blob(0.15, y, 0.12, 0.06)
    scene.cloud_over(np.float32(0.11 * shallow) * haze)


def _skin_fold(scene: Scene, rng: np.random.Generator) -> None:
    """An edge along the side of the chest, like a pneumothorax; but it fades inward and vessels cross it."""
    sign = 1 if rng.random() < 0.5 else -1
    inset, top = 0.03 + 0.05 * rng.random(), 0.18 + 0.1 * rng.random()
    heights = np.linspace(top, top + 0.28 + 0.15 * rng.random(), 6)
    width = scene.anatomy.chest_width
    edge = [(wall_at(y, width=width) - inset - 0.02 * i * rng.random(), y) for i, y in enumerate(heights)]
    line = mirrored(curve(edge), sign)
    lung = scene.lungs[sign]
    for number in range(6):
        shifted = line - np.array((sign * 0.005 * number, 0.0))
        scene.extra += np.float32(0.055 * 0.7**number) * scene.canvas.fill([tube(shifted, 0.006)], blur=0.0012) * lung


def _nipples(scene: Scene, rng: np.random.Generator, own: np.random.Generator, *, shown: bool) -> None:
    """A round shadow over each lower lung; on some films only one side casts it."""
    place, radius = own.normal(size=2), 0.010 + 0.004 * own.random()
    sides = rng.random(2)
    jitter = 0.006 * rng.normal(size=2)
    if not shown:
        return
    for sign, draw in zip((-1, 1), sides, strict=True):
        if draw < 0.7:
            x, y = sign * (0.205 + 0.02 * place[0]) + jitter[0], scene.anatomy.breast_y + 0.02 * place[1] + jitter[1]
            scene.extra += np.float32(0.085) * scene.canvas.blob(x, y, radius, radius)


def _fat_pads(scene: Scene, own: np.random.Generator, factor: float) -> None:
    """Fat beside the heart's lower border, like basal consolidation or a little fluid."""
    draws, size = own.random(2), 0.02 + 0.015 * own.random()
    for sign, draw in zip((-1, 1), draws, strict=True):
        if draw < 0.22 * factor:
            x = sign * (scene.anatomy.heart_left if sign > 0 else scene.anatomy.heart_right)
            pad = scene.canvas.blob(x, scene.domes[sign] - 0.01, 1.3 * size, size)
            scene.cloud_over(np.float32(0.5) * pad * scene.lungs[sign])


def _cartilage(scene: Scene, own: np.random.Generator, *, factor: float, age_score: float) -> None:
    """Calcified cartilage of the first ribs, like an apical nodule."""
    draws, place = own.random(2), own.normal(size=2)
    for sign, draw in zip((-1, 1), draws, strict=True):
        if draw < factor * (0.2 + 0.1 * age_score):
            at = (sign * (0.095 + 0.008 * place[0]), 0.235 + 0.01 * place[1])
            scene.extra += np.float32(0.10) * scene.canvas.blob(*at, 0.013, 0.010)
