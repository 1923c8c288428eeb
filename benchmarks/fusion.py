"""`python -m benchmarks.fusion`: what the indication and the metadata add to films, against the yardstick's truth.

The pipeline's own pieces, from synthetic DICOMs to the bundle's answers: three trainings a seed (the default fusion,
the same without text, and the ablation `concat`), scored on patients that no training and no choice of design saw.
Data, bundles and scores are kept under --root, so a run that was stopped continues. It prints a table and ends in one
JSON line; docs/benchmarks.md holds both and says what each number means.

Shape letters: S studies, P pathologies, R seeds, C sets of written symptoms.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import typer

from benchmarks.resampled import Scores, high, low, resampled
from benchmarks.yardstick_studies import DATA_SEED, FULL, QUICK, VISION, draw_studies
from components.cxr.bundle import load_bundle
from components.cxr.cli import run_cli
from components.cxr.ids import hash_id
from components.cxr.labels import PATHOLOGIES, truth_of
from components.cxr.model.dataset import StudyDataset
from components.cxr.report import CONDITIONS, ThresholdRule
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.evaluate.calibration import operating_points
from components.evaluate.config import EvaluateConfig
from components.evaluate.predict import Job, run_model
from components.train.config import TrainConfig
from components.train.key import training_key
from components.train.train import train
from pipeline.synthetic.bayes import symptom_chances
from pipeline.synthetic.reports.indications import MAX_SYMPTOMS, SYMPTOMS, draw_indication
from pipeline.synthetic.studies import Study

ONE_VIEW = ("Enlarged Cardiomediastinum", "Lung Lesion", "Pleural Effusion")
"""Findings that the generator often shows on one view only."""
TWO_LAYERS = {
    "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 192,
    "max_position_embeddings": 128,
}  # fmt: skip


class Truth(NamedTuple):
    """The test studies, in the order of the data set."""

    truth_SP: npt.NDArray[np.int8]
    labels_SP: npt.NDArray[np.int8]
    """Protocol A, BLANK in studies that were not labeled."""
    patient_S: npt.NDArray[np.int64]
    ratio_SP: Scores
    """Exact log p(written symptoms | present) - log p(written symptoms | absent); 0 without an indication."""
    two_views_S: npt.NDArray[np.bool_]
    """Whether the study has a frontal and a lateral film."""


def main(
    root: Annotated[Path, typer.Option(help="Where data, bundles and scores are kept.")] = Path("runs/fusion"),
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each kind.")] = 3,
    data_seed: Annotated[int, typer.Option(min=0, help="Other patients, to choose a design on.")] = DATA_SEED,
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the studies, one seed: does it run?")] = False,
    train_only: Annotated[
        str | None, typer.Option(metavar="KIND/SEED", help="One training and no table: to share them out.")
    ] = None,
) -> None:
    """Train, score, and print the table and the JSON line."""
    started = time.monotonic()
    torch.set_num_threads(1)
    place = root / ("quick" if quick else "full")
    loaded, studies = draw_studies(place, seed=data_seed, sizes=QUICK if quick else FULL)
    every = [(kind, seed) for seed in range(1 if quick else seeds) for kind in ("experts", "films", "concat")]
    chosen = every if train_only is None else [pair for pair in every if f"{pair[0]}/{pair[1]}" == train_only]
    scores = {
        (kind, seed): _scores(_config(kind, seed, epochs=4 if quick else 12), loaded, place) for kind, seed in chosen
    }
    if train_only is not None:
        return
    test = _truth(loaded, studies)
    found = _table(test, scores, seeds=sorted({seed for _, seed in every}))
    counts = loaded.manifest.counts
    summary = {"training_studies": counts["train"].studies, "test_studies": counts["test"].studies}
    summary |= {"test_patients": counts["test"].patients, "seeds": len(every) // 3, "data_seed": data_seed}
    print(json.dumps(summary | found | {"seconds": round(time.monotonic() - started)}))


def _config(kind: str, seed: int, *, epochs: int) -> TrainConfig:
    """One thread; otherwise the defaults, with the demo's film encoder."""
    values: dict[str, Any] = {
        "architecture": {"vision": {"model_type": "resnet", "config": VISION}, "patches": "none"},
        "epochs": epochs, "seed": seed, "num_threads": 1,
    }  # fmt: skip
    if kind == "films":
        values["text"] = {"sections": []}
    if kind == "concat":
        values["architecture"] |= {"fusion": {"kind": "concat"}, "text": {"model_type": "bert", "config": TWO_LAYERS}}
    return TrainConfig.parse(values, where="train")


def _scores(config: TrainConfig, loaded: LoadedManifest, place: Path) -> dict[str, Scores]:
    """z1 - z0 by condition; on validation as `validate/<condition>`, and of the first film alone as `one view`."""
    path = place / f"scores-{training_key(config, loaded.hash)}.npz"
    if not path.exists():
        bundle = load_bundle(train(config, loaded=loaded, root=Root(place)))
        test, validate = (StudyDataset(loaded, splits=[s], text=config.text) for s in ("test", "validate"))
        first = StudyDataset(loaded, splits=["test"], text=config.text, max_views=1)
        jobs: dict[str, Job] = {condition: Job(test, condition) for condition in CONDITIONS}
        jobs |= {f"validate/{condition}": Job(validate, condition) for condition in CONDITIONS}
        jobs["one view"] = Job(first, "image")
        answers = run_model(bundle, list(jobs.values()), config=EvaluateConfig(batch_size=64))
        arrays: dict[str, Any] = {name: found.score_SP for name, found in zip(jobs, answers, strict=True)}
        arrays["validate/labels"] = truth_of(validate.states_SP, validate.labeled_S, protocol="A")
        np.savez(path, **arrays)
    with np.load(path) as kept:
        return {name: np.asarray(values, dtype=np.float64) for name, values in kept.items()}


def _truth(loaded: LoadedManifest, studies: Sequence[Study]) -> Truth:
    by_id = {hash_id("study", str(study.study_id)): study for study in studies}
    test, training = (StudyDataset(loaded, splits=[split], text=TrainConfig().text) for split in ("test", "train"))
    mine = [by_id[study] for study in test.study_ids]
    known_SP = np.array([by_id[study].truth for study in training.study_ids])
    has_text_S = np.array([bool(text) for text in test.texts()])
    ratio_SP = _ratio([draw_indication(study).symptoms for study in mine], known_SP)
    return Truth(
        truth_SP=np.array([study.truth for study in mine], dtype=np.int8),
        labels_SP=truth_of(test.states_SP, test.labeled_S, protocol="A"),
        patient_S=np.array([study.patient.index for study in mine]),
        ratio_SP=np.where(has_text_S[:, None], ratio_SP, 0.0),
        two_views_S=np.array([len({"L" in view for view in study.views}) > 1 for study in mine]),
    )


def _ratio(written: Sequence[Sequence[str]], known_SP: npt.NDArray[np.int64]) -> Scores:
    """Chances of the symptoms are exact; those of the truths are counted in the training studies."""
    patterns_KP, which_S = np.unique(known_SP, axis=0, return_inverse=True)
    share_K = np.bincount(which_S.ravel(), minlength=len(patterns_KP)) / len(known_SP)
    chance_KC = symptom_chances(patterns_KP)
    names = list(SYMPTOMS)
    kept = [frozenset(each) for size in range(MAX_SYMPTOMS + 1) for each in combinations(range(len(names)), size)]
    column_of = {each: column for column, each in enumerate(kept)}
    columns_S = [column_of[frozenset(names.index(name) for name in each)] for each in written]
    present_PK = (patterns_KP * share_K[:, None]).T
    absent_PK = ((1 - patterns_KP) * share_K[:, None]).T
    present_PC = present_PK @ chance_KC / present_PK.sum(axis=1, keepdims=True)
    absent_PC = absent_PK @ chance_KC / absent_PK.sum(axis=1, keepdims=True)
    return np.asarray((np.log(present_PC) - np.log(absent_PC)).T[columns_S])


def _late(scores: Mapping[str, Scores]) -> Scores:
    """The mean of film and text logits, each calibrated on validation."""
    labels_SP = scores["validate/labels"].astype(np.int8)
    parts = []
    for condition in ("image+meta", "text"):
        validation_SP = scores[f"validate/{condition}"].astype(np.float32)
        points = operating_points(validation_SP, labels_SP, pathologies=PATHOLOGIES, rule=ThresholdRule())
        slopes = [points[name].calibration.slope for name in PATHOLOGIES]
        shifts = [points[name].calibration.intercept for name in PATHOLOGIES]
        parts.append(scores[condition] * slopes + shifts)
    return np.asarray((parts[0] + parts[1]) / 2)


def _table(test: Truth, scores: Mapping[tuple[str, int], dict[str, Scores]], *, seeds: list[int]) -> dict[str, Any]:
    """Print every arm and return the JSON's numbers."""
    arms = {
        "films": [scores["experts", r]["image"] for r in seeds],
        "films + metadata": [scores["experts", r]["image+meta"] for r in seeds],
        "indication": [scores["experts", r]["text"] for r in seeds],
        "metadata": [scores["experts", r]["meta"] for r in seeds],
        "all": [scores["experts", r]["all"] for r in seeds],
        "all, mean of the seeds": [np.mean([scores["experts", r]["all"] for r in seeds], axis=0)] * len(seeds),
        "own late fusion": [_late(scores["experts", r]) for r in seeds],
        "ceiling: films x exact ratio": [scores["experts", r]["image"] + test.ratio_SP for r in seeds],
        "films, first view": [scores["experts", r]["one view"] for r in seeds],
        "trained without text: films": [scores["films", r]["image"] for r in seeds],
        "concat: films": [scores["concat", r]["image"] for r in seeds],
        "concat: indication": [scores["concat", r]["text"] for r in seeds],
        "concat: all": [scores["concat", r]["all"] for r in seeds],
    }
    names = list(arms)
    samples = {
        name: resampled(arms, labels_SP, test.patient_S)
        for name, labels_SP in (("truth", test.truth_SP), ("A", test.labels_SP))
    }
    print(f"{'mean AUROC of 14 (95 % interval)':32}{'truth':>24}{'labels, protocol A':>24}")
    for a, name in enumerate(names):
        cells = [f"{of[0, a]:.4f} ({low(of[1:, a]):.4f}-{high(of[1:, a]):.4f})" for of in samples.values()]
        print(f"{name:32}" + "".join(f"{cell:>24}" for cell in cells))

    def difference(one: str, other: str, *, protocol: str = "truth") -> npt.NDArray[np.float64]:
        of = samples[protocol]
        return np.asarray(of[:, names.index(one)] - of[:, names.index(other)])

    gain, ceiling = difference("all", "films"), difference("ceiling: films x exact ratio", "films")
    gap, margin = difference("trained without text: films", "films"), difference("all", "own late fusion")
    views = _views_gain(test, arms)
    found: dict[str, Any] = {"fusion_gain": gain[0], "fusion_gain_low": low(gain[1:])}
    found |= {"ceiling_gain": ceiling[0], "fusion_of_ceiling": gain[0] / ceiling[0]}
    found |= {"late_margin": margin[0], "late_margin_low": low(margin[1:])}
    found |= {"text_dropped_gap": gap[0], "text_dropped_gap_high": high(gap[1:])}
    found |= {"films_less_concat_films": difference("films", "concat: films")[0]}
    ensemble = difference("all, mean of the seeds", "all")
    found |= {"ensemble_gain": ensemble[0], "ensemble_gain_low": low(ensemble[1:])}
    found |= {"concat_gain": difference("concat: all", "concat: films")[0]}
    found |= {"fusion_gain_labels": difference("all", "films", protocol="A")[0]}
    found |= {"views_gain": views[0], "views_gain_low": low(views[1:]), "views_gain_high": high(views[1:])}
    found = {name: round(float(value), 4) for name, value in found.items()}
    for protocol, of in samples.items():
        found[f"auroc_{protocol}"] = {
            name: [round(float(v), 4) for v in (of[0, a], low(of[1:, a]), high(of[1:, a]))]
            for a, name in enumerate(names)
        }
    return found


def _views_gain(test: Truth, arms: Mapping[str, Sequence[Scores]]) -> npt.NDArray[np.float64]:
    """All views less the first, over studies with a frontal and a lateral film and what shows on one of them."""
    rows, columns = test.two_views_S, [PATHOLOGIES.index(name) for name in ONE_VIEW]
    shown = {name: [scores[rows][:, columns] for scores in arms[name]] for name in ("films", "films, first view")}
    of = resampled(shown, test.truth_SP[rows][:, columns], test.patient_S[rows])
    return np.asarray(of[:, 0] - of[:, 1])


if __name__ == "__main__":
    run_cli(main)
