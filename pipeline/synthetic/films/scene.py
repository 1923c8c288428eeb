"""What the painters share while a film is drawn: the canvas, the parts of the chest, and the finding layers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pipeline.synthetic.films.anatomy import Anatomy
from pipeline.synthetic.films.canvas import Canvas, Layer
from pipeline.synthetic.places import Finding, Side

__all__ = ["Pose", "Scene", "gain_of", "generator_of", "signs_of"]


@dataclass(frozen=True, kw_only=True)
class Pose:
    """How the patient was held and filmed; independent of what is truly there, but for AP and PA."""

    is_ap: bool
    breath: float
    """Depth of inspiration as a standard score; shallow breath raises the diaphragm and crowds the vessels."""
    turn: float
    """Rotation about the long axis, in [-1, 1]: mediastinum and clavicles shift to one side."""


@dataclass(kw_only=True)
class Scene:
    """Layers under construction. `opacity` is the share of lung air replaced, per pixel, in [0, 1]."""

    canvas: Canvas
    anatomy: Anatomy
    pose: Pose
    lungs: dict[int, Layer] = field(default_factory=dict)
    """Masks in [0, 1]: -1 right, 1 left (frontal), 0 both (lateral)."""
    domes: dict[int, float] = field(default_factory=dict)
    """Height (y) of the diaphragm's dome on each side."""
    gain: float = 1.0
    """Factor on everything that a painter adds; below 1 for faint findings."""
    opacity: Layer = field(init=False)
    vessels: Layer = field(init=False)
    """Density factor of vessels: 0 where the lung has fallen away, above 1 where they are engorged."""
    extra: Layer = field(init=False)
    """Attenuation of bones and devices, added as it is."""

    def __post_init__(self) -> None:
        shape = (self.canvas.rows, self.canvas.columns)
        self.opacity = np.zeros(shape, dtype=np.float32)
        self.vessels = np.ones(shape, dtype=np.float32)
        self.extra = np.zeros(shape, dtype=np.float32)

    def cloud_over(self, layer: Layer) -> None:
        """Replace the share `layer` in [0, 1] of the air that is left."""
        self.opacity += (1 - self.opacity) * np.clip(np.float32(self.gain) * layer, 0, 1)


def signs_of(side: Side) -> tuple[int, ...]:
    """Signs of x for a side of the patient: -1 right, 1 left."""
    return {"right": (-1,), "left": (1,), "bilateral": (-1, 1)}[side]


def gain_of(finding: Finding) -> float:
    """How strongly a finding is drawn beside its size: a mild one fades out; fluid is as dense as it is."""
    if finding.pathology in ("Pleural Effusion", "Pneumothorax"):
        return 1.0
    return float(min(1.0, 0.15 + 2.4 * finding.severity))


def generator_of(finding: Finding) -> np.random.Generator:
    """The generator of a finding's shape, the same on all films that show it."""
    return np.random.default_rng(finding.shape_seed)
