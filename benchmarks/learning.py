"""`python -m benchmarks.learning`: what studies without labels, and their reports, teach where labels are few.

Trainings are the pipeline's own, from Parquet shards to the bundle's answers. Every run is kept in
benchmarks/results/learning.json by a hash of what was trained, so that a long proof grows over several days and
machines; what is there is not trained again. `--report` prints the tables and the JSON line from that file alone.

Four parts: the methods where 10 % of the patients have labels, the best of them over shares of the labels (`curve`),
the biggest defaults with all labels (`ablations`), and a pretrained encoder of the indication with few labels and with
all (`pretrained`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer

from benchmarks.checkpoints import MINILM
from benchmarks.kept_runs import by_seed, check_arms, in_pairs, of_arm, over_seeds, read_runs, told
from benchmarks.learning_curve import curve_figure, curve_table
from benchmarks.resampled import Scores, low
from benchmarks.yardstick_studies import DATA_SEED, FULL, QUICK, draw_studies
from benchmarks.yardstick_training import CONDITIONS, base_values, keep_training
from components.cxr.cli import run_cli

RESULTS = Path(__file__).parent / "results" / "learning.json"

Preset = Literal["medium", "hard"]
Run = dict[str, Any]


class Part(StrEnum):
    """What can be run alone."""

    METHODS = "methods"
    CURVE = "curve"
    ABLATIONS = "ablations"
    PRETRAINED = "pretrained"


ARMS: dict[str, dict[str, Any]] = {
    "none": {"epochs": 25, "semi_supervised": {"method": "none"}},
    "none, equal time": {"epochs": 200, "semi_supervised": {"method": "none"}},
    "five models": {"epochs": 25, "semi_supervised": {"method": "none"}, "num_models": 5},
    "self-training": {"epochs": 8, "semi_supervised": {"method": "self-training", "weight": 2.0}},
    "report labels": {"epochs": 12, "semi_supervised": {"method": "none"}, "report_labels": True},
    "report alignment": {"epochs": 8, "semi_supervised": {"method": "none"}, "report_alignment": {"weight": 1.0}},
    "both from reports": {"epochs": 12, "semi_supervised": {"method": "none"}}
    | {"report_labels": True, "report_alignment": {"weight": 1.0}},
    "oracle": {"epochs": 12, "semi_supervised": {"method": "none"}, "labeled_fraction": 1.0},
}
"""What each arm changes of the shared configuration; epochs were chosen on other patients."""
PATCHES = {
    "patches": "none",
    "self-training, patches": "self-training",
    "report labels, patches": "report labels",
    "oracle, patches": "oracle",
}
"""Arms that have an expert of patches beside the encoder of another."""
METHODS = ("self-training",)
REMOVED = ("mean teacher",)
"""Arms whose method is no longer there: their runs are kept and shown beside the others, and cannot be made again."""

CURVES = {
    "oracle": ("none", "self-training", "report labels"),
    "oracle, patches": ("patches", "self-training, patches", "report labels, patches"),
}
"""Arms over shares of the labels by the one with all labels, where their curves end."""
CURVE_EPOCHS = {1: 150, 3: 80, 10: 25, 30: 16}
"""Passes over the labeled studies alone by their share in percent: some 300 steps, more where there is more to learn.
With 100 % all arms are the oracle with an expert or without."""

ABLATIONS: dict[str, dict[str, Any]] = {
    "one attention (concat)": {"architecture": {"fusion": {"kind": "concat"}}},
    "blanks untaught": {"labels": {"blank": "ignore"}},
    "no EMA": {"ema_decay": 0.0},
    "no modality dropout": {"modality_dropout": {"image": 0.0, "text": 0.0, "meta": 0.0}},
    "no augmentation": {"augment": "none"},
}
"""What each takes away from the oracle."""

PRETRAINED: dict[str, dict[str, Any]] = {
    "frozen MiniLM": {"text": {"frozen": True}},
    "tuned MiniLM": {"text": {"learning_rate": 3e-5}},
}
"""How the text encoder learns that has read much else; the rest is as in `none` (10 %) and the oracle (100 %)."""


def main(
    root: Annotated[Path, typer.Option(help="Where data and bundles are kept.")] = Path("runs/learning"),
    only: Annotated[list[Part] | None, typer.Option(help="Parts to train; all by default.")] = None,
    arm: Annotated[list[str] | None, typer.Option(help="Arms of these parts by name; all by default.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each arm, each with other labeled patients.")] = 8,
    first_seed: Annotated[int, typer.Option(min=0, help="Begin here: to share a proof out.")] = 0,
    preset: Annotated[Preset, typer.Option(help="Of the yardstick: medium or hard.")] = "medium",
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the studies, one seed: does it run?")] = False,
    report: Annotated[bool, typer.Option("--report", help="Train nothing; print what is kept.")] = False,
    figure: Annotated[Path | None, typer.Option(help="Draw the curve into this file too.")] = None,
) -> None:
    """Train what is missing, then print the tables and the JSON line."""
    check_arms(arm, [*ARMS, *PATCHES, *ABLATIONS, *PRETRAINED])
    torch.set_num_threads(1)
    kept = RESULTS if not quick else root / "quick" / "learning.json"
    if not report:
        place = root / ("quick" if quick else "full")
        loaded, studies = draw_studies(place, seed=DATA_SEED, sizes=QUICK if quick else FULL, preset=preset)
        for part in only or Part:
            started = time.monotonic()
            for seed in range(1) if quick else range(first_seed, seeds):
                for name, percent, values in _arms(part, seed):
                    if arm is None or name in arm:
                        entry = {"arm": name, "percent": percent, "seed": seed, "preset": preset}
                        keep_training(
                            _quick(values) if quick else values,
                            told=entry, loaded=loaded, studies=studies, root=place, kept=kept,
                        )  # fmt: skip
            print(f"learning: part {part} in {(time.monotonic() - started) / 60:.1f} minutes", flush=True)
    print_report(kept, preset, figure=figure)


def print_report(kept: Path, preset: Preset = "medium", *, figure: Path | None = None) -> None:
    """The tables of all parts and the JSON line, from the file of runs.

    Args:
        figure: where the curve is drawn; None for nowhere.
    """
    runs = [run for run in read_runs(kept).values() if run["preset"] == preset]
    found = methods_table(runs)
    curves = [curve_table(runs, arms=arms, everything=everything) for everything, arms in CURVES.items()]
    for curve in filter(None, curves):
        print(f"\n{curve}")
    for arms, other, percent in ((ABLATIONS, "oracle", 100), (PRETRAINED, "none", 10), (PRETRAINED, "oracle", 100)):
        by_arm = {name: of_arm(runs, name, percent) for name in arms}
        less_table(f"less {other}, {percent} % labeled", by_arm, of_arm(runs, other, percent))
    print(json.dumps({name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}))
    if figure and (drawn := curve_figure(runs, CURVES)):
        drawn.savefig(figure, metadata={"Description": "\n\n".join(filter(None, curves))})


def _arms(part: Part, seed: int) -> list[tuple[str, int, dict[str, Any]]]:
    """Name, percent of the patients with labels, and section `train` of every arm."""
    base, oracle = base_values(seed), base_values(seed) | ARMS["oracle"]
    patches: dict[str, Any] = {"architecture": {"patches": {}}}
    if part is Part.METHODS:
        of_arm = {name: base | changed for name, changed in ARMS.items()}
        of_arm |= {name: _merged(of_arm[other], patches) for name, other in PATCHES.items()}
        return [(name, _percent(name), values) for name, values in of_arm.items()]
    if part is Part.ABLATIONS:
        return [(name, 100, _merged(oracle, changed)) for name, changed in ABLATIONS.items()]
    if part is Part.PRETRAINED:
        text = {"architecture": {"text": {"model_type": "bert", "pretrained": MINILM}}}
        few = base | ARMS["none"]
        return [
            (name, percent, _merged(values, text) | {"tuning": tuning})
            for name, tuning in PRETRAINED.items()
            for percent, values in ((10, few), (100, oracle))
        ]
    arms = []
    for percent, epochs in CURVE_EPOCHS.items():
        for name in (name for of_curve in CURVES.values() for name in of_curve):
            method = PATCHES.get(name, name)
            values = _merged(base, ARMS[method])
            if percent != 10:  # where it is, the arm is that of the methods, to the letter
                values |= {"labeled_fraction": percent / 100}
                values |= {"epochs": epochs} if method == "none" else {}
            if percent != 10 and method == "self-training":
                values = _merged(values, {"semi_supervised": {"teacher_epochs": epochs}})
            arms.append((name, percent, _merged(values, patches) if name in PATCHES else values))
    return [*arms, ("oracle", 100, oracle), ("oracle, patches", 100, _merged(oracle, patches))]


def _merged(values: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    nested = {name: _merged(values[name], to) for name, to in changed.items() if isinstance(values.get(name), dict)}
    return values | changed | nested


def _quick(values: dict[str, Any]) -> dict[str, Any]:
    few = {"epochs": 2, "batch_size": 16, "semi_supervised": {"num_teachers": 2, "teacher_epochs": 2}}
    return _merged(values, few)


def methods_table(runs: list[Run]) -> dict[str, Any]:
    """Print every method's scores and what they are above `none`; return the JSON's numbers."""
    summary: dict[str, Any] = {}
    by_arm = {name: of_arm(runs, name, _percent(name)) for name in (*ARMS, *PATCHES, *REMOVED)}
    print("mean AUROC of 14 against the truth (95 % interval), labels of 10 % of the patients")
    print(f"{'':22}{_HEAD}{'all inputs':>26}{'films alone':>26}")
    for name, mine in by_arm.items():
        if of_seed := by_seed(mine):
            cells = [told(over_seeds(of_seed, list(of_seed), condition)) for condition in CONDITIONS]
            print(f"{name:22}{_facts(of_seed)}" + "".join(f"{cell:>26}" for cell in cells))
    others = {"none": set(by_arm) - {"none", *PATCHES} | {"patches", "self-training, patches"}}
    others |= {"five models": {"self-training"}, "report labels": {"both from reports", "report labels, patches"}}
    others |= {"self-training": {"self-training, patches"}, "patches": {"self-training, patches"}}
    others |= {"oracle": {"oracle, patches"}}
    for other, names in others.items():
        less = {name: mine for name, mine in by_arm.items() if name in names}
        less_table(f"less {other}, the same seeds", less, by_arm[other])
    newer_table(by_arm)
    ready = {name: gain for name in METHODS if (gain := _difference(by_arm[name], by_arm["none"])) is not None}
    if ready:
        best = max(ready, key=lambda name: float(ready[name][0]))
        summary |= {"ssl_method": best, "ssl_gain": float(ready[best][0]), "ssl_gain_low": low(ready[best][1:])}
        summary |= {"ssl_seeds": len(in_pairs(by_arm[best], by_arm["none"])[0])}
        longer = _difference(by_arm[best], by_arm["none, equal time"])
        if longer is not None:
            summary |= {"ssl_gain_equal_time": float(longer[0]), "ssl_gain_equal_time_low": low(longer[1:])}
    beside = _difference(by_arm["self-training, patches"], by_arm["patches"])
    if beside is not None:
        summary |= {"ssl_gain_beside_patches": float(beside[0]), "ssl_gain_beside_patches_low": low(beside[1:])}
    report, oracle = (_difference(mine, by_arm["none"]) for mine in _of_one_version(by_arm, "report labels", "oracle"))
    if report is not None and oracle is not None:
        summary["report_gap_closed"] = float(report[0] / oracle[0])
        summary["report_gap_closed_low"] = low(report[1:] / oracle[1:])
    return summary


def _of_one_version(by_arm: Mapping[str, Sequence[Run]], *names: str) -> list[list[Run]]:
    """Runs of arms by the newest version of the code that all of them ran with."""
    versions = set.intersection(*({run["version"] for run in by_arm[name]} for name in names))
    return [[run for run in by_arm[name] if run["version"] == max(versions)] if versions else [] for name in names]


def _percent(arm: str) -> int:
    """Of the patients, whose labels are used."""
    return 100 if arm.startswith("oracle") else 10


def newer_table(by_arm: Mapping[str, Sequence[Run]]) -> None:
    """Print what the newest version of the code changed in the arms that ran with the one before it, too."""
    versions = sorted({run["version"] for runs in by_arm.values() for run in runs})
    if len(versions) < 2:
        return
    rows = []
    for name, runs in by_arm.items():
        old, new = (by_seed(run for run in runs if run["version"] == version) for version in versions[-2:])
        if both := sorted(old.keys() & new.keys()):
            more = [over_seeds(new, both, each) - over_seeds(old, both, each) for each in CONDITIONS]
            shown = _facts({seed: new[seed] for seed in both})
            rows.append(f"{name:36}{shown}" + "".join(f"{told(each):>27}" for each in more))
    if rows:
        print(f"\n{f'less code {versions[-2]}, the same seeds':36}{_HEAD}{'all inputs':>27}{'films alone':>27}")
        print("\n".join(rows))


def less_table(title: str, by_arm: Mapping[str, Sequence[Run]], others: Sequence[Run]) -> None:
    """Print what each arm has more than another in the same seeds; nothing where none of them ran."""
    rows = []
    for name, runs in by_arm.items():
        more = [_difference(runs, others, condition) for condition in CONDITIONS]
        if more[0] is not None:
            cells = "".join(f"{told(each):>27}" for each in more if each is not None)
            rows.append(f"{name:36}{_facts(in_pairs(runs, others)[0])}{cells}")
    if rows:
        print(f"\n{title:36}{_HEAD}{'all inputs':>27}{'films alone':>27}")
        print("\n".join(rows))


def _difference(one: Sequence[Run], other: Sequence[Run], condition: str = "all") -> Scores | None:
    """Over the seeds that both have by one version, paired by patient and seed; None where there is none."""
    mine, theirs = in_pairs(one, other)
    return over_seeds(mine, [*mine], condition) - over_seeds(theirs, [*mine], condition) if mine else None


_HEAD = f"{'seeds':>7}{'code':>6}{'CPU min':>9}"


def _facts(of_seed: dict[int, Run]) -> str:
    """Seeds, the code's version, and the most minutes of any seed: a run that went on knows of its last part alone."""
    minutes = max(run["cpu_minutes"] for run in of_seed.values())
    version = max(run["version"] for run in of_seed.values())
    return f"{len(of_seed):>7}{version:>6}{minutes:>9.1f}"


if __name__ == "__main__":
    run_cli(main)
