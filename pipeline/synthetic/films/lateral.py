"""Paints the lateral chest (patient facing the left of the film) as attenuation, with its findings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.synthetic.films.anatomy import Anatomy
from pipeline.synthetic.films.canvas import Canvas, Layer, closed, curve, curves, tube, tubes
from pipeline.synthetic.films.scene import Pose, Scene, gain_of, generator_of
from pipeline.synthetic.places import Finding

__all__ = ["paint_lateral"]

_ZONE_Y = {"upper": 0.24, "middle": 0.42, "lower": 0.6}


def paint_lateral(canvas: Canvas, anatomy: Anatomy, pose: Pose, findings: Sequence[Finding]) -> Layer:
    """Attenuation (rows, columns) float32 of a lateral chest; a pneumothorax hardly shows, as in life."""
    scene = Scene(canvas=canvas, anatomy=anatomy, pose=pose)
    _, y = canvas.grid
    dome = 0.5 * (anatomy.dome_right + anatomy.dome_left) - 0.01 + 0.018 * pose.breath
    chest = [(0.06, 0.125), (-0.06, 0.17), (-0.15, 0.235), (-0.205, 0.36), (-0.235, 0.5), (-0.245, dome + 0.02)]
    floor = [
        (-0.245, dome + 0.02),
        (-0.17, dome - 0.015),
        (-0.05, dome - 0.012),
        (0.08, dome + 0.03),
        (0.19, dome + 0.10),
    ]
    back = [
        (0.255, dome + 0.155),
        (0.292, dome + 0.04),
        (0.30, 0.5),
        (0.275, 0.34),
        (0.21, 0.2),
        (0.13, 0.135),
        (0.06, 0.125),
    ]
    lungs = canvas.fill([np.concatenate([curve(chest), curve([*floor, back[0]]), curve(back)])], blur=0.002)
    scene.lungs[0] = lungs
    heart = _heart(canvas, anatomy, dome, findings)
    for finding in findings:
        _paint(scene, finding, dome)
    fat = anatomy.fat
    front = [
        (0.0, -0.2),
        (-0.05, 0.06),
        (-0.17 - fat, 0.17),
        (-0.245 - fat, 0.33),
        (-0.275 - fat, 0.52),
        (-0.285 - fat, 1.2),
    ]
    rear = [(0.34 + fat, 1.2), (0.36 + 0.8 * fat, 0.55), (0.345 + 0.8 * fat, 0.33), (0.27 + fat, 0.16), (0.17, -0.2)]
    body = canvas.fill([np.concatenate([curve(front), curve(rear)])], blur=0.004)
    arms = canvas.fill([closed([(-0.45, -0.2), (-0.12, 0.13), (0.10, 0.17), (0.25, 0.14), (0.3, -0.2)])], blur=0.02)
    depth = 0.5 * lungs + 0.5 * canvas.soften(lungs, 0.05) * lungs
    thickness = np.float32(0.80) + np.float32(0.45) * np.clip(y - np.float32(0.1), 0, 0.8)
    total = body * thickness + 0.25 * arms * body
    if anatomy.breast > 0.2:
        shape = [(-0.22, 0.45), (-0.30 - fat, 0.52), (-0.33 - fat, 0.60), (-0.26, 0.68), (-0.2, 0.6)]
        total += 0.16 * min(anatomy.breast, 1.3) * canvas.fill([closed(shape)], blur=0.008)
    air = depth * (1 - scene.opacity) * (1 - 0.62 * heart)
    total -= 0.6 * air
    total += (
        0.12
        * canvas.cloud(np.random.default_rng(round(1e6 * anatomy.hilum_y)), 0.016)
        * lungs
        * 0.25
        * scene.vessels
        * (1 - heart)
    )
    total += 0.10 * canvas.blob(0.01, anatomy.hilum_y + 0.01, 0.032, 0.04) * scene.vessels
    total -= 0.15 * canvas.fill(
        [tube(curve([(0.05, 0.0), (0.035, 0.2), (0.02, anatomy.hilum_y - 0.02)]), 0.032)], blur=0.004
    )
    total += _bones(canvas, anatomy, findings) * body
    return np.asarray(total + scene.extra, dtype=np.float32)


def _heart(canvas: Canvas, anatomy: Anatomy, dome: float, findings: Sequence[Finding]) -> Layer:
    grown, wide = 0.0, 0.0
    for finding in findings:
        if finding.pathology == "Cardiomegaly":
            grown = 0.03 + 0.45 * finding.severity
        if finding.pathology == "Enlarged Cardiomediastinum":
            wide = 0.1 + 0.9 * finding.severity
    size = 0.95 + 2 * (anatomy.heart_left - 0.17)
    top, rear = dome - 0.235 * size * (1 + 0.35 * grown), 0.02 + 0.09 * (size - 0.95) + 0.20 * grown
    shape = [(-0.245, dome + 0.03), (-0.25, dome - 0.08), (-0.215, dome - 0.17), (-0.15, top), (-0.075, top + 0.005)]
    shape += [
        (rear - 0.035, dome - 0.155),
        (rear, dome - 0.075),
        (rear - 0.012, dome + 0.01),
        (rear - 0.06, dome + 0.05),
    ]
    heart = canvas.fill([closed(shape)], blur=0.009)
    root = curve([(-0.10, dome - 0.2), (-0.085, 0.36), (-0.01, 0.275), (0.08, 0.31), (0.125, 0.42), (0.13, 0.8)])
    widths = np.interp(np.linspace(0, 1, len(root)), [0, 0.35, 1], [0.075, 0.055, 0.04]) * (1 + wide)
    aorta = canvas.fill([tube(root, widths)], blur=0.006)
    upper = canvas.blob(-0.07, 0.27, 0.06, 0.075)
    return np.asarray(
        np.clip(np.maximum(heart, (0.38 + 0.25 * wide) * aorta) + 0.45 * wide * upper, 0, 1), dtype=np.float32
    )


def _paint(scene: Scene, finding: Finding, dome: float) -> None:
    canvas, severity, rng = scene.canvas, finding.severity, generator_of(finding)
    scene.gain = gain_of(finding)
    x, y = canvas.grid
    at_x = {"upper": 0.06, "middle": -0.05, "lower": 0.13}[finding.zone] + 0.05 * rng.normal()
    at_y = _ZONE_Y[finding.zone] + 0.025 * rng.normal()
    mottle = np.clip(1 + 0.3 * canvas.cloud(rng, 0.025), 0.2, 2)
    match finding.pathology:
        case "Pleural Effusion":
            level = dome + 0.115 - 0.24 * severity**1.4
            climb = np.clip((x - np.float32(0.08)) / np.float32(0.18), 0, 1.2) ** 3 * np.float32(0.03 + 0.05 * severity)
            fluid = np.clip((y - np.float32(level) + climb) / np.float32(0.02) + 0.5, 0, 1)
            scene.cloud_over((0.6 + 0.3 * (finding.side == "bilateral")) * fluid)
        case "Edema":
            scene.cloud_over((0.15 + 0.35 * severity) * canvas.blob(0.0, 0.44, 0.13, 0.14) * mottle)
            scene.vessels *= 1.4 + 0.5 * severity
        case "Consolidation":
            size = 0.06 + 0.035 * severity
            region = np.clip(
                (canvas.blob(at_x, at_y, size, size) + 0.1 * canvas.cloud(rng, 0.05) - 0.45) * 5 + 0.5, 0, 1
            )
            scene.cloud_over((0.35 + 0.25 * severity) * canvas.soften(region.astype(np.float32), 0.006))
        case "Pneumonia" | "Lung Opacity":
            patch = canvas.blob(at_x, at_y, 0.06 + 0.02 * rng.random(), 0.05 + 0.02 * rng.random())
            scene.cloud_over((0.22 + 0.25 * severity) * patch * mottle)
        case "Atelectasis":
            line = curve([(at_x - 0.1, dome - 0.06), (at_x, dome - 0.045), (at_x + 0.08, dome + 0.01)])
            scene.cloud_over((0.3 + 0.2 * severity) * canvas.fill([tube(line, 0.009 + 0.008 * severity)], blur=0.003))
        case "Lung Lesion":
            radius = {"nodule": 0.019, "mass": 0.042, "nodules": 0.015}[finding.kind] * (0.85 + 0.6 * severity)
            scene.cloud_over((0.4 + 0.2 * severity) * canvas.blob(at_x, at_y, 0.6 * radius, 0.6 * radius))
        case "Pneumothorax":
            scene.extra -= 0.04 * severity * scene.lungs[0] * canvas.blob(-0.1, 0.24, 0.06, 0.06)
        case "Pleural Other":
            wall = curve([(0.21, 0.2), (0.275, 0.34), (0.30, 0.5)])
            scene.cloud_over((0.3 + 0.2 * severity) * canvas.fill([tube(wall, 0.016 + 0.02 * severity)], blur=0.004))
        case "Support Devices":
            _device(scene, finding)
        case _:
            pass  # heart and mediastinum are outlines, fractures are bones


def _device(scene: Scene, finding: Finding) -> None:
    paths: dict[str, tuple[list[tuple[float, float]], float, float]] = {
        "et tube": ([(0.06, -0.1), (0.04, 0.15), (0.03, 0.33)], 0.014, 0.15),
        "ng tube": ([(0.08, -0.1), (0.07, 0.3), (0.05, 0.62), (-0.03, 0.8)], 0.006, 0.2),
        "central line": ([(0.0, -0.1), (-0.02, 0.2), (-0.035, 0.42)], 0.005, 0.2),
        "picc": ([(0.05, 0.1), (-0.02, 0.22), (-0.035, 0.44)], 0.004, 0.18),
        "pacemaker": ([(-0.2, 0.25), (-0.05, 0.22), (-0.04, 0.5), (-0.17, 0.62)], 0.0055, 0.28),
        "port": ([(-0.22, 0.3), (-0.06, 0.2), (-0.035, 0.42)], 0.005, 0.2),
        "chest tube": ([(0.1, 0.85), (0.12, 0.5), (0.06, 0.22)], 0.014, 0.15),
    }
    path, width, density = paths[finding.kind]
    scene.extra += np.float32(density) * scene.canvas.fill([tube(curve(path), width)], blur=0.0008)
    if finding.kind in ("pacemaker", "port"):
        case = closed([(-0.235, 0.25), (-0.215, 0.24), (-0.20, 0.30), (-0.225, 0.32)])
        scene.extra += np.float32(0.4) * scene.canvas.fill([case], blur=0.001)


def _bones(canvas: Canvas, anatomy: Anatomy, findings: Sequence[Finding]) -> Layer:
    """Spine with its disc spaces, sternum, and the ribs of both sides crossing."""
    line = curve([(0.145, 0.0), (0.19, 0.2), (0.225, 0.4), (0.215, 0.6), (0.18, 0.85), (0.17, 1.1)], num=12)
    layer = 0.15 * canvas.fill([tube(line, 0.072)], blur=0.004)
    discs = [tube(line[at] + np.array([(-0.034, 0.008), (0.034, -0.008)]), 0.008) for at in range(3, len(line) - 3, 4)]
    layer -= 0.08 * canvas.fill(discs, blur=0.002)
    sternum = curve([(-0.13, 0.215), (-0.21, 0.34), (-0.25, 0.52)])
    layer += 0.16 * canvas.fill([tube(sternum, 0.016)], blur=0.003)
    tops = 0.16 + 0.062 * np.arange(9)[:, None] + np.array([0.0, 0.014])
    shape = np.array([(0.24, 0.0), (0.27, 0.05), (0.05, 0.13), (-0.14, 0.19)])
    lines = shape + np.stack([np.zeros(18), tops.ravel()], axis=1)[:, None]
    layer += 0.05 * canvas.fill(tubes(curves(lines), 0.015), blur=0.002)
    scapula = curve([(0.30, 0.14), (0.33, 0.28), (0.30, 0.42)])
    layer += 0.10 * canvas.fill([tube(scapula, 0.013)], blur=0.003)
    for finding in findings:
        if finding.pathology == "Fracture":
            at = line[18] + np.array([(-0.036, 0.0), (0.036, 0.0)])
            layer += (0.05 + 0.1 * finding.severity) * canvas.fill([tube(at, 0.02)], blur=0.003)
    return anatomy.bone * layer
