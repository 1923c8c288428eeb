"""Draws a grid of films with what is truly on them, so that a person can judge the generator at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.synthetic.films import Film, render_film
from pipeline.synthetic.studies import Study

__all__ = ["draw_contact_sheet"]

_TILE, _CAPTION, _ACROSS, _MAX_STUDIES = 300, 62, 6, 30
_LINES = 4


def draw_contact_sheet(path: Path, studies: Sequence[Study], *, size: int = 512) -> None:
    """Write a PNG: the first image of up to 30 studies, then some lateral ones, drawn at `size` pixels."""
    images = [(study, 0) for study in studies[:_MAX_STUDIES]]
    laterals = [(study, i) for study in studies for i, view in enumerate(study.views) if view in ("LATERAL", "LL")]
    tiles = [_tile(study, image, size=size) for study, image in (*images, *laterals[:_ACROSS])]
    while len(tiles) % _ACROSS:
        tiles.append(np.zeros_like(tiles[0]))
    rows = [np.hstack(tiles[start : start + _ACROSS]) for start in range(0, len(tiles), _ACROSS)]
    cv2.imwrite(str(path), np.vstack(rows))


def _tile(study: Study, image: int, *, size: int) -> npt.NDArray[np.uint8]:
    shown = _windowed(render_film(study, image, size=size))
    scale = _TILE / max(shown.shape)
    columns, rows = round(shown.shape[1] * scale), round(shown.shape[0] * scale)
    tile = np.zeros((_TILE + _CAPTION, _TILE), dtype=np.uint8)
    left = (_TILE - columns) // 2
    tile[:rows, left : left + columns] = cv2.resize(shown, (columns, rows), interpolation=cv2.INTER_AREA)
    words = [f"{study.views[image]} {study.age_years}{study.patient.sex}"]
    for finding in study.findings:
        side = "" if finding.side == "bilateral" else f"{finding.side[0].upper()} "
        name = finding.kind if finding.pathology == "Support Devices" else finding.pathology
        words.append(f"{side}{name}{'' if finding.pathology == 'Support Devices' else f' {finding.severity:.1f}'}")
    if not study.findings:
        words.append("no finding")
    for line, text in enumerate(_lines(words)):
        cv2.putText(tile, text, (3, _TILE + 13 + 14 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.36, 230, 1, cv2.LINE_AA)
    return tile


def _windowed(film: Film) -> npt.NDArray[np.uint8]:
    low = film.window_center - film.window_width / 2
    return np.asarray(np.clip((film.pixels - low) * (255 / film.window_width), 0, 255).astype(np.uint8))


def _lines(words: Sequence[str]) -> list[str]:
    lines = [""]
    for word in words:
        joined = f"{lines[-1]}, {word}" if lines[-1] else word
        if len(joined) <= 50:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines[:_LINES]
