"""Synthetic studies whose answers evaluation leaves (`self_check.json`), and every server gives before it is ready.

They are drawn by whole numbers, the same on every machine and of no patient, so that they may lie beside a deployed
model, where the golden studies' films may not.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from components.cxr.bundle_info import BundleInfo
from components.cxr.config import Config
from components.cxr.shards import read_versioned
from components.cxr.storage.storage import Storage
from components.cxr.text.text import request_text

__all__ = ["SELF_CHECK", "Probe", "ProbeLogits", "SelfCheck", "load_self_check", "probes", "write_self_check"]

SCHEMA_VERSION = 1
SELF_CHECK = "self_check.json"
TEXT = "Cough and fever for three days."


class ProbeLogits(Config):
    """The model's output for one study, in the bundle's order of pathologies."""

    score: tuple[float, ...]
    """z1 - z0, uncalibrated."""
    uncertain: tuple[float, ...]
    """3-way probability of uncertain, in [0, 1]."""


class SelfCheck(Config):
    """`self_check.json`."""

    schema_version: int = SCHEMA_VERSION
    studies: tuple[ProbeLogits, ...]
    """By study, in the order of `probes`."""


class Probe(NamedTuple):
    """One synthetic study, as a client would send it."""

    films: tuple[npt.NDArray[np.uint8], ...]
    """H x W at the model's own size, so that reading them changes nothing."""
    view_positions: tuple[str | None, ...]
    text: str = ""
    age_years: float | None = None
    sex: str | None = None


def probes(info: BundleInfo) -> list[Probe]:
    """The studies for a model: films with and without all else and, when it reads a text, a text alone."""
    size = info.pixel_preset.size
    frontal, lateral = _film(size, fields=2), _film(size, fields=1)
    found = [
        Probe((frontal,), ("PA",), TEXT, 63.0, "F"),
        Probe((frontal, lateral), ("AP", "LATERAL")),
        Probe((lateral,), (None,)),
    ]
    reads_text = request_text(TEXT, config=info.text, reader=info.section_reader)
    return [*found, Probe((), (), TEXT)] if reads_text else found


def write_self_check(storage: Storage, check: SelfCheck) -> None:
    """Write it into a folder."""
    storage.write(SELF_CHECK, (json.dumps(check.model_dump(mode="json"), indent=1) + "\n").encode())


def load_self_check(storage: Storage) -> SelfCheck:
    """Read it from an evaluation's or a deployed model's folder.

    Raises:
        FileNotFoundError: none here.
        UserError: not JSON, or another schema version.
    """
    where = f"{storage.uri}/{SELF_CHECK}"
    values = read_versioned(storage.read(SELF_CHECK).data, where=where, version=SCHEMA_VERSION, made_by="evaluate")
    return SelfCheck.parse(values, where=where)


def _film(size: int, *, fields: int) -> npt.NDArray[np.uint8]:
    """A bright field with dark ones where lungs would be, crossed by ribs."""
    y_HW, x_HW = np.mgrid[:size, :size].astype(np.int64)
    film_HW: npt.NDArray[np.int64] = 150 + 80 * y_HW // size + 10 * x_HW // size
    for i in range(1, fields + 1):
        across_HW = (x_HW * (fields + 1) - i * size) * 5
        along_HW = (2 * y_HW - size) * 4
        inside_HW = across_HW**2 + along_HW**2 < (3 * size) ** 2
        film_HW = np.where(inside_HW, film_HW - 110 + 25 * (y_HW * 10 // size % 2), film_HW)
    return film_HW.astype(np.uint8)
