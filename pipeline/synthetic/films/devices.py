"""Paints support devices on a frontal chest: tubes, lines, pacemakers, ports, drains; and wires that are no finding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.synthetic.films.anatomy import mirrored, wall_at
from pipeline.synthetic.films.canvas import Points, closed, curve, tube
from pipeline.synthetic.films.scene import Scene, generator_of, signs_of
from pipeline.synthetic.places import Finding

__all__ = ["paint_devices", "paint_electrodes", "paint_sternal_wires"]


def paint_devices(scene: Scene, findings: Sequence[Finding]) -> None:
    """Add each device's attenuation to `scene.extra`."""
    for finding in findings:
        if finding.pathology == "Support Devices":
            _PAINTERS[finding.kind](scene, finding, generator_of(finding))


def _line(scene: Scene, points: Points, *, width: float, density: float) -> None:
    scene.extra += np.float32(density) * scene.canvas.fill([tube(points, width)], blur=0.0008)


def _hollow(scene: Scene, points: Points, *, width: float) -> None:
    """A tube: faint wall with a radio-opaque stripe."""
    scene.extra += np.float32(0.07) * scene.canvas.fill([tube(points, width)], blur=0.0008)
    scene.extra += np.float32(0.26) * scene.canvas.fill(
        [tube(points + np.array((0.3 * width, 0.0)), 0.0035)], blur=0.0006
    )


def _et_tube(scene: Scene, _: Finding, rng: np.random.Generator) -> None:
    tip = scene.anatomy.hilum_y - 0.065 + 0.02 * rng.normal()
    _hollow(
        scene, curve([(0.012 * rng.normal(), -0.1), (0.004, 0.1), (0.002 + 0.006 * rng.normal(), tip)]), width=0.018
    )


def _ng_tube(scene: Scene, _: Finding, rng: np.random.Generator) -> None:
    tip = 0.85 + 0.03 * rng.normal()
    path = [(0.01 * rng.normal(), -0.1), (0.008, 0.2), (0.012 + 0.006 * rng.normal(), 0.45), (0.02, 0.66)]
    _line(scene, curve([*path, (0.07, 0.76), (0.13 + 0.02 * rng.normal(), tip)]), width=0.0065, density=0.24)


def _central_line(scene: Scene, finding: Finding, rng: np.random.Generator) -> None:
    side = signs_of(finding.side)[0]
    end = (-0.055 + 0.006 * rng.normal(), 0.40 + 0.025 * rng.normal())
    path = [(side * 0.13, -0.08), (side * 0.10, 0.05), (side * 0.065, 0.17), (-0.058 if side < 0 else -0.02, 0.26), end]
    _line(scene, curve(path), width=0.006, density=0.25)


def _picc(scene: Scene, finding: Finding, rng: np.random.Generator) -> None:
    side = signs_of(finding.side)[0]
    end = (-0.058 + 0.006 * rng.normal(), 0.41 + 0.03 * rng.normal())
    path = [(side * 0.56, 0.42), (side * 0.46, 0.27), (side * 0.33, 0.195 + 0.01 * rng.normal()), (side * 0.18, 0.205)]
    _line(scene, curve([*path, (side * 0.07, 0.235), (-0.056, 0.30), end]), width=0.0042, density=0.22)


def _pacemaker(scene: Scene, finding: Finding, rng: np.random.Generator) -> None:
    side = signs_of(finding.side)[0]
    x, y, size = 0.245 + 0.02 * rng.normal(), 0.235 + 0.02 * rng.normal(), 0.9 + 0.2 * rng.random()
    case = [(x - 0.042 * size, y - 0.02), (x, y - 0.036 * size), (x + 0.042 * size, y - 0.02)]
    case += [(x + 0.04 * size, y + 0.025 * size), (x, y + 0.035 * size), (x - 0.04 * size, y + 0.025 * size)]
    scene.extra += np.float32(0.55) * scene.canvas.fill([mirrored(closed(case), side)], blur=0.001)
    vein = [(side * x, y - 0.03), (side * 0.17, 0.195), (side * 0.07, 0.225), (-0.045, 0.29), (-0.058, 0.42)]
    tips = [(0.10 + 0.02 * rng.normal(), 0.62 + 0.01 * rng.normal()), (-0.05, 0.50)]
    for tip in tips[: int(rng.integers(1, 3))]:
        bend = (-0.045, 0.55) if tip[0] > 0 else (-0.068, 0.49)
        _line(scene, curve([*vein, bend, tip]), width=0.0055, density=0.32)


def _port(scene: Scene, finding: Finding, rng: np.random.Generator) -> None:
    side = signs_of(finding.side)[0]
    x, y = side * (0.20 + 0.02 * rng.normal()), 0.28 + 0.02 * rng.normal()
    angle = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    disc = np.stack([x + 0.023 * np.cos(angle), y + 0.021 * np.sin(angle)], axis=1)
    scene.extra += np.float32(0.3) * scene.canvas.fill(
        [disc, 0.5 * disc + 0.5 * np.array([x, y])], levels=[1.0, 0.45], blur=0.001
    )
    _line(
        scene,
        curve([(x, y), (side * 0.13, 0.17), (side * 0.07, 0.19), (-0.055, 0.28), (-0.058, 0.41)]),
        width=0.005,
        density=0.24,
    )


def _chest_tube(scene: Scene, finding: Finding, rng: np.random.Generator) -> None:
    side, entry = signs_of(finding.side)[0], 0.56 + 0.03 * rng.normal()
    wall = wall_at(entry, width=scene.anatomy.chest_width)
    path = [
        (0.52, entry + 0.05),
        (wall, entry),
        (wall - 0.06, entry - 0.09),
        (0.20, 0.30),
        (0.14 + 0.02 * rng.normal(), 0.18),
    ]
    _hollow(scene, mirrored(curve(path), side), width=0.017)


_PAINTERS = {
    "et tube": _et_tube,
    "ng tube": _ng_tube,
    "central line": _central_line,
    "picc": _picc,
    "pacemaker": _pacemaker,
    "port": _port,
    "chest tube": _chest_tube,
}


def paint_sternal_wires(scene: Scene) -> None:
    """Wires of an earlier heart operation: bright, common, and no finding of their own."""
    rings = []
    for y in np.linspace(0.25, 0.56, 6):
        angle = np.linspace(0.3, 2 * np.pi, 14)
        loop = np.stack([0.014 * np.cos(angle), y + 0.009 * np.sin(angle)], axis=1)
        rings.append(tube(loop, 0.0035))
    scene.extra += np.float32(0.28) * scene.canvas.fill(rings, blur=0.0006)


def paint_electrodes(scene: Scene, rng: np.random.Generator) -> None:
    """Monitoring leads that lie on the skin: a distraction, taped on for the film, not reported."""
    for x, y in ((-0.27, 0.24), (0.28, 0.25), (0.25, 0.66))[: int(rng.integers(1, 4))]:
        at_x, at_y = x + 0.03 * rng.normal(), y + 0.03 * rng.normal()
        angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        pad = np.stack([at_x + 0.013 * np.cos(angle), at_y + 0.013 * np.sin(angle)], axis=1)
        scene.extra += np.float32(0.16) * scene.canvas.fill([pad], blur=0.001)
        away = 0.4 * np.sign(x) + 0.1 * rng.normal()
        wire = curve([(at_x, at_y), ((at_x + away) / 2, at_y + 0.08 * rng.normal()), (away * 1.4, at_y + 0.3)])
        scene.extra += np.float32(0.15) * scene.canvas.fill([tube(wire, 0.0035)], blur=0.0006)
