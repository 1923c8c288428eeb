"""Paints findings of lung and pleura on a frontal chest, each by its severity, side, place and own shape."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.synthetic.films.anatomy import mirrored, wall_at
from pipeline.synthetic.films.canvas import Layer, closed, curve, tube
from pipeline.synthetic.films.scene import Scene, gain_of, generator_of, signs_of
from pipeline.synthetic.places import Finding

__all__ = ["paint_opacities", "paint_pleura"]

_ZONE_Y = {"upper": 0.25, "middle": 0.42, "lower": 0.585}


def paint_opacities(scene: Scene, findings: Sequence[Finding]) -> None:
    """Paint what replaces air inside the lung."""
    for finding in findings:
        painter = {
            "Lung Opacity": _hazy,
            "Lung Lesion": _nodules,
            "Edema": _edema,
            "Consolidation": _consolidation,
            "Pneumonia": _pneumonia,
            "Atelectasis": _atelectasis,
        }.get(finding.pathology)
        if painter is not None:
            scene.gain = gain_of(finding)
            painter(scene, finding, generator_of(finding))


def paint_pleura(scene: Scene, findings: Sequence[Finding]) -> None:
    """Paint what lies between lung and chest wall."""
    for finding in findings:
        painter = {
            "Pleural Effusion": _effusion,
            "Pneumothorax": _pneumothorax,
            "Pleural Other": _thickening,
        }.get(finding.pathology)
        if painter is not None:
            scene.gain = gain_of(finding)
            painter(scene, finding, generator_of(finding))


def _edge(layer: npt.NDArray[np.floating], width: float) -> Layer:
    """A smooth step from 0 to 1 as `layer` passes 0, over about `width`."""
    return np.asarray(np.clip(layer / np.float32(width) + np.float32(0.5), 0, 1), dtype=np.float32)


def _hazy(scene: Scene, finding: Finding, rng: np.random.Generator) -> None:
    for sign in signs_of(finding.side):
        y = _ZONE_Y[finding.zone] + 0.04 * rng.normal()
        patch = scene.canvas.blob(sign * (0.19 + 0.03 * rng.normal()), y, 0.06 + 0.02 * rng.random(), 0.055)
        scene.cloud_over((0.25 + 0.3 * finding.severity) * patch)


def _nodules(scene: Scene, finding: Finding, rng: np.random.Generator) -> None:
    sign = signs_of(finding.side)[0]
    number = int(rng.integers(3, 6)) if finding.kind == "nodules" else 1
    for _ in range(number):
        y = _ZONE_Y[finding.zone] + 0.045 * rng.normal() if number == 1 else rng.uniform(0.22, 0.62)
        reach = wall_at(y, width=scene.anatomy.chest_width)
        x = (sign if number == 1 else rng.choice((-1, 1))) * rng.uniform(0.40, 0.85) * reach
        radius = {"nodule": 0.019, "mass": 0.042, "nodules": 0.014}[finding.kind] * (0.85 + 0.6 * finding.severity)
        angle = np.linspace(0, 2 * np.pi, 10, endpoint=False)
        wobble = radius * (1 + 0.10 * rng.normal(size=10))
        outline = [(x + r * np.cos(a), y + r * np.sin(a)) for r, a in zip(wobble, angle, strict=True)]
        scene.cloud_over((0.6 + 0.25 * finding.severity) * scene.canvas.fill([closed(outline)], blur=0.0035))


def _edema(scene: Scene, finding: Finding, rng: np.random.Generator) -> None:
    """Perihilar haze with engorged, blurred vessels and septal lines at the bases."""
    severity = finding.severity
    y = scene.anatomy.hilum_y + 0.05
    haze = np.zeros_like(scene.opacity)
    for sign in (-1, 1):
        haze += scene.canvas.blob(sign * 0.14, y, 0.085 + 0.035 * severity, 0.115 + 0.05 * severity)
    patchy = 1 + 0.22 * scene.canvas.cloud(rng, 0.04) + 0.12 * scene.canvas.cloud(rng, 0.015)
    scene.cloud_over((0.05 + 0.20 * severity) * haze * np.clip(patchy, 0.3, 1.7))
    scene.vessels *= 1.15 + 0.65 * severity
    lines = []
    for sign in (-1, 1):
        for number in range(5):
            at = 0.55 + 0.024 * number + 0.004 * rng.normal()
            end = wall_at(at, width=scene.anatomy.chest_width) - 0.004
            lines.append(tube(np.array([(sign * (end - 0.035), at - 0.004), (sign * end, at)]), 0.0034))
    scene.cloud_over((0.15 + 0.4 * severity) * scene.canvas.fill(lines, blur=0.001))


def _consolidation(scene: Scene, finding: Finding, rng: np.random.Generator) -> None:
    """A dense, nearly lobar opacity with air-filled bronchi inside."""
    canvas, size = scene.canvas, 0.055 + 0.045 * finding.severity
    for sign in signs_of(finding.side):
        x, y = sign * (0.18 + 0.02 * rng.normal()), _ZONE_Y[finding.zone] + 0.025 * rng.normal()
        field = canvas.blob(x, y, 1.15 * size, size, degrees=20 * rng.normal()) + 0.10 * canvas.cloud(rng, 0.05)
        region = canvas.soften(_edge(field - 0.45, 0.22), 0.006)
        fan = [curve([(sign * 0.09, 0.42), (x + dx * size, y + dy * size), (x + 1.8 * dx * size, y + 1.6 * dy * size)])
               for dx, dy in ((-0.4, 0.3), (0.1, 0.1), (0.5, -0.2))]  # fmt: skip
        bronchi = canvas.fill([tube(line, np.linspace(0.011, 0.004, len(line))) for line in fan], blur=0.0015)
        scene.cloud_over((0.55 + 0.3 * finding.severity) * region * (1 - 0.45 * bronchi))


def _pneumonia(scene: Scene, finding: Finding, rng: np.random.Generator) -> None:
    """Several ill-defined patches around one place."""
    canvas = scene.canvas
    for sign in signs_of(finding.side):
        x, y = sign * (0.19 + 0.03 * rng.normal()), _ZONE_Y[finding.zone] + 0.03 * rng.normal()
        spread = 0.05 + 0.025 * finding.severity
        patches = np.zeros_like(scene.opacity)
        for _ in range(5):
            at_x, at_y = x + spread * rng.normal(), y + spread * rng.normal()
            patches += canvas.blob(at_x, at_y, *(0.018 + 0.022 * rng.random(2)), degrees=180 * rng.random())
        mottled = np.clip(patches, 0, 1.3) * np.clip(1 + 0.35 * canvas.cloud(rng, 0.022), 0.2, 2)
        scene.cloud_over((0.32 + 0.33 * finding.severity) * mottled)


def _atelectasis(scene: Scene, finding: Finding, rng: np.random.Generator) -> None:
    """Plates or a wedge at the base; `frontal.py` raises the dome on that side."""
    canvas, severity = scene.canvas, finding.severity
    for sign in signs_of(finding.side):
        base = min(_ZONE_Y[finding.zone] + 0.05, scene.domes[sign] - 0.03)
        if finding.kind == "linear":
            for number in range(1 + round(2 * severity)):
                y, tilt = base - 0.03 * number + 0.012 * rng.normal(), 0.03 * rng.normal()
                x0, x1 = 0.10 + 0.05 * rng.random(), 0.23 + 0.07 * rng.random()
                line = mirrored(
                    curve([(x0, y + tilt), ((x0 + x1) / 2, y + 0.006 * rng.normal()), (x1, y - tilt)]), sign
                )
                plate = canvas.fill([tube(line, 0.009 + 0.008 * severity)], blur=0.0025)
                scene.cloud_over((0.5 + 0.3 * severity) * plate)
        else:
            wedge = canvas.blob(
                sign * 0.14, base + 0.03, 0.07 + 0.03 * severity, 0.030 + 0.015 * severity, degrees=-18 * sign
            )
            scene.cloud_over((0.42 + 0.32 * severity) * wedge * np.clip(1 + 0.2 * canvas.cloud(rng, 0.03), 0.4, 1.6))


def _effusion(scene: Scene, finding: Finding, rng: np.random.Generator) -> None:
    """Fluid below a meniscus that climbs along the wall; in some supine patients a veil that thickens downward."""
    x, y = scene.canvas.grid
    layering = scene.pose.is_ap and rng.random() < 0.35
    for sign in signs_of(finding.side):
        amount = float(np.clip(finding.severity + 0.15 * rng.normal(), 0.05, 1.1))
        lung = scene.lungs[sign]
        level = scene.domes[sign] + 0.064 - 0.20 * amount**1.4
        if layering:
            scene.cloud_over((0.14 + 0.30 * amount) * lung * np.clip((y - 0.22) / 0.42, 0, 1) ** 1.5)
            level += 0.05
        wall = wall_at(level, width=scene.anatomy.chest_width)
        lateral = np.clip((np.float32(sign) * x - np.float32(wall - 0.16)) / np.float32(0.16), 0, 1.2)
        medial = np.clip((np.float32(0.12) - np.float32(sign) * x) / np.float32(0.1), 0, 1.2)
        surface = np.float32(level) - np.float32(0.035 + 0.045 * amount) * lateral**3 - np.float32(0.02) * medial**2
        inside: Layer = np.minimum(3 * lung, 1)
        scene.cloud_over(0.96 * inside * _edge(y - surface, 0.014 + 0.012 * amount))


def _pneumothorax(scene: Scene, finding: Finding, rng: np.random.Generator) -> None:
    """The lung falls away from apex and wall: a thin pleural line, and nothing but air beyond it."""
    sign, canvas = signs_of(finding.side)[0], scene.canvas
    lung = scene.lungs[sign]
    depth = 0.006 + 0.115 * finding.severity**1.2
    x, y = canvas.grid
    # the collapsed lung is the lung drawn toward its hilum, more so at the apex
    hilum_y = np.float32(scene.anatomy.hilum_y)
    pull = np.float32(depth) * (np.float32(0.75) + np.clip((np.float32(0.45) - y) / np.float32(0.35), -0.4, 1.0))
    outward_x = np.clip((np.float32(sign) * x - np.float32(0.06)) / np.float32(0.2), 0, 1) * np.float32(sign)
    outward_y = np.clip((y - hilum_y) / np.float32(0.25), -1, 0)
    wave = 1 + 0.08 * canvas.cloud(rng, 0.2)
    source_x, source_y = x + pull * outward_x * wave, y + np.float32(1.2) * pull * outward_y
    pixels = canvas.to_pixels(np.stack([source_x.ravel(), source_y.ravel()], axis=1)).astype(np.float32)
    maps = pixels.reshape(*x.shape, 2)
    fallen = cv2.remap(lung, maps[..., 0], maps[..., 1], cv2.INTER_LINEAR)
    rim = np.clip(lung - fallen, 0, 1)
    line = np.clip(1 - np.abs(canvas.soften(fallen, 0.0015) - 0.5) * 2.2, 0, 1) * _edge(lung - 0.9, 0.2)
    scene.vessels *= 1 - rim
    scene.cloud_over((0.06 + 0.22 * finding.severity) * fallen)
    scene.opacity *= 1 - rim
    scene.extra += (0.05 + 0.09 * finding.severity) * line - 0.075 * rim * lung


def _thickening(scene: Scene, finding: Finding, rng: np.random.Generator) -> None:
    """An apical cap, a band along the wall, or calcified plaques."""
    canvas, severity = scene.canvas, finding.severity
    width = scene.anatomy.chest_width
    top = scene.anatomy.lung_top
    for sign in signs_of(finding.side):
        thick = 0.012 + 0.022 * severity
        if finding.kind == "apical cap":
            wall = [(0.06, 0.122 + top), (0.125, 0.104 + top), (0.185, 0.135 + top), (0.23, 0.2 + top)]
            line = mirrored(curve(wall), sign)
            band = canvas.fill([tube(line, 3.0 * thick * np.hanning(len(line) + 2)[1:-1])], blur=0.003)
        else:
            start = {"upper": 0.24, "middle": 0.36, "lower": 0.46}[finding.zone] + 0.02 * rng.normal()
            line = mirrored(
                curve([(wall_at(y, width=width) - 0.003, y) for y in np.linspace(start, start + 0.2, 5)]), sign
            )
            lumps = np.hanning(len(line) + 2)[1:-1] * np.clip(1 + 0.35 * rng.normal(size=len(line)), 0.3, 2)
            band = canvas.fill([tube(line, 2.2 * thick * lumps)], blur=0.0025)
        if finding.kind == "plaques":
            scene.extra += (0.10 + 0.10 * severity) * band * scene.lungs[sign]
        scene.cloud_over((0.7 + 0.2 * severity) * band)
