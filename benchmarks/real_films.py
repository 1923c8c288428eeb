"""`python -m benchmarks.real_films`: the shipped recipe beside a plain one on real films, and few labels on them.

Films of NIH ChestX-ray14 (Wang et al. 2017) at 64 pixels in five folds of patients: every film is scored once, by a
training that saw nobody of its fold and chose nothing on it. `shipped` is pipeline/configs/nih-cxr14.yaml through the
pipeline's own steps; `plain` is what anybody would write first, below. A run is one arm and one seed over all folds,
kept in benchmarks/results/real_films.json; scores and bundles under --root let a run that was stopped continue.

Shape letters: S films, P pathologies, B films of a batch.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import ResNetConfig, ResNetForImageClassification

from benchmarks.checkpoints import EFFICIENTNET_LITE, located
from benchmarks.film_folds import CONFIG, LEAKING, NUM_FOLDS, SOURCES, OutOfFold, out_of_fold, prepare_fold
from benchmarks.kept_runs import NUM_SAMPLES, add_run, check_arms, made_here, read_runs, recipe_hash, run_key
from benchmarks.real_films_tables import print_tables
from benchmarks.resampled import Scores
from components.cxr.bundle import load_bundle
from components.cxr.cli import run_cli
from components.cxr.config import load_yaml, section
from components.cxr.labels import POSITIVE
from components.cxr.model.dataset import StudyDataset
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.evaluate.config import EvaluateConfig
from components.evaluate.predict import Job, run_model
from components.train.config import TrainConfig
from components.train.key import VERSION, training_key
from components.train.train import train

RESULTS = Path(__file__).parent / "results" / "real_films.json"
PLAIN = 1
"""Version of the plain recipe; a change of it voids its runs."""
SHIPPED: dict[str, Any] = dict(section(load_yaml(CONFIG), "train"))
BARE: dict[str, Any] = {"architecture": SHIPPED["architecture"] | {"patches": "none"}}
"""Without the expert of patches."""
_LITE = {"vision": {"model_type": "efficientnet", "pretrained": EFFICIENTNET_LITE}}
IMAGENET: dict[str, Any] = {"architecture": BARE["architecture"] | _LITE}
"""An encoder that has learned photographs (benchmarks/efficientnet_lite.py), without the expert of patches."""
IMAGENET_PATCHES: dict[str, Any] = {"architecture": SHIPPED["architecture"] | _LITE}
"""The same with it."""
FEW: dict[str, Any] = {"labeled_fraction": 0.1}
ALONE: dict[str, Any] = FEW | {"epochs": 60, "semi_supervised": {"method": "none"}}
ARMS: dict[str, dict[str, Any] | None] = {
    "shipped": {},
    "plain": None,
    "without patches": BARE,
    "two models": BARE | {"num_models": 2},
    "no augmentation": BARE | {"augment": "none"},
    "ImageNet, frozen": IMAGENET | {"tuning": {"vision": {"frozen": True}}},
    "ImageNet, tuned": IMAGENET,
    "ImageNet, tuned, patches": IMAGENET_PATCHES,
    "none, 10 % labeled": BARE | ALONE,
    "patches, 10 % labeled": ALONE,
    "five models, 10 % labeled": BARE | ALONE | {"num_models": 5},
    "self-training, 10 % labeled": BARE
    | FEW
    | {"epochs": 12, "semi_supervised": {"method": "self-training", "weight": 2.0, "teacher_epochs": 60}},
    "ImageNet, frozen, 10 % labeled": IMAGENET | ALONE | {"tuning": {"vision": {"frozen": True}}},
    "ImageNet, tuned, 10 % labeled": IMAGENET | ALONE,
    "ImageNet, tuned, patches, 10 % labeled": IMAGENET_PATCHES | ALONE,
}
"""What each arm changes of the shipped configuration; None is no configuration but the plain recipe."""


def main(
    films: Annotated[Path, typer.Option(help="Folder of labels.csv and images/.")] = Path("../shared/data/nih-cxr14"),
    root: Annotated[Path, typer.Option(help="Where shards, bundles and scores are kept.")] = Path("runs/real-films"),
    arm: Annotated[list[str] | None, typer.Option(help=f"Any of {'; '.join(ARMS)}. All by default.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each arm in each fold.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="One epoch, one seed: does it run?")] = False,
    report: Annotated[bool, typer.Option("--report", help="Train nothing; print what is kept.")] = False,
) -> None:
    """Train what is missing, then print the tables and the JSON line."""
    check_arms(arm, ARMS)
    torch.set_num_threads(1)
    kept = root / "quick" / RESULTS.name if quick else RESULTS
    if not report:
        folds = [prepare_fold(films, fold=fold, root=root) for fold in range(NUM_FOLDS)]
        labels = out_of_fold(films, folds)
        for seed in range(1 if quick else seeds):
            for name in arm or ARMS:
                keep_run(name, seed, folds=folds, labels=labels, root=root, kept=kept, quick=quick)
    print_report(kept)


def print_report(kept: Path) -> None:
    """The tables and the JSON line, from the file of runs."""
    print(json.dumps(print_tables(list(read_runs(kept).values()), arms=list(ARMS))))


def values_of(name: str, seed: int, *, quick: bool = False) -> dict[str, Any]:
    """Section `train` of an arm: the shipped one, the arm's changes, a seed, one thread.

    The seed redraws initial weights and order, and where labels are few, whose they are.
    """
    values = SHIPPED | (BARE if (changes := ARMS[name]) is None else changes)
    values |= {"seed": 100 * seed, "labeled_seed": seed, "num_threads": 1}
    if quick:
        values |= {"epochs": 1}
        if (semi := values.get("semi_supervised", {})).get("method") == "self-training":
            values["semi_supervised"] = {**semi, "num_teachers": 2, "teacher_epochs": 1}
        if "num_models" in values:
            values["num_models"] = 2
    return values


def keep_run(
    name: str,
    seed: int,
    *,
    folds: Sequence[LoadedManifest],
    labels: OutOfFold,
    root: Path,
    kept: Path,
    quick: bool = False,
) -> None:
    """Train one arm in every fold, score the fold's films, and keep the run; nothing where it is kept already."""
    values, is_plain = values_of(name, seed, quick=quick), ARMS[name] is None
    recipe = f"plain {PLAIN}" if is_plain else f"train {VERSION}"
    key = run_key(recipe, values, *folds)
    if key in read_runs(kept):
        return
    config = TrainConfig.parse(located(values, root=root), where="train")
    scores: dict[str, list[Scores]] = {}
    seconds = []
    for fold, loaded in enumerate(folds):
        path = root / f"scores-{key}-{fold}.npz"
        if not path.exists():
            started, used = time.monotonic(), time.process_time()
            found = plain_scores(config, loaded) if is_plain else _pipeline_scores(config, loaded, root)
            spent = [time.monotonic() - started, time.process_time() - used]
            np.savez(path, allow_pickle=False, spent=np.array(spent), **found)
        with np.load(path) as arrays:
            seconds.append(arrays["spent"].tolist())
            for condition in set(arrays.files) - {"spent"}:
                scores.setdefault(condition, []).append(arrays[condition].astype(np.float64))
    whole = {condition: np.concatenate(parts) for condition, parts in sorted(scores.items())}
    auroc = _sampled(whole, labels)
    run = {
        "arm": name, "seed": seed, "recipe": recipe_hash(values), "films": len(labels.fold_S),
        "patients": len(set(labels.patient_S)), "positives": labels.positives(),
        "seconds": [round(wall, 1) for wall, _ in seconds], "cpu_seconds": [round(cpu, 1) for _, cpu in seconds],
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        **made_here(),
        "auroc_times_10000": auroc, "pathologies": _points(whole, labels),
    }  # fmt: skip
    add_run(kept, key, run)
    means = ", ".join(f"{c} {auroc[c][0] / 10_000:.4f}" for c in whole)
    print(f"real films: {name}, seed {seed}: {means}", flush=True)


def _pipeline_scores(config: TrainConfig, loaded: LoadedManifest, root: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The bundle's log-odds of the fold's films with all inputs and from films alone; `last`, all inputs, is what the
    weights of the last epoch of a single model say where validation picked those of another."""
    bundle = load_bundle(train(config, loaded=loaded, root=Root(root)))
    test, settings = StudyDataset(loaded, splits=["test"], text=config.text), EvaluateConfig(batch_size=64)
    every, films = run_model(bundle, [Job(test, "all"), Job(test, "image")], config=settings)
    found = {"all": every.score_SP, "image": films.score_SP}
    if config.num_models > 1:
        return found
    checkpoints = root / "checkpoints" / training_key(config, loaded.hash)
    state = torch.load(max(checkpoints.glob("step-*.pt")), map_location="cpu", weights_only=True)
    bundle.model.load_state_dict(state["ema"])
    (last,) = run_model(bundle, [Job(test, "all")], config=settings)
    return found | {"last": last.score_SP}


def plain_scores(config: TrainConfig, loaded: LoadedManifest) -> dict[str, npt.NDArray[np.float32]]:
    """The plain recipe: a ResNet of the same sizes on films alone, as many passes over the same training films.

    Binary cross-entropy, random crops (a shift by up to 6 pixels), AdamW at .002 with one cycle, EMA of .995.
    """
    training, test = (StudyDataset(loaded, splits=[split], text=config.text) for split in ("train", "test"))
    films_SHW = training.films(range(len(training)), num_views=1)[:, 0]
    target_SP = torch.from_numpy((training.states_SP == POSITIVE).astype(np.float32))
    torch.manual_seed(config.seed)
    sizes = ResNetConfig(num_channels=1, num_labels=target_SP.shape[1], **config.architecture.vision.config)
    model = ResNetForImageClassification(sizes)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.995), use_buffers=True)
    steps = config.epochs * (len(films_SHW) // config.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(config.epochs):
        order = torch.randperm(len(films_SHW))
        for batch in order[: len(order) // config.batch_size * config.batch_size].split(config.batch_size):
            logits_BP = model(_gray(_shifted(films_SHW[batch], by=6))).logits
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(logits_BP, target_SP[batch]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
    average.eval()
    with torch.no_grad():
        parts = [average(_gray(part)).logits for part in test.films(range(len(test)), num_views=1)[:, 0].split(128)]
    return {"image": torch.cat(parts).numpy()}


def _shifted(films_BHW: Tensor, *, by: int) -> Tensor:
    """Each film moved by up to `by` pixels either way; what comes in from outside is its edge."""
    size = films_BHW.shape[-1]
    padded_BHW = F.pad(films_BHW.float(), (by, by, by, by), mode="replicate")
    corners = torch.randint(2 * by + 1, (len(films_BHW), 2)).tolist()
    return torch.stack([film[y : y + size, x : x + size] for film, (y, x) in zip(padded_BHW, corners, strict=True)])


def _gray(films_BHW: Tensor) -> Tensor:
    return (films_BHW[:, None].float() - 128.0) / 64.0


def _sampled(scores: dict[str, Scores], labels: OutOfFold) -> dict[str, list[int]]:
    """By condition, and by condition and source, mean AUROC over all patients and over resamples of them."""
    found = {}
    for condition, score_SP in scores.items():
        asked: dict[str, tuple[list[str], str | None]] = {condition: (labels.scored(), None)}
        asked |= {f"{condition}, {source} px": (labels.scored(source), source) for source in SOURCES}
        asked |= {f"{condition}, {LEAKING}, 1024 px": ([LEAKING], "1024")}
        for label, (names, source) in asked.items():
            samples = labels.samples(score_SP, names, source=source, num=NUM_SAMPLES)
            found[label] = [round(10_000 * value) for value in samples]
    return found


def _points(scores: dict[str, Scores], labels: OutOfFold) -> dict[str, dict[str, list[int]]]:
    """By condition and pathology: AUROC with the ends of its interval, times 10,000."""
    found: dict[str, dict[str, list[int]]] = {}
    for condition, score_SP in scores.items():
        found[condition] = {}
        for name in (*labels.scored(), LEAKING):
            samples = labels.samples(score_SP, [name], num=NUM_SAMPLES)
            ends = (samples[0], *np.percentile(samples[1:], (2.5, 97.5)))
            found[condition][name] = [round(10_000 * float(value)) for value in ends]
    return found


if __name__ == "__main__":
    run_cli(main)
