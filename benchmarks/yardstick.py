"""How hard the synthetic films are: one fixed small ResNet and one linear model, scored against the latent truth.

`python benchmarks/yardstick.py` prints a table with intervals and ends in one JSON line. The recipe is never tuned: a
change of it voids every earlier number. Films are drawn at 128 px and resized by area to 64; nothing is written but the
cache.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional
from transformers import ResNetConfig, ResNetForImageClassification

from components.cxr.labels import PATHOLOGIES
from components.cxr.progress import track
from pipeline.synthetic.dataset import draw_data
from pipeline.synthetic.films.films import render_film
from pipeline.synthetic.presets import PRESETS, Settings
from pipeline.synthetic.studies import Study

RECIPE = 1
DRAWN, SIZE = 128, 64
STEPS_PER_ROOT, BATCH, RATE, DECAY = 28, 32, 2e-3, 0.05
TEST_STUDIES, TEST_SEED, TRAIN_SEED = 500, 20_001, 10_001
NUM_BOOTSTRAP = 200
SIDES = {"PA": 0, "AP": 1, "LATERAL": 2, "LL": 2}

Films = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Data:
    """The films of some studies, N of them, in M studies."""

    films_NHW: Films
    study_N: npt.NDArray[np.int64]
    meta_N5: npt.NDArray[np.float32]
    """Age in decades, female, and whether PA, AP, lateral."""
    labels_MP: npt.NDArray[np.int64]
    """Mined from the report: 1, 0, -1, and 0 for blank."""
    truth_MP: npt.NDArray[np.int64]
    patient_M: npt.NDArray[np.int64]


def draw(settings: Settings, num_studies: int, *, jobs: int, cache: Path) -> Data:
    """Draw the studies' truth, labels and films; the same arguments are drawn once."""
    rules = PRESETS[settings.preset]
    words = json.dumps([asdict(settings), asdict(rules), num_studies, DRAWN, SIZE, _sources()])
    path = cache / f"{hashlib.sha256(words.encode()).hexdigest()[:16]}.npz"
    if not path.exists():
        data = draw_data(num_studies, settings=settings)
        studies = [reading.study for patient in data.readings for reading in patient]
        total = sum(len(study.views) for study in studies)
        films = list(track(_drawn(studies, jobs), total=total, what="yardstick", unit="films", size=len))
        study_N = np.repeat(np.arange(len(studies)), [len(each) for each in films])
        blank = (0,) * len(PATHOLOGIES)
        labels = [data.labels.get((s.patient.subject_id, s.study_id), blank) for s in studies]
        cache.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            path,
            films_NHW=np.stack([film for each in films for film in each]),
            study_N=study_N,
            meta_N5=np.array([_meta(study, view) for study in studies for view in study.views], dtype=np.float32),
            labels_MP=np.array([[state or 0 for state in row] for row in labels]),
            truth_MP=np.array([study.truth for study in studies]),
            patient_M=np.array([study.patient.index for study in studies]),
        )
    with np.load(path) as arrays:
        return Data(**dict(arrays.items()))


def _drawn(studies: Sequence[Study], jobs: int) -> Iterator[list[Films]]:
    if jobs == 1:
        yield from map(_draw_study, studies)
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_draw_study, studies, chunksize=32)


def _sources() -> str:
    folder = Path(sys.modules[Settings.__module__].__file__ or "").parent
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.rglob("*.py")))).hexdigest()


def _draw_study(study: Study) -> list[Films]:
    cv2.setNumThreads(1)
    drawn = []
    for image in range(len(study.views)):
        film = render_film(study, image, size=DRAWN)
        low = film.window_center - film.window_width / 2
        shown = np.clip((film.pixels - low) * (255 / film.window_width), 0, 255).astype(np.uint8)
        scale = SIZE / max(shown.shape)
        small = cv2.resize(
            shown, (round(shown.shape[1] * scale), round(shown.shape[0] * scale)), interpolation=cv2.INTER_AREA
        )
        square = np.zeros((SIZE, SIZE), dtype=np.uint8)
        top, left = (SIZE - small.shape[0]) // 2, (SIZE - small.shape[1]) // 2
        square[top : top + small.shape[0], left : left + small.shape[1]] = small
        drawn.append(square)
    return drawn


def _meta(study: Study, view: str) -> list[float]:
    return [study.age_years / 10, float(study.patient.sex == "F"), *(float(SIDES[view] == i) for i in range(3))]


def fit_resnet(data: Data, *, seed: int) -> nn.Module:
    """Train from scratch on single films: 14 sigmoid outputs, -1 left out, blank as 0."""
    torch.manual_seed(seed)
    config = ResNetConfig(
        num_channels=1, embedding_size=16, hidden_sizes=[16, 32, 64, 128], depths=[1, 1, 1, 1], layer_type="basic",
        num_labels=len(PATHOLOGIES),
    )  # fmt: skip
    model = ResNetForImageClassification(config)
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    films = torch.from_numpy(data.films_NHW)
    steps = round(STEPS_PER_ROOT * len(films) ** 0.5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    labels_NP = torch.from_numpy(data.labels_MP[data.study_N]).float()
    order = torch.randperm(0)
    model.train()
    for _ in track(range(steps), total=steps, what=f"resnet {len(data.labels_MP)}/{seed}", unit="steps"):
        if len(order) < BATCH:
            order = torch.randperm(len(films))
        batch, order = order[:BATCH], order[BATCH:]
        pixels = _augment(_scaled(films[batch]))
        known = labels_NP[batch] >= 0
        loss = functional.binary_cross_entropy_with_logits(
            model(pixels).logits, labels_NP[batch].clamp(min=0), weight=known.float()
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    trained: nn.Module = model.eval()
    return trained


def _scaled(films_BHW: torch.Tensor) -> torch.Tensor:
    return (films_BHW[:, None].float() - 128) / 64


def _augment(pixels_B1HW: torch.Tensor) -> torch.Tensor:
    """Rotation to 5 degrees, zoom and shift to 5 %, contrast and brightness to 15 %."""
    num = len(pixels_B1HW)
    angle, zoom = (torch.rand(num) - 0.5) * 0.17, 1 + (torch.rand(num) - 0.5) * 0.1
    theta = torch.zeros(num, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = zoom * torch.cos(angle)
    theta[:, 0, 1], theta[:, 1, 0] = -zoom * torch.sin(angle), zoom * torch.sin(angle)
    theta[:, :, 2] = (torch.rand(num, 2) - 0.5) * 0.2
    grid = functional.affine_grid(theta, list(pixels_B1HW.shape), align_corners=False)
    moved = functional.grid_sample(pixels_B1HW, grid, padding_mode="border", align_corners=False)
    contrast = 1 + (torch.rand(num, 1, 1, 1) - 0.5) * 0.3
    return moved * contrast + (torch.rand(num, 1, 1, 1) - 0.5) * 0.6


@torch.no_grad()
def score_resnet(model: nn.Module, data: Data) -> npt.NDArray[np.float64]:
    """Mean probability over a study's films, (M, P)."""
    films = torch.from_numpy(data.films_NHW)
    parts = [torch.sigmoid(model(_scaled(films[at : at + 128])).logits) for at in range(0, len(films), 128)]
    return _by_study(torch.cat(parts).double().numpy(), data)


def score_linear(train: Data, test: Data) -> npt.NDArray[np.float64]:
    """Logistic regression on 8 x 8 thumbnails, age, sex and view, (M, P)."""
    scaler = StandardScaler().fit(_thumbnails(train))
    inputs, asked = scaler.transform(_thumbnails(train)), scaler.transform(_thumbnails(test))
    columns = []
    for labels in train.labels_MP[train.study_N].T:
        known = labels >= 0
        model = LogisticRegression(C=0.01, max_iter=500).fit(inputs[known], labels[known])
        columns.append(model.predict_proba(asked)[:, 1])
    return _by_study(np.stack(columns, axis=1), test)


def _thumbnails(data: Data) -> npt.NDArray[np.float64]:
    small = np.stack([cv2.resize(film, (8, 8), interpolation=cv2.INTER_AREA) for film in data.films_NHW])
    return np.concatenate([small.reshape(len(small), 64).astype(np.float64) / 64, data.meta_N5], axis=1)


def _by_study(scores_NP: npt.NDArray[np.float64], data: Data) -> npt.NDArray[np.float64]:
    num = len(data.truth_MP)
    total = np.zeros((num, scores_NP.shape[1]))
    np.add.at(total, data.study_N, scores_NP)
    return np.asarray(total / np.bincount(data.study_N, minlength=num)[:, None])


def aurocs(truth_MP: npt.NDArray[np.int64], scores_MP: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """AUROC per pathology (Mann and Whitney 1947; ties count half); NaN where one class is absent."""
    ranks_MP = rankdata(scores_MP, axis=0)
    positive_P = truth_MP.sum(axis=0).astype(np.float64)
    negative_P = len(truth_MP) - positive_P
    above_P = (ranks_MP * truth_MP).sum(axis=0) - positive_P * (positive_P + 1) / 2
    pairs_P = np.where(positive_P * negative_P > 0, positive_P * negative_P, np.nan)
    return np.asarray(above_P / pairs_P)


def interval(test: Data, runs: Sequence[npt.NDArray[np.float64]]) -> tuple[float, float, float]:
    """Mean AUROC over pathologies and runs, with the 95 % bootstrap interval over test patients."""
    rng = np.random.default_rng(0)
    truth = test.truth_MP
    members = [np.flatnonzero(test.patient_M == patient) for patient in np.unique(test.patient_M)]
    draws = []
    for _ in range(NUM_BOOTSTRAP):
        rows = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        draws.append(np.mean([np.nanmean(aurocs(truth[rows], scores[rows])) for scores in runs]))
    low, high = np.percentile(draws, (2.5, 97.5))
    return float(np.mean([np.nanmean(aurocs(truth, scores)) for scores in runs])), float(low), float(high)


def _resnet_scores(train: Data, test: Data, *, seed: int, cache: Path) -> npt.NDArray[np.float64]:
    """Train and score, or take the scores of an earlier run on the same films and labels with the same recipe."""
    digest = hashlib.sha256(json.dumps([RECIPE, STEPS_PER_ROOT, BATCH, RATE, DECAY, seed]).encode())
    for array in (train.films_NHW, train.labels_MP, test.films_NHW):
        digest.update(np.ascontiguousarray(array).data)
    path = cache / f"scores-{digest.hexdigest()[:16]}.npy"
    if not path.exists():
        np.save(path, score_resnet(fit_resnet(train, seed=seed), test))
    return np.asarray(np.load(path))


def _tell(name: str, scores: npt.NDArray[np.float64], test: Data) -> None:
    print(f"{name}: mean AUROC {np.nanmean(aurocs(test.truth_MP, scores)):.3f}", file=sys.stderr)


def main() -> None:
    """Print the calibration table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", choices=list(PRESETS), default="medium")
    parser.add_argument("--prevalence", choices=["mimic", "floor"], default="floor")
    parser.add_argument("--train-studies", type=int, nargs="+", default=[500, 4000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data-seed", type=int, default=0, help="other patients than those of the calibration")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=Path("runs/yardstick"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    started = time.monotonic()

    def settings(seed: int) -> Settings:
        return Settings(seed=seed, preset=given.preset, prevalence=given.prevalence)

    test = draw(settings(TEST_SEED + given.data_seed), TEST_STUDIES, jobs=given.jobs, cache=given.cache)
    rows: dict[str, list[npt.NDArray[np.float64]]] = {}
    for num in given.train_studies:
        train = draw(settings(TRAIN_SEED + given.data_seed), num, jobs=given.jobs, cache=given.cache)
        rows[f"linear {num}"] = [score_linear(train, test)]
        _tell(f"linear {num}", rows[f"linear {num}"][0], test)
        rows[f"resnet {num}"] = []
        for seed in given.seeds:
            scores = _resnet_scores(train, test, seed=seed, cache=given.cache)
            rows[f"resnet {num}"].append(scores)
            _tell(f"resnet {num}, seed {seed}", scores, test)
    means = {name: interval(test, runs) for name, runs in rows.items()}
    print(f"AUROC against the truth of {TEST_STUDIES} studies, preset {given.preset}, prevalence {given.prevalence}")
    print(f"{'':28}" + "".join(f"{name:>16}" for name in rows))
    each = {name: np.mean([aurocs(test.truth_MP, scores) for scores in runs], axis=0) for name, runs in rows.items()}
    for column, pathology in enumerate(PATHOLOGIES):
        print(f"{pathology:28}" + "".join(f"{each[name][column]:16.3f}" for name in rows))
    print(f"{'Mean of 14':28}" + "".join(f"{mean:16.3f}" for mean, _, _ in means.values()))
    print(f"{'95 % interval':28}" + "".join(f"{f'{low:.3f}-{high:.3f}':>16}" for _, low, high in means.values()))
    summary = {name: [round(number, 4) for number in numbers] for name, numbers in means.items()}
    print(
        json.dumps(
            {
                "recipe": RECIPE,
                "preset": given.preset,
                "version": PRESETS[given.preset].version,
                "prevalence": given.prevalence,
                "seeds": given.seeds,
                "mean_auroc_low_high": summary,
                "seconds": round(time.monotonic() - started),
            }
        )
    )


if __name__ == "__main__":
    main()
