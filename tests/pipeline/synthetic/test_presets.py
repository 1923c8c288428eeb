"""Presets are frozen: three studies of each are pinned, so that results of one version stay comparable."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import dcmread

from components.cxr.errors import UserError
from pipeline.synthetic import Settings, generate
from pipeline.synthetic.dataset import draw_data
from pipeline.synthetic.films import frontal
from pipeline.synthetic.films.films import render_film
from pipeline.synthetic.patients import draw_patient
from pipeline.synthetic.places import Shown, place_finding
from pipeline.synthetic.presets import PRESETS, PresetName
from pipeline.synthetic.studies import View, draw_studies

PINNED: dict[PresetName, tuple[int, str, tuple[float, ...]]] = {
    "easy": (
        1,
        "692c938f2a0881b650f49b09979b2ec16cfdc3d89763e545059797bfb8d735e3",
        (-2491.99, 75.07, -588.41, -246.79, 284.29, -4529.17),
    ),
    "medium": (
        1,
        "73a9524769bb0c8c52006e0b2517939572288d88d448ef1244a869f192787289",
        (-2451.17, 152.44, -457.22, -304.68, 122.49, -4467.51),
    ),
    "hard": (
        1,
        "079ffb87529d046fb72ea768aa07d3ad097d4835b952d62aeaffeaf236e2df01",
        (-2400.0, 176.25, -433.68, -329.72, 66.62, -4474.23),
    ),
}
"""Version, SHA-256 of the texts and tables of three studies, projections of their films; others need a new version."""


@pytest.mark.parametrize("preset", list(PRESETS))
def test_three_studies_of_a_preset_are_pinned(preset: PresetName, tmp_path: Path) -> None:
    generate(tmp_path, num_studies=3, settings=Settings(seed=2, preset=preset, prevalence="floor"), size=128)
    version, texts, films = PINNED[preset]
    assert (PRESETS[preset].version, _hash(tmp_path, (".txt", ".gz", ".csv"))) == (version, texts)
    np.testing.assert_allclose(_projections(tmp_path), films, atol=0.1)


def _hash(folder: Path, suffixes: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in suffixes):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _projections(folder: Path) -> npt.NDArray[np.float64]:
    """All films on six random directions: processors differ in the last bit of a pixel or two, which moves them by less
    than .02, where a change of a hundredth in every pixel's noise moves them by more than .1."""
    films = [dcmread(path).pixel_array.astype(np.float64).ravel() for path in sorted(folder.rglob("*.dcm"))]
    pixels = np.concatenate(films)
    directions = np.random.default_rng(0).choice((-1.0, 1.0), size=(6, len(pixels)))
    return np.asarray(directions @ pixels / np.sqrt(len(pixels)))


def test_harder_presets_show_less_and_report_less() -> None:
    easy, medium, hard = (PRESETS[name] for name in ("easy", "medium", "hard"))
    for one, other in ((easy, medium), (medium, hard)):
        assert one.dimming < other.dimming
        assert one.subclinical < other.subclinical
        assert one.mimics < other.mimics
        assert one.unreported < other.unreported
        assert one.wrong < other.wrong
    assert (hard.unreported, hard.wrong) == (0.20, 0.05)


def test_confounding_links_devices_to_pneumothorax_and_ap_to_edema() -> None:
    shares = []
    for confounding in (0.0, 1.0):
        drawn = draw_data(700, settings=Settings(confounding=confounding, prevalence="floor"))
        studies = [reading.study for patient in drawn.readings for reading in patient]
        collapsed = [study.has("Support Devices") for study in studies if study.has("Pneumothorax")]
        wet = [study.is_portable for study in studies if study.has("Edema")]
        shares.append((np.mean(collapsed), np.mean(wet)))
    assert shares[0][0] < 0.85
    assert shares[1][0] == 1.0
    assert shares[1][1] > max(0.9, shares[0][1] + 0.15)


def test_confounding_outside_0_to_1_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"confounding; found 1\.5"):
        generate(tmp_path / "none", num_studies=1, settings=Settings(confounding=1.5))


@pytest.mark.parametrize("view", ["PA", "LATERAL"])
def test_what_lies_behind_shows_on_the_other_view_only(view: View) -> None:
    study = next(
        study
        for index in range(50)
        for study in draw_studies(draw_patient(index, settings=Settings()), 1)
        if view in study.views
    )
    image = study.views.index(view)
    bare = render_film(study, image, size=96, findings=()).pixels
    mass = place_finding(np.random.default_rng(1), "Lung Lesion", severity=0.9, before=())

    def shown(shows_on: Shown) -> bool:
        film = render_film(study, image, size=96, findings=(replace(mass, shows_on=shows_on),))
        return bool((film.pixels != bare).any())

    assert shown("both")
    assert shown("frontal") == (view == "PA")
    assert shown("lateral") == (view == "LATERAL")


def test_mimics_change_films_without_findings_and_more_in_harder_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bare chests beside films drawn without any mimic."""
    changed = []
    for preset in PRESETS:
        share = []
        for index in range(12):
            study = draw_studies(draw_patient(index, settings=Settings(seed=3, preset=preset)), 1)[0]
            study = replace(study, views=("AP",))
            films = [render_film(study, 0, size=96, findings=()).pixels.astype(int)]
            with monkeypatch.context() as patch:
                patch.setattr(frontal, "paint_mimics", lambda *_: None)
                films.append(render_film(study, 0, size=96, findings=()).pixels.astype(int))
            share.append(float((np.abs(films[0] - films[1]) > 41).mean()))
        changed.append(float(np.mean(share)))
    assert 0.001 < changed[0] < changed[1] < changed[2] < 0.2
