"""Paints the frontal (PA or AP) chest as attenuation: 0 is air outside the body, about 1 the mediastinum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.synthetic.films.anatomy import Anatomy, mirrored, wall_at
from pipeline.synthetic.films.canvas import Canvas, Layer, Points, Stack, closed, curve, curves, tube, tubes
from pipeline.synthetic.films.devices import paint_devices, paint_sternal_wires
from pipeline.synthetic.films.lesions import paint_opacities, paint_pleura
from pipeline.synthetic.films.mimics import Mimics, paint_mimics
from pipeline.synthetic.films.scene import Pose, Scene, generator_of, signs_of
from pipeline.synthetic.places import Finding

__all__ = ["paint_frontal"]

_LUNG_AIR = 0.62


def paint_frontal(
    canvas: Canvas, anatomy: Anatomy, pose: Pose, findings: Sequence[Finding], mimics: Mimics | None = None
) -> Layer:
    """Attenuation (rows, columns) float32 of a frontal chest with its findings, about 0 to 1.6."""
    scene = Scene(canvas=canvas, anatomy=anatomy, pose=pose)
    body = _body(canvas, anatomy)
    domes = {-1: anatomy.dome_right, 1: anatomy.dome_left}
    for finding in findings:
        if finding.pathology == "Atelectasis":
            for sign in signs_of(finding.side):
                domes[sign] -= 0.008 + 0.035 * finding.severity
    for sign in (-1, 1):
        scene.domes[sign] = domes[sign] + 0.018 * pose.breath - 0.04 * pose.is_ap
        scene.lungs[sign] = canvas.fill([_lung(anatomy, sign, scene.domes[sign])], blur=0.002)
    heart = _heart(canvas, anatomy, pose, findings)
    paint_opacities(scene, findings)
    paint_pleura(scene, findings)
    if mimics is not None:
        paint_mimics(scene, mimics)
    both = np.maximum(scene.lungs[-1], scene.lungs[1])
    depth = 0.55 * both + 0.45 * canvas.soften(both, 0.05) * both  # thinner toward the edges
    air = depth * (1 - scene.opacity) * (1 - 0.93 * heart)
    vessels = _vessels(scene) * both * (1 - heart)
    total = body * (0.97 + 0.06 * canvas.soften(1 - both, 0.06))
    total -= (_LUNG_AIR + 0.06 * min(anatomy.emphysema, 1)) * air
    total += 0.17 * vessels * scene.vessels * (1 - 0.75 * scene.opacity)
    total += 0.10 * heart
    total += _skeleton(scene, findings) * np.minimum(body * 2, 1)
    total -= _airways(canvas, anatomy, pose)
    total -= _stomach_bubble(canvas, scene.domes[1])
    total += _breasts(canvas, anatomy) * body
    if anatomy.sternal_wires:
        paint_sternal_wires(scene)
    paint_devices(scene, findings)
    return np.asarray(total + scene.extra, dtype=np.float32)


def _body(canvas: Canvas, anatomy: Anatomy) -> Layer:
    """Trunk, shoulders, neck and arms, thinner toward the flanks."""
    w, fat = anatomy.chest_width, anatomy.fat
    flank = 0.36 * w + fat
    right = [(0.085 + 0.5 * fat, -0.2), (0.085 + 0.5 * fat, 0.0), (0.16, 0.055 - 0.3 * fat), (0.30, 0.10 - 0.4 * fat)]
    right += [(0.42 + fat, 0.17), (0.47 + fat, 0.28), (0.48 + fat, 0.6), (0.5 + fat, 1.2)]
    outer = curve(right)
    whole = canvas.fill([np.concatenate([outer, mirrored(outer, -1)[::-1]])], blur=0.004)
    gap = [(flank + 0.012, 0.42), (flank + 0.04, 0.47), (flank + 0.12, 0.8), (flank + 0.12, 1.2)]
    gap += [(flank, 1.2), (flank + 0.004, 0.8), (flank + 0.002, 0.6)]
    gaps = canvas.fill([closed(gap), mirrored(closed(gap), -1)], blur=0.005)

    def thickness(x: Layer, y: Layer) -> Layer:
        profile = np.sqrt(np.clip(np.float32(1.04) - (x / np.float32(flank + 0.09)) ** 2, 0.16, 1.0))
        return np.asarray(profile + np.float32(0.5) * np.clip(y - np.float32(0.62), 0, 0.3))

    return np.asarray(whole * canvas.smooth(thickness, 0.04) * (1 - 0.85 * gaps), dtype=np.float32)


def _lung(anatomy: Anatomy, sign: int, dome: float) -> Points:
    w, top = anatomy.chest_width, anatomy.lung_top
    wall = [(0.035, 0.15 + top), (0.075, 0.112 + top), (0.125, 0.104 + top), (0.185, 0.135 + top)]
    wall += [(wall_at(y, width=w), y) for y in (0.2, 0.28, 0.38, 0.5, 0.6, dome + 0.02)]
    corner = (wall_at(0.75, width=w) - 0.002, dome + 0.095)
    floor = [corner, (0.315 * w, dome + 0.05), (0.25 * w, dome + 0.012), (0.17 * w, dome), (0.09, dome + 0.018)]
    floor += [(0.02, dome + 0.045)]
    medial = [(0.02, dome + 0.045), (0.015, 0.5), (0.02, 0.3), (0.035, 0.15 + top)]
    return mirrored(np.concatenate([curve([*wall, corner]), curve(floor), curve(medial, num=4)]), sign)


def _heart(canvas: Canvas, anatomy: Anatomy, pose: Pose, findings: Sequence[Finding]) -> Layer:
    """Heart and mediastinum as one silhouette, wider on an AP film."""
    large = {finding.pathology: finding for finding in findings}
    scale = (1.07 if pose.is_ap else 1.0) * (1 - 0.04 * max(-1.5, min(pose.breath, 1.5)))
    left, right, top = anatomy.heart_left * scale, anatomy.heart_right * scale, anatomy.heart_top
    if "Cardiomegaly" in large:
        grown = 0.02 + 0.44 * large["Cardiomegaly"].severity
        left, right, top = left * (1 + grown), right * (1 + 0.75 * grown), top - 0.05 * grown
    upper, knob = anatomy.upper_mediastinum * scale * (1 + 0.3 * pose.turn**2), anatomy.knob
    if "Enlarged Cardiomediastinum" in large:
        finding = large["Enlarged Cardiomediastinum"]
        if finding.kind == "wide":
            upper *= 1.08 + 1.1 * finding.severity
        else:
            upper, knob = upper * (1.05 + 0.5 * finding.severity), knob * (1.1 + 1.3 * finding.severity)
    base = 0.5 * (anatomy.dome_right + anatomy.dome_left) + 0.01 + 0.018 * pose.breath - 0.04 * pose.is_ap
    tilt = 0.022 * pose.turn
    outline = [(-upper * 0.8, 0.05), (-upper, 0.18), (-upper, 0.30), (-0.06 - 0.3 * upper, top - 0.02)]
    outline += [
        (-right * 0.98, top + 0.08),
        (-right, 0.5 * (top + base) + 0.06),
        (-right * 0.85, base),
        (-0.04, base + 0.05),
    ]
    outline += [(0.10, base + 0.05), (left * 0.92, base + 0.015), (left, base - 0.045), (left * 0.93, base - 0.11)]
    outline += [(left * 0.70, top + 0.06), (0.062 + 0.25 * upper, top - 0.03)]
    outline += [(upper * 0.9 + 0.006, 0.345), (upper + knob, 0.305), (upper + 0.8 * knob, 0.27), (upper * 0.95, 0.235)]
    outline += [(upper * 0.85, 0.15), (upper * 0.75, 0.05)]
    shape = closed(outline, num=6) + np.array((tilt, 0.0))
    hila = [
        closed([(0.055, y - 0.045), (0.1, y - 0.02), (0.105, y + 0.025), (0.085, y + 0.06), (0.05, y + 0.05)]) * (s, 1)
        for s, y in ((-1, anatomy.hilum_y + 0.012), (1, anatomy.hilum_y - 0.008))
    ]
    soft = 0.45 * canvas.fill([hilum + np.array((tilt, 0.0)) for hilum in hila], blur=0.011)
    return np.asarray(np.maximum(canvas.fill([shape], blur=0.0035), soft))


def _vessels(scene: Scene) -> Layer:
    right, left = scene.anatomy.trees
    outlines, levels = np.concatenate([right.outlines, left.outlines]), np.concatenate([right.levels, left.levels])
    layer = scene.canvas.fill(outlines, levels=levels.tolist(), blur=0.0012)
    texture = np.random.default_rng(round(1e6 * scene.anatomy.hilum_y))
    return layer + np.float32(0.06) * scene.canvas.cloud(texture, 0.012)


def _ribs(anatomy: Anatomy) -> tuple[Stack, Stack]:
    """Posterior parts (20, points, 2), right then left from the top, and anterior parts (14, points, 2)."""
    backs, fronts = [], []
    for number in range(10):
        y = 0.115 + 0.0585 * number
        slope = anatomy.rib_slope * min(1.0, 0.45 + 0.12 * number)
        w = wall_at(y + 0.8 * slope, width=anatomy.chest_width) + 0.004
        backs.append([(0.03, y), (0.42 * w, y - 0.012 + 0.12 * slope), (0.78 * w, y + 0.33 * slope), (w, y + slope)])
        fronts.append(
            [(w, y + slope), (0.9 * w, y + 1.45 * slope), (0.62 * w, y + 1.85 * slope), (0.42 * w, y + 2 * slope)]
        )
    back, front = curves(np.array(backs)), curves(np.array(fronts[:7]))
    return np.concatenate([back * (-1, 1), back]), np.concatenate([front * (-1, 1), front])


def _skeleton(scene: Scene, findings: Sequence[Finding]) -> Layer:
    """Ribs, clavicles, spine and scapulae; a fractured bone is cut and stepped, with callus around an older break."""
    anatomy, canvas, tilt = scene.anatomy, scene.canvas, 0.03 * scene.pose.turn
    backs, fronts = _ribs(anatomy)
    collar = curve([(0.03, 0.195), (0.09, 0.175), (0.17, 0.155), (0.25, 0.135 + anatomy.clavicle_tilt), (0.36, 0.12)])
    clavicles = {sign: [mirrored(collar, sign) + np.array((tilt, 0.0))] for sign in (-1, 1)}
    pieces: dict[int, list[Points]] = {number: [back] for number, back in enumerate(backs)}
    callus: list[Points] = []
    for finding in findings:
        if finding.pathology != "Fracture":
            continue
        rng, sign = generator_of(finding), signs_of(finding.side)[0]
        step = 0.005 + 0.030 * finding.severity
        if finding.kind == "clavicle":
            *clavicles[sign], at = _broken(clavicles[sign][0], 0.5 + 0.1 * rng.random(), 1.5 * step)
            callus.append(_disc(at, 0.014))
            continue
        level = {"upper": 3, "middle": 5, "lower": 7}[finding.zone] + 10 * (sign > 0)
        for number in range(level, level + (3 if finding.kind == "ribs" else 1)):
            *pieces[number], at = _broken(backs[number], 0.62 + 0.2 * rng.random(), step)
            callus.append(_disc(at, 0.007 + 0.018 * finding.severity))
    width, bone = anatomy.rib_width, anatomy.bone
    broken = [part for parts in pieces.values() if len(parts) > 1 for part in parts]
    intact = backs[[number for number, parts in pieces.items() if len(parts) == 1]]
    layer = 0.115 * canvas.fill([*tubes(intact, width), *(tube(rib, width) for rib in broken)], blur=0.0018)
    layer += 0.09 * canvas.fill(tubes(fronts, 1.15 * width), blur=0.0025)
    cores = [*tubes(intact, 0.5 * width), *tubes(fronts, 0.6 * width), *(tube(rib, 0.5 * width) for rib in broken)]
    layer -= 0.045 * canvas.fill(cores, blur=0.002)
    if callus:
        layer += 0.09 * canvas.fill(callus, blur=0.004)
    collars = [part for parts in clavicles.values() for part in parts]
    layer += 0.17 * canvas.fill([tube(part, 0.03) for part in collars], blur=0.002)
    layer -= 0.06 * canvas.fill([tube(part, 0.014) for part in collars], blur=0.003)
    layer += _scapulae(canvas)
    return bone * (layer + _spine(canvas, anatomy, tilt))


def _broken(line: Points, at: float, step: float) -> tuple[Points, Points, Points]:
    """Cut a bone at a share of its length and displace the outer part by `step`."""
    cut = round(at * len(line))
    return line[: cut + 1], line[cut:] + np.array((0.0, step)), line[cut] + np.array((0.0, step / 2))


def _disc(center: Points, radius: float) -> Points:
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    return np.asarray(center + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1))


def _spine(canvas: Canvas, anatomy: Anatomy, tilt: float) -> Layer:
    y = np.linspace(-0.1, 1.1, 25)
    middle = np.stack([anatomy.scoliosis * np.sin(5 * y) + 0.3 * tilt, y], axis=1)
    column = 0.16 * canvas.fill([tube(middle, 0.075)], blur=0.005)
    centers = np.stack([np.zeros(25), y], axis=1)[:, None]
    discs = centers + np.array([(-0.03, -0.005), (0.03, -0.005), (0.03, 0.005), (-0.03, 0.005)])
    spinous = centers + _disc(np.array([0.3 * tilt, 0.026]), 0.008)
    column -= 0.05 * canvas.fill(discs, blur=0.003)
    return column + 0.06 * canvas.fill(spinous, blur=0.002)


def _scapulae(canvas: Canvas) -> Layer:
    blade = closed([(0.30, 0.17), (0.40, 0.16), (0.42, 0.28), (0.37, 0.42), (0.335, 0.44), (0.315, 0.33)])
    head = closed([(0.43, 0.14), (0.5, 0.15), (0.52, 0.23), (0.5, 0.6), (0.46, 0.6), (0.455, 0.24)])
    both = [mirrored(shape, sign) for shape in (blade, head) for sign in (-1, 1)]
    return np.asarray(canvas.fill(both, levels=[0.4, 0.4, 1, 1], blur=0.004) * np.float32(0.13))


def _airways(canvas: Canvas, anatomy: Anatomy, pose: Pose) -> Layer:
    carina = anatomy.hilum_y - 0.035
    x = 0.02 * pose.turn
    trachea = curve([(0.0, -0.05), (0.0 + 0.4 * x, 0.15), (0.006 + x, carina)])
    branches = [
        curve([(x, carina - 0.005), (s * 0.04 + x, carina + 0.03), (s * 0.075, carina + 0.05)]) for s in (-1, 1)
    ]
    outline = [tube(trachea, 0.034), *(tube(branch, 0.02) for branch in branches)]
    return 0.17 * canvas.fill(outline, levels=[1, 0.6, 0.6], blur=0.004)


def _stomach_bubble(canvas: Canvas, dome: float) -> Layer:
    return 0.22 * canvas.fill(
        [closed([(0.10, dome + 0.07), (0.16, dome + 0.04), (0.21, dome + 0.07), (0.16, dome + 0.10)])], blur=0.008
    )


def _breasts(canvas: Canvas, anatomy: Anatomy) -> Layer:
    if anatomy.breast <= 0:
        return np.zeros((canvas.rows, canvas.columns), dtype=np.float32)
    y, size = anatomy.breast_y, 0.75 + 0.3 * anatomy.breast
    shape = [(0.06, y - 0.12 * size), (0.20, y - 0.17 * size), (0.37, y - 0.10 * size), (0.40, y + 0.05 * size)]
    shape += [(0.30, y + 0.125 * size), (0.17, y + 0.12 * size), (0.08, y + 0.05 * size)]
    outline = [mirrored(closed(shape), sign) for sign in (-1, 1)]
    return 0.17 * min(anatomy.breast, 1.3) * canvas.soften(canvas.fill(outline), 0.008)
