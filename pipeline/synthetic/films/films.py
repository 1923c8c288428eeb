"""Turns a study into 12-bit films: pose, paint, expose, collimate, mark."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.synthetic.films.anatomy import anatomy_of
from pipeline.synthetic.films.canvas import Canvas, Layer
from pipeline.synthetic.films.devices import paint_electrodes
from pipeline.synthetic.films.frontal import paint_frontal
from pipeline.synthetic.films.lateral import paint_lateral
from pipeline.synthetic.films.mimics import Mimics
from pipeline.synthetic.films.scene import Pose, Scene
from pipeline.synthetic.keys import Stream, generator
from pipeline.synthetic.places import Finding
from pipeline.synthetic.presets import Preset
from pipeline.synthetic.studies import Study, View

__all__ = ["FULL_SIZE", "Film", "render_film", "shape_of"]

_WHITE = 4095
FULL_SIZE, _FULL_SHORT = 3056, 2544
"""The sides of most films of MIMIC-CXR in pixels."""


@dataclass(frozen=True, kw_only=True)
class Film:
    """A film as the detector delivers it."""

    pixels: npt.NDArray[np.uint16]
    """(rows, columns), 0 to 4095, bright where the body absorbs (MONOCHROME2)."""
    window_center: float
    window_width: float
    """The window a technologist would set, in stored units."""


def render_film(study: Study, image: int, *, size: int, findings: tuple[Finding, ...] | None = None) -> Film:
    """Draw image number `image` of the study with its long side near `size` pixels.

    `findings` replaces the true ones without touching anything else of the film; tests use it.
    """
    patient = study.patient
    view = study.views[image]
    rng = generator(patient.seed, Stream.FILM, patient.index, study.index, image)
    anatomy = anatomy_of(patient)
    rows, columns = shape_of(rng, size, view=view)
    spread = 1.6 if view == "AP" else 1.0
    canvas = Canvas(
        rows,
        columns,
        zoom=float(np.clip(0.97 + 0.055 * rng.normal(), 0.85, 1.1)),
        degrees=float(2.2 * spread * rng.normal()),
        shift=(0.022 * spread * float(rng.normal()), 0.026 * spread * float(rng.normal())),
    )
    pose = Pose(
        is_ap=view == "AP",
        breath=float(rng.normal()) - 0.35 * (view == "AP"),
        turn=float(np.clip(0.45 * spread * rng.normal(), -1, 1)),
    )
    shown = _visible(study.findings if findings is None else findings, view, rules=patient.settings.rules)
    if view in ("PA", "AP"):
        mimics = Mimics(
            of_film=generator(patient.seed, Stream.MIMIC, patient.index, study.index, image),
            of_patient=generator(patient.seed, Stream.MIMIC, patient.index),
            factor=patient.settings.rules.mimics,
            age_score=(study.age_years - 60) / 17,
        )
        attenuation = paint_frontal(canvas, anatomy, pose, shown, mimics)
    else:
        attenuation = paint_lateral(canvas, anatomy, pose, shown)
        if view == "LATERAL" and rng.random() < 0.04:
            attenuation = np.ascontiguousarray(attenuation[:, ::-1])  # hung the other way round
    if view == "AP" and rng.random() < 0.45:
        scene = Scene(canvas=canvas, anatomy=anatomy, pose=pose)
        paint_electrodes(scene, rng)
        attenuation += scene.extra
    grain_rng = generator(patient.seed, Stream.NOISE, patient.index, study.index, image)
    return _expose(attenuation, canvas, rng, grain_rng, view=view, habitus=patient.habitus)


def _visible(findings: tuple[Finding, ...], view: View, *, rules: Preset) -> tuple[Finding, ...]:
    """What this view shows of the findings, at the severity it shows; devices are always as they are."""
    hidden = "lateral" if view in ("PA", "AP") else "frontal"
    shown = []
    for finding in findings:
        if finding.pathology == "Support Devices":
            shown.append(finding)
            continue
        alone = np.random.default_rng(finding.shape_seed + 1).random() < rules.one_view
        if finding.severity < rules.subclinical or (alone and finding.shows_on == hidden):
            continue
        shown.append(replace(finding, severity=finding.severity**rules.dimming))
    return tuple(shown)


def shape_of(rng: np.random.Generator, size: int, *, view: View) -> tuple[int, int]:
    """Rows and columns: the long side is `size`; bedside films are often landscape; full size is 3056 x 2544."""
    aspect = float(rng.uniform(0.82, 1.0))
    if size == FULL_SIZE:
        turned = view == "AP" and rng.random() < 0.5
        return (_FULL_SHORT, size) if turned else (size, _FULL_SHORT)
    short = round(aspect * size)
    if view == "AP" and rng.random() < 0.5:
        return max(short, round(0.86 * size)), size
    return size, short


def _expose(
    attenuation: Layer,
    canvas: Canvas,
    rng: np.random.Generator,
    grain_rng: np.random.Generator,
    *,
    view: View,
    habitus: float,
) -> Film:
    """Scatter, heel effect, quantum noise, detector curve, edge enhancement, collimation and the side marker."""
    rows, columns = attenuation.shape
    scatter = float(np.clip(0.16 + 0.04 * habitus + 0.06 * (view == "AP") + 0.03 * rng.normal(), 0.05, 0.4))
    seen = (1 - scatter) * attenuation + scatter * canvas.soften(attenuation, 0.09)
    slope = 0.11 * rng.normal(size=2)
    seen += np.linspace(-slope[0], slope[0], rows, dtype=np.float32)[:, None]
    seen += np.linspace(-slope[1], slope[1], columns, dtype=np.float32)[None, :]
    seen += _uneven(canvas, rng) * np.minimum(4 * np.maximum(attenuation, 0), 1)
    quanta = float(np.exp(0.35 * rng.normal())) * (0.75 if view == "AP" else 1.0)
    noise = _noise(grain_rng, rows, columns)
    grain = 0.022 / np.sqrt(quanta) * np.sqrt(max(rows, columns) / 512)
    seen += np.float32(grain) * noise * cv2.exp(np.float32(0.55) * (np.clip(seen, 0, 1.6) - 1))
    seen += np.float32(0.25 * rng.random()) * (seen - canvas.soften(seen, 0.006))
    middle, contrast = 0.62 + 0.05 * rng.normal(), float(np.clip(3.4 + 0.45 * rng.normal(), 2.4, 4.6))
    curve = 1 / (1 + cv2.exp(np.float32(contrast) * (np.float32(middle) - seen)))
    black, white = float(rng.uniform(60, 420)), float(rng.uniform(3300, 4000))
    stored = np.float32(black) + np.float32(white - black) * np.clip((curve - 0.08) / 0.88, 0, 1)
    low, high = np.percentile(stored[::4, ::4], (3, 97))
    _collimate(stored, rng, black=black)
    _mark(stored, rng, view=view, white=white)
    width = float(np.clip((high - low) * rng.uniform(0.95, 1.4), 500, _WHITE))
    center = float((low + high) / 2 + rng.uniform(-0.1, 0.1) * width)
    pixels = np.clip(np.rint(stored), 0, _WHITE).astype(np.uint16)
    return Film(pixels=pixels, window_center=round(center), window_width=round(width))


def _uneven(canvas: Canvas, rng: np.random.Generator) -> Layer:
    """Grid cut-off, clothes, blankets and folds of soft tissue: smooth and different on every film."""
    wide, near = (float(share) for share in rng.uniform(0.2, 1.0, size=2))
    return np.float32(0.14 * wide) * canvas.cloud(rng, 0.33) + np.float32(0.085 * near) * canvas.cloud(rng, 0.15)


def _noise(rng: np.random.Generator, rows: int, columns: int) -> Layer:
    """Nearly normal noise of the detector, a little blurred: four random bytes summed, quicker than normals."""
    draws = np.frombuffer(rng.bytes(4 * rows * columns), dtype=np.uint8).reshape(4, rows, columns)
    total = cv2.add(draws[0], draws[1], dtype=cv2.CV_32F) + cv2.add(draws[2], draws[3], dtype=cv2.CV_32F)
    white = (total - np.float32(510)) * np.float32(1 / 147.8)
    return np.asarray(np.float32(0.55) * white + np.float32(0.9) * cv2.GaussianBlur(white, (0, 0), 0.8))


def _collimate(stored: Layer, rng: np.random.Generator, *, black: float) -> None:
    """Blacken the shuttered border on some sides of some films."""
    rows, columns = stored.shape
    if rng.random() > 0.45:
        return
    top, bottom, left, right = (int(share) for share in rng.uniform(0, 0.045, size=4) * (rows, rows, columns, columns))
    level = np.float32(black * 0.5)
    stored[:top], stored[rows - bottom :] = level, level
    stored[:, :left], stored[:, columns - right :] = level, level


def _mark(stored: Layer, rng: np.random.Generator, *, view: View, white: float) -> None:
    """A lead letter beside the shoulder; sometimes a bedside label. Neither depends on what the patient has."""
    rows, columns = stored.shape
    letter = ("L" if rng.random() < 0.6 else "R") if view in ("PA", "AP") else "L"
    x = {"L": 0.90, "R": 0.045}[letter] if view in ("PA", "AP") else 0.06
    at = (int((x + rng.uniform(-0.02, 0.02)) * columns), int(rng.uniform(0.07, 0.16) * rows))
    scale = max(rows, columns) / 512 * float(rng.uniform(0.7, 1.0))
    thick = max(1, round(2 * scale))
    mask = np.zeros((rows, columns), dtype=np.uint8)
    cv2.putText(mask, letter, at, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thick, cv2.LINE_AA)
    if view == "AP" and rng.random() < 0.4:
        where = (int(rng.uniform(0.03, 0.6) * columns), int(0.045 * rows))
        cv2.putText(
            mask, "PORTABLE", where, cv2.FONT_HERSHEY_SIMPLEX, 0.5 * scale, 255, max(1, thick // 2), cv2.LINE_AA
        )
    share = mask.astype(np.float32) / 255
    stored += share * (np.float32(white) - stored)
