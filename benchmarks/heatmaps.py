"""`python -m benchmarks.heatmaps`: does any heatmap point at the finding?

On films of the yardstick's patients, whose findings have known places: the place is where the film changes when the
finding is left out of it. A map hits where its highest point lies in that place (the pointing game; Zhang et al. 2018),
with their tolerance of 15 pixels of 224. A map must beat its own average over the other films with the finding: what it
says of every film alike explains none of them. `middle` points at the film's center; `best point` is the one point that
hits most, which no method may know.

Ways: occlusion (Zeiler and Fergus 2014), squared gradients and gradient x difference from the blurred film, both
averaged over noisy copies (Smilkov et al. 2017), Grad-CAM (Selvaraju et al. 2017) and HiResCAM (Draelos and Carin 2020)
of the last feature map; and what each place adds to the expert of patches (components/cxr/model/heatmaps.py).

Shape letters: F films of one finding, H and W pixels, N resamples.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
import typer
from torch import Tensor

from benchmarks.resampled import redrawn
from components.cxr.bundle import Bundle, load_bundle
from components.cxr.cli import run_cli
from components.cxr.films.pixels import fit
from components.cxr.model.batch import Batch, Study, collate
from components.cxr.model.heatmaps import heatmaps
from components.cxr.model.network import positive_score
from components.cxr.progress import track
from components.cxr.storage.pointers import read_pointer
from components.cxr.storage.storage import Root, open_storage
from pipeline.synthetic.dataset import draw_data
from pipeline.synthetic.films.films import render_film
from pipeline.synthetic.presets import Settings
from pipeline.synthetic.studies import Study as SyntheticStudy

__all__ = ["METHODS", "Pointed", "hit", "place_of"]

SEED = 40_003
"""Of patients that no training has seen."""
DRAWN = 128
TOLERANCE = 15 / 224
"""Of a film's side."""
FAINTEST = 60
"""Of 4,095: a finding that changes no pixel by more is not to be seen."""
NUM_RESAMPLES = 1_000

Pixels = npt.NDArray[np.uint8]
Place = npt.NDArray[np.bool_]
Heat = npt.NDArray[np.float64]


class Pointed(NamedTuple):
    """One film with one of its findings."""

    pathology: str
    film_HW: Pixels
    view_position: str
    place_HW: Place
    patient: int


def main(
    root: Annotated[str, typer.Option(help="Root of a run, whose newest model is asked.")] = "runs/demo",
    bundle: Annotated[str | None, typer.Option(help="Ask this model in place of the root's.")] = None,
    films: Annotated[int, typer.Option(min=2, help="Of each finding.")] = 40,
    studies: Annotated[int, typer.Option(min=10, help="Drawn to find them.")] = 800,
) -> None:
    """Print the table and one line of JSON."""
    torch.set_num_threads(1)
    model = load_bundle(open_storage(bundle or read_pointer(Root(root), "bundle", made_by="train")))
    pathologies = model.info.pathologies
    found = draw(studies, size=model.info.pixel_preset.size, most=films, pathologies=pathologies)
    maps: dict[str, list[Heat]] = {name: [] for name in METHODS}
    for each in track(found, total=len(found), what="heatmaps", unit="films", size=lambda _: 1):
        for name, method in METHODS.items():
            maps[name].append(method(model, each, pathologies.index(each.pathology)))
    print(json.dumps(report(found, maps)))


def draw(studies: int, *, size: int, most: int, pathologies: tuple[str, ...]) -> list[Pointed]:
    """Frontal films on which a finding is to be seen, at most `most` of each finding and one of each study for it."""
    drawn = draw_data(studies, settings=Settings(seed=SEED, preset="medium", prevalence="floor"))
    counts = dict.fromkeys(pathologies, 0)
    found = []
    for study in (reading.study for patient in drawn.readings for reading in patient):
        frontal = next((image for image, view in enumerate(study.views) if view in ("PA", "AP")), None)
        for pathology in {finding.pathology for finding in study.findings} & counts.keys():
            if frontal is None or counts[pathology] >= most:
                continue
            if (pointed := _pointed(study, frontal, pathology, size=size)) is not None:
                found.append(pointed)
                counts[pathology] += 1
    return sorted(found, key=lambda each: pathologies.index(each.pathology))


def _pointed(study: SyntheticStudy, image: int, pathology: str, *, size: int) -> Pointed | None:
    others = tuple(finding for finding in study.findings if finding.pathology != pathology)
    film, without = (render_film(study, image, size=DRAWN, findings=shown) for shown in (study.findings, others))
    place = place_of(film.pixels, without.pixels)
    if place is None:
        return None
    low = film.window_center - film.window_width / 2
    gray = np.clip((film.pixels - low) * (255 / film.window_width), 0, 255).astype(np.uint8)
    place_HW = fit(place.astype(np.uint8) * 255, size=size) > 127
    return Pointed(pathology, fit(gray, size=size), study.views[image], place_HW, study.patient.subject_id)


def place_of(film: npt.NDArray[np.uint16], without: npt.NDArray[np.uint16]) -> Place | None:
    """Where a film differs from itself without a finding, filled and widened by the tolerance; None if nowhere."""
    change = cv2.GaussianBlur(np.abs(film.astype(np.float64) - without), (0, 0), 1.0)
    if change.max() < FAINTEST:
        return None
    changed = (change > 0.3 * change.max()).astype(np.uint8)
    outlines, _ = cv2.findContours(changed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(changed, outlines, -1, 1, thickness=-1)
    reach = round(max(film.shape) * TOLERANCE / 2)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.dilate(filled, disc)) > 0


def hit(heat_HW: Heat, place_HW: Place) -> bool:
    """Whether the highest point lies in the place."""
    return bool(place_HW.flat[int(heat_HW.argmax())])


def report(found: list[Pointed], maps: dict[str, list[Heat]]) -> dict[str, float]:
    """Print hit rates per finding and on average, and what each way has over its own average; the first by finding."""
    names = list(dict.fromkeys(each.pathology for each in found))
    columns = ["middle", "best point", *(part for name in maps for part in (name, "its average"))]
    rows: dict[str, list[float]] = {}
    hits: dict[str, dict[str, npt.NDArray[np.float64]]] = {name: {} for name in maps}
    for pathology in names:
        mine = [i for i, each in enumerate(found) if each.pathology == pathology]
        place_FHW = np.stack([found[i].place_HW for i in mine])
        size = place_FHW.shape[1]
        rows[pathology] = [place_FHW[:, size // 2, size // 2].mean(), place_FHW.mean(axis=0).max()]
        for name, every in maps.items():
            own, average = _hits(np.stack([every[i] for i in mine]), place_FHW)
            hits[name][pathology] = own - average
            rows[pathology] += [own.mean(), average.mean()]
    print(f"\n{'share of films hit':<28}{'films':>6}" + "".join(f"{name:>14}" for name in columns))
    for pathology, values in rows.items():
        count = sum(each.pathology == pathology for each in found)
        print(f"{pathology:<28}{count:>6}" + "".join(f"{value:>14.2f}" for value in values))
    print(f"{'mean':<28}{len(found):>6}" + "".join(f"{value:>14.2f}" for value in np.mean(list(rows.values()), axis=0)))
    print("\nless its own average, mean of the findings (95 % interval over patients)")
    gains: dict[str, float] = {}
    for name, by_finding in hits.items():
        gain, low, high = _interval(found, by_finding)
        print(f"{name:<28}{gain:>7.3f} ({low:.3f}, {high:.3f})")
        gains |= {f"{name}_gain": round(gain, 4), f"{name}_gain_low": round(low, 4)}
    shown = next(iter(maps))
    print(f"\n{shown} less its own average, by finding (95 % interval over patients)")
    for pathology, gained in hits[shown].items():
        gain, low, high = _interval(found, {pathology: gained})
        print(f"{pathology:<28}{gain:>7.3f} ({low:.3f}, {high:.3f})")
    return gains


def _hits(heat_FHW: Heat, place_FHW: Place) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """By film: whether its map hits, and whether the average of the others' maps does."""
    scaled_FHW = heat_FHW / np.maximum(np.abs(heat_FHW).max(axis=(1, 2), keepdims=True), 1e-12)
    total_HW = scaled_FHW.sum(axis=0)
    own = [hit(heat_HW, place_HW) for heat_HW, place_HW in zip(heat_FHW, place_FHW, strict=True)]
    average = [hit(total_HW - mine_HW, place_HW) for mine_HW, place_HW in zip(scaled_FHW, place_FHW, strict=True)]
    return np.array(own, dtype=np.float64), np.array(average, dtype=np.float64)


def _interval(found: list[Pointed], by_finding: dict[str, npt.NDArray[np.float64]]) -> tuple[float, float, float]:
    patients, which_F = np.unique([each.patient for each in found], return_inverse=True)
    weight_NF = redrawn(len(patients), np.random.default_rng(0), num=NUM_RESAMPLES)[:, which_F]
    means_N = []
    for pathology, values in by_finding.items():
        weight = weight_NF[:, [each.pathology == pathology for each in found]]
        means_N.append((weight @ values) / np.maximum(weight.sum(axis=1), 1e-9))
    samples_N = np.mean(means_N, axis=0)
    low, high = np.quantile(samples_N[1:], (0.025, 0.975))
    return float(samples_N[0]), float(low), float(high)


def _batch(bundle: Bundle, films: list[Pixels], view: str) -> Batch:
    return collate(
        [Study(films=[film], view_positions=[view], text="", age_years=None, sex=None) for film in films],
        tokenizer=bundle.tokenizer,
        max_tokens=bundle.info.architecture.max_tokens,
        size=bundle.info.pixel_preset.size,
    )


@torch.inference_mode()
def occlusion(bundle: Bundle, each: Pointed, p: int) -> Heat:
    """How far the score falls where a window of a quarter of the side is blurred away, every sixteenth of it."""
    film_HW = each.film_HW
    size = len(film_HW)
    side, step = size // 4, max(1, size // 16)
    blurred_HW = cv2.GaussianBlur(film_HW, (0, 0), size / 8)
    corners = [(y, x) for y in range(0, size - side + 1, step) for x in range(0, size - side + 1, step)]
    films = [film_HW]
    for y, x in corners:
        films.append(film_HW.copy())
        films[-1][y : y + side, x : x + side] = blurred_HW[y : y + side, x : x + side]
    score = positive_score(bundle.model(_batch(bundle, films, each.view_position)))[:, p].numpy()
    fall_HW, count_HW = np.zeros((2, size, size))
    for (y, x), fall in zip(corners, score[0] - score[1:], strict=True):
        fall_HW[y : y + side, x : x + side] += fall
        count_HW[y : y + side, x : x + side] += 1
    return np.asarray(fall_HW / np.maximum(count_HW, 1))


def squared_gradients(bundle: Bundle, each: Pointed, p: int) -> Heat:
    """Mean square of the gradients at noisy copies, blurred."""
    return _blurred((_gradients(bundle, each, p) ** 2).mean(axis=0))


def gradient_by_change(bundle: Bundle, each: Pointed, p: int) -> Heat:
    """Mean gradient times what the film has over its blurred self, where both raise the score; blurred."""
    over_HW = each.film_HW - cv2.GaussianBlur(each.film_HW, (0, 0), len(each.film_HW) / 8).astype(np.float64)
    return _blurred(np.maximum(_gradients(bundle, each, p).mean(axis=0) * over_HW, 0))


def _gradients(bundle: Bundle, each: Pointed, p: int, *, copies: int = 12, noise: float = 0.1) -> Heat:
    """Of the score by the pixels of noisy copies (copies, H, W)."""
    batch = _batch(bundle, [each.film_HW] * copies, each.view_position)
    drawn = np.random.default_rng(0).normal(0, 255 * noise, batch.films_BVHW.shape)
    films_BVHW = (batch.films_BVHW + torch.from_numpy(drawn).float()).requires_grad_()
    score_B = positive_score(bundle.model(replace(batch, films_BVHW=films_BVHW)))[:, p]
    (gradient_BVHW,) = torch.autograd.grad(score_B.sum(), films_BVHW)
    return np.asarray(gradient_BVHW[:, 0].double().numpy())


def grad_cam(bundle: Bundle, each: Pointed, p: int) -> Heat:
    """The last feature map's channels, weighted by their mean gradients."""
    map_Chw, gradient_Chw = _last_map(bundle, each, p)
    return _enlarged(np.maximum((gradient_Chw.mean(axis=(1, 2), keepdims=True) * map_Chw).sum(axis=0), 0), each)


def hires_cam(bundle: Bundle, each: Pointed, p: int) -> Heat:
    """The last feature map times its gradients."""
    map_Chw, gradient_Chw = _last_map(bundle, each, p)
    return _enlarged(np.maximum((gradient_Chw * map_Chw).sum(axis=0), 0), each)


def _last_map(bundle: Bundle, each: Pointed, p: int) -> tuple[Heat, Heat]:
    seen: list[Tensor] = []

    def keep(_: object, __: object, output: Tensor) -> Tensor:
        seen.append(output.detach().requires_grad_())
        return seen[0]

    with bundle.model.vision.register_forward_hook(keep):
        score = positive_score(bundle.model(_batch(bundle, [each.film_HW], each.view_position)))[0, p]
    (gradient,) = torch.autograd.grad(score, seen[0])
    return seen[0].detach()[0].double().numpy(), gradient[0].double().numpy()


def _blurred(heat_HW: Heat) -> Heat:
    return np.asarray(cv2.GaussianBlur(heat_HW, (0, 0), 0.04 * len(heat_HW)))


def _enlarged(heat_hw: Heat, each: Pointed) -> Heat:
    """A bump in the middle of each cell: interpolation would have the highest points of few cells at the border."""
    (height, width), size = heat_hw.shape, len(each.film_HW)
    heat_HW = np.zeros((size, size))
    rows, columns = (np.arange(count) * size // count + size // (2 * count) for count in (height, width))
    heat_HW[np.ix_(rows, columns)] = heat_hw
    return np.asarray(cv2.GaussianBlur(heat_HW, (0, 0), size / (4 * height)))


def patches(bundle: Bundle, each: Pointed, p: int) -> Heat:
    """What the server shows: what each point adds to the answer of the expert of patches, beyond what is usual."""
    map_SS = heatmaps(bundle, [each.film_HW], [each.view_position])[0, p]
    return np.asarray(cv2.resize(map_SS, each.film_HW.shape[::-1], interpolation=cv2.INTER_LINEAR))


METHODS: dict[str, Callable[[Bundle, Pointed, int], Heat]] = {
    "patches": patches,
    "occlusion": occlusion,
    "gradient_sq": squared_gradients,
    "gradient_x": gradient_by_change,
    "grad_cam": grad_cam,
    "hires_cam": hires_cam,
}

if __name__ == "__main__":
    run_cli(main)
