"""`python -m benchmarks.seed_protocol`: the protocol that this project grew from, and the shipped recipe beside it.

About 500 labeled training studies, 25 epochs. `seed` is pipeline/configs/seed-500.yaml (one attention over all tokens,
labels alone, EMA), `shipped` is pipeline/configs/demo.yaml for as many epochs, with labels alone. Both go through the
pipeline's own steps on the yardstick's studies, of whose training patients an eighth keep their labels; the others are
left out. Thresholds come from validation, and 2,000 other studies are scored. Runs are kept in
benchmarks/results/seed_protocol.json; `--report` prints the table from that file alone.

Shape letters: S studies, P pathologies.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer

from benchmarks.kept_runs import (
    add_run,
    made_here,
    over_seeds,
    read_runs,
    recipe_hash,
    run_key,
    sampled,
    seeds_told,
    told,
)
from benchmarks.resampled import low
from benchmarks.yardstick_studies import DATA_SEED, FULL, QUICK, draw_studies, truth_by_study
from benchmarks.yardstick_training import labeled_studies
from components.cxr.bundle import load_bundle
from components.cxr.cli import run_cli
from components.cxr.config import load_yaml, section
from components.cxr.labels import PATHOLOGIES, truth_of
from components.cxr.model.dataset import StudyDataset
from components.cxr.report import ThresholdRule
from components.cxr.shards import LoadedManifest
from components.cxr.storage.storage import Root
from components.evaluate.bootstrap import draw
from components.evaluate.calibration import calibrate, operating_points
from components.evaluate.config import EvaluateConfig
from components.evaluate.metrics import pathology_score
from components.evaluate.predict import Job, run_model
from components.train.config import TrainConfig
from components.train.key import VERSION
from components.train.train import train
from pipeline.config import CONFIGS
from pipeline.synthetic.studies import Study

RESULTS = Path(__file__).parent / "results" / "seed_protocol.json"
LABELED = 0.1266
"""Of the yardstick's 4,000 training studies some 500."""
RECIPES: dict[str, dict[str, Any]] = {"seed": {}, "shipped": {"epochs": 25, "semi_supervised": {"method": "none"}}}
"""What each changes of its configuration."""
FILES = {"seed": "seed-500.yaml", "shipped": "demo.yaml"}
COLUMNS = {"accuracy": "Acc.", "precision": "Prec.", "recall": "Recall", "f1": "F1", "auroc": "AUROC"}

Run = Mapping[str, Any]


def main(
    root: Annotated[Path, typer.Option(help="Where data and bundles are kept.")] = Path("runs/seed-protocol"),
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each recipe.")] = 3,
    quick: Annotated[
        bool, typer.Option("--quick", help="A tenth of the studies, one epoch, one seed: does it run?")
    ] = False,
    report: Annotated[bool, typer.Option("--report", help="Train nothing; print what is kept.")] = False,
) -> None:
    """Train what is missing, then print the table and the JSON line."""
    torch.set_num_threads(1)
    kept = root / "quick" / RESULTS.name if quick else RESULTS
    if not report:
        place = root / ("quick" if quick else "full")
        loaded, studies = draw_studies(place, seed=DATA_SEED, sizes=QUICK if quick else FULL)
        for seed in range(1 if quick else seeds):
            for name in RECIPES:
                values = values_of(name, seed) | ({"epochs": 1} if quick else {})
                _keep(name, seed, values=values, loaded=loaded, studies=studies, root=place, kept=kept)
    print_report(kept)


def print_report(kept: Path) -> None:
    """The table and the JSON line, from the file of runs."""
    print(json.dumps(print_table(list(read_runs(kept).values()))))


def values_of(name: str, seed: int) -> dict[str, Any]:
    """Section `train` of a recipe's configuration with its changes, an eighth of the labels, a seed, one thread."""
    values = section(load_yaml(CONFIGS / FILES[name]), "train")
    few = {"labeled_fraction": LABELED, "labeled_seed": seed, "seed": seed, "num_threads": 1}
    return {**values, **RECIPES[name], **few}


def _keep(
    name: str,
    seed: int,
    *,
    values: dict[str, Any],
    loaded: LoadedManifest,
    studies: list[Study],
    root: Path,
    kept: Path,
) -> None:
    key = run_key(f"train {VERSION}", values, loaded)
    if key in read_runs(kept):
        return
    config = TrainConfig.parse(values, where="train")
    started, used = time.monotonic(), time.process_time()
    bundle = load_bundle(train(config, loaded=loaded, root=Root(root)))
    seconds, cpu_seconds = time.monotonic() - started, time.process_time() - used
    test, validation = (StudyDataset(loaded, splits=[split], text=config.text) for split in ("test", "validate"))
    answers = run_model(bundle, [Job(test, "all"), Job(validation, "all")], config=EvaluateConfig(batch_size=64))
    score_SP, chosen_on_SP = (answer.score_SP.astype(np.float64) for answer in answers)
    known_SP = truth_of(validation.states_SP, validation.labeled_S, protocol="A")
    points = operating_points(chosen_on_SP, known_SP, pathologies=PATHOLOGIES, rule=ThresholdRule())
    labels_SP = truth_of(test.states_SP, test.labeled_S, protocol="A")
    patients = test.patient_ids
    draws = draw(patients, num_resamples=1, seed=0)  # the intervals are of several seeds
    found = [
        pathology_score(
            score_SP[:, p],
            labels_SP[:, p],
            draws=draws,
            threshold=points[pathology].threshold,
            probability_N=calibrate(score_SP[:, p], points[pathology].calibration),
        ).score
        for p, pathology in enumerate(PATHOLOGIES)
    ]
    auroc = {
        "labels": sampled(score_SP, labels_SP, patients),
        "truth": sampled(score_SP, truth_by_study(test, studies), patients),
    }
    run = {
        "recipe": name, "seed": seed, "configuration": recipe_hash(values),
        "training_studies": labeled_studies(config, loaded), "test_studies": len(test),
        "test_patients": len(set(patients)), "seconds": round(seconds, 1), "cpu_seconds": round(cpu_seconds, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        **made_here(),
        "auroc_times_10000": auroc,
        "positives": [each.positives for each in found],
        "times_10000": {c: [round(10_000 * (getattr(each, c) or 0.0)) for each in found] for c in COLUMNS},
    }  # fmt: skip
    add_run(kept, key, run)
    print(f"seed protocol: {name}, seed {seed}: {auroc['labels'][0] / 10_000:.4f}", flush=True)


def print_table(runs: Sequence[Run]) -> dict[str, Any]:
    """Print both recipes by pathology, mean over their seeds, and return the JSON's numbers."""
    by_recipe = {name: {run["seed"]: run for run in runs if run["recipe"] == name} for name in RECIPES}
    by_recipe = {name: of_seed for name, of_seed in by_recipe.items() if of_seed}
    if not by_recipe:
        return {}
    some = next(iter(next(iter(by_recipe.values())).values()))
    print(f"{some['test_studies']} test studies of {some['test_patients']} patients; learned from "
          f"{some['training_studies']}; against mined labels, mean of the seeds")  # fmt: skip
    print(f"{'':28}{'':>6}" + "".join(f"{f'{name}, {seeds_told(len(of))}':>42}" for name, of in by_recipe.items()))
    titles = "".join(f"{title:>8}" for title in COLUMNS.values())
    print(f"{'Pathology':28}{'Pos.':>6}" + f"  {titles}" * len(by_recipe))
    means = {name: _means(of_seed) for name, of_seed in by_recipe.items()}
    for p, pathology in enumerate(PATHOLOGIES):
        cells = ["".join(f"{mean_CP[c, p]:>8.3f}" for c in range(len(COLUMNS))) for mean_CP in means.values()]
        print(f"{pathology:28}{some['positives'][p]:>6}" + "".join(f"  {each}" for each in cells))
    cells = ["".join(f"{value:>8.3f}" for value in mean_CP.mean(axis=1)) for mean_CP in means.values()]
    print(f"{'Mean of 14':28}{'':>6}" + "".join(f"  {each}" for each in cells))
    print(f"\n{'mean AUROC of 14 (95 % interval)':34}{'mined labels':>26}{'truth':>26}{'CPU s':>8}")
    for name, of_seed in by_recipe.items():
        both = [told(over_seeds(of_seed, sorted(of_seed), which)) for which in ("labels", "truth")]
        seconds = float(np.median([run["cpu_seconds"] for run in of_seed.values()]))
        print(f"{name:34}" + "".join(f"{cell:>26}" for cell in both) + f"{seconds:>8.0f}")
    return _gains(by_recipe)


def _means(of_seed: Mapping[int, Run]) -> npt.NDArray[np.float64]:
    """Mean over the seeds (columns, pathologies), in [0, 1]."""
    values_RCP = np.array([[run["times_10000"][c] for c in COLUMNS] for run in of_seed.values()], dtype=np.float64)
    return np.asarray(values_RCP.mean(axis=0) / 10_000)


def _gains(by_recipe: Mapping[str, Mapping[int, Run]]) -> dict[str, Any]:
    if len(by_recipe) < len(RECIPES):
        return {}
    both = sorted(by_recipe["seed"].keys() & by_recipe["shipped"].keys())
    found: dict[str, Any] = {"seeds": len(both)}
    for which in ("labels", "truth"):
        one, other = (over_seeds(by_recipe[name], both, which) for name in ("shipped", "seed"))
        found |= {
            f"gain_{which}": round(float((one - other)[0]), 4),
            f"gain_{which}_low": round(low((one - other)[1:]), 4),
        }
    return found


if __name__ == "__main__":
    run_cli(main)
