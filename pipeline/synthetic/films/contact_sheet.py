"""Draws films of every finding from mild to gross, captioned, so that a person can judge the generator at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from components.cxr.labels import NO_FINDING, PATHOLOGIES, SUPPORT_DEVICES
from pipeline.synthetic.films.films import Film, render_film
from pipeline.synthetic.places import Finding
from pipeline.synthetic.studies import Study, View

__all__ = ["draw_contact_sheet"]

_TILE, _CAPTION, _ACROSS, _LINE, _LINES = 264, 66, 8, 47, 4
_SEVERITIES = (0.35, 0.65, 0.95)
"""What is looked for on a frontal film; the fourth film of a finding is a lateral one."""
_LATERAL: tuple[View, ...] = ("LATERAL", "LL")

Picture = tuple[Study, int]


def draw_contact_sheet(path: Path, studies: Sequence[Study], *, size: int = 384) -> None:
    """Write a PNG: four films of each of the 14, two of them per row, drawn at `size` pixels."""
    tiles = []
    for pathology in PATHOLOGIES:
        for picture in (*_frontal(studies, pathology), _lateral(studies, pathology)):
            tiles.append(_empty(pathology) if picture is None else _tile(*picture, pathology=pathology, size=size))
    rows = [np.hstack(tiles[start : start + _ACROSS]) for start in range(0, len(tiles), _ACROSS)]
    cv2.imwrite(str(path), np.vstack(rows))


def _frontal(studies: Sequence[Study], pathology: str) -> list[Picture | None]:
    """Studies with a frontal film on which the finding is near each severity, and little else."""
    chosen: list[Picture | None] = []
    pictures = _pictures(studies, pathology, views=("PA", "AP"))
    for severity in _SEVERITIES:
        left = [picture for picture in pictures if picture not in chosen]
        chosen.append(min(left, key=lambda picture: _distance(picture, pathology, severity), default=None))
    return chosen


def _lateral(studies: Sequence[Study], pathology: str) -> Picture | None:
    pictures = _pictures(studies, pathology, views=_LATERAL)
    return min(pictures, key=lambda picture: _distance(picture, pathology, 0.8), default=None)


def _pictures(studies: Sequence[Study], pathology: str, *, views: tuple[View, ...]) -> list[Picture]:
    """The first film with one of the views of each study in which the finding shows on it."""
    hidden = "frontal" if views == _LATERAL else "lateral"
    found = []
    for study in studies:
        images = [image for image, view in enumerate(study.views) if view in views]
        finding = _finding(study, pathology)
        if images and (finding.shows_on != hidden if finding else pathology == NO_FINDING and study.has(NO_FINDING)):
            found.append((study, images[0]))
    return found


def _finding(study: Study, pathology: str) -> Finding | None:
    return next((finding for finding in study.findings if finding.pathology == pathology), None)


def _distance(picture: Picture, pathology: str, severity: float) -> float:
    study = picture[0]
    finding = _finding(study, pathology)
    others = {each.pathology for each in study.findings} - {pathology}
    return abs((finding.severity if finding else severity) - severity) + 0.12 * len(others)


def _tile(study: Study, image: int, *, pathology: str, size: int) -> npt.NDArray[np.uint8]:
    shown = _windowed(render_film(study, image, size=size))
    scale = _TILE / max(shown.shape)
    columns, rows = round(shown.shape[1] * scale), round(shown.shape[0] * scale)
    tile = np.zeros((_TILE + _CAPTION, _TILE), dtype=np.uint8)
    left = (_TILE - columns) // 2
    tile[:rows, left : left + columns] = cv2.resize(shown, (columns, rows), interpolation=cv2.INTER_AREA)
    first = [finding for finding in study.findings if finding.pathology == pathology]
    rest = [finding for finding in study.findings if finding.pathology != pathology]
    head = ", ".join(_words(finding) for finding in first) or pathology
    lines = [
        *_lines([head]),
        *_lines([f"{study.views[image]} {study.age_years}{study.patient.sex}", *map(_words, rest)]),
    ]
    return _captioned(tile, lines)


def _empty(pathology: str) -> npt.NDArray[np.uint8]:
    return _captioned(np.zeros((_TILE + _CAPTION, _TILE), dtype=np.uint8), [pathology, "no such film here"])


def _captioned(tile: npt.NDArray[np.uint8], lines: Sequence[str]) -> npt.NDArray[np.uint8]:
    """The name of what to look for in white, the rest in grey."""
    for line, text in enumerate(lines[:_LINES]):
        at = (3, _TILE + 14 + 15 * line)
        cv2.putText(tile, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.36, 255 if line == 0 else 165, 1, cv2.LINE_AA)
    return tile


def _words(finding: Finding) -> str:
    side = "" if finding.side == "bilateral" else f"{finding.side[0].upper()} "
    if finding.pathology == SUPPORT_DEVICES:
        return f"{side}{finding.kind}"
    return f"{side}{finding.pathology} {finding.severity:.1f}"


def _windowed(film: Film) -> npt.NDArray[np.uint8]:
    low = film.window_center - film.window_width / 2
    return np.asarray(np.clip((film.pixels - low) * (255 / film.window_width), 0, 255).astype(np.uint8))


def _lines(words: Sequence[str]) -> list[str]:
    lines = [""]
    for word in words:
        joined = f"{lines[-1]}, {word}" if lines[-1] else word
        if len(joined) <= _LINE:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines
