"""What benchmarks/real_films.py prints of the runs that are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.film_folds import LEAKING, SOURCES
from benchmarks.kept_runs import over_seeds, told
from benchmarks.resampled import low

__all__ = ["print_tables"]

Run = Mapping[str, Any]
IMAGENET = ("ImageNet, frozen", "ImageNet, tuned")
"""Arms whose encoder has learned photographs; beside them those without the expert of patches."""
SHORT = {"all": "all inputs", "image": "films alone"}


def print_tables(runs: Sequence[Run], *, arms: Sequence[str]) -> dict[str, Any]:
    """Print every arm in all films, in those of each source and by pathology, and return the JSON's numbers."""
    by_arm = {name: {run["seed"]: run for run in runs if run["arm"] == name} for name in arms}
    by_arm = {name: of_seed for name, of_seed in by_arm.items() if of_seed}
    if not by_arm:
        return {}
    some = next(iter(next(iter(by_arm.values())).values()))
    print(f"{some['films']} films of {some['patients']} patients, five folds; mean AUROC (95 % interval)")
    wide = 2 + max(len(name) for name in by_arm)
    print(f"{'':{wide}}{'seeds':>6}{'CPU s':>7}{'all inputs':>26}{'films alone':>26}")
    for name, of_seed in by_arm.items():
        cells = [_cell(of_seed, condition) for condition in SHORT]
        print(f"{name:{wide}}{len(of_seed):>6}{_seconds(of_seed):>7.0f}" + "".join(f"{cell:>26}" for cell in cells))
    both = "ImageNet, tuned, patches"
    _print_less(by_arm, "shipped", ("plain", "without patches", "two models", both), of="image")
    _print_less(by_arm, "shipped", ("without patches", "two models", both), of="all")
    _print_less(by_arm, "without patches", ("plain", "two models", "no augmentation", *IMAGENET), of="image")
    _print_less(by_arm, "without patches", ("two models", "no augmentation", *IMAGENET), of="all")
    few = ("patches", "five models", "self-training", *IMAGENET)
    for of in SHORT:
        _print_less(by_arm, "none, 10 % labeled", [f"{name}, 10 % labeled" for name in few], of=of)
        _print_less(by_arm, "patches, 10 % labeled", [f"{both}, 10 % labeled"], of=of)
    print("\nthe weights of the last epoch")
    for name, of_seed in by_arm.items():
        if (last := _cell(of_seed, "last")) != "-":
            print(f"{name:{wide + 13}}{last:>26}")
    _print_sources(by_arm)
    _print_pathologies(by_arm)
    return _summary(by_arm)


def _print_less(by_arm: Mapping[str, Mapping[int, Run]], other: str, names: Sequence[str], *, of: str) -> None:
    """What arms have more than another in the same seeds, from the same inputs."""
    rows = []
    for name in names:
        if both := sorted(by_arm.get(name, {}).keys() & by_arm.get(other, {}).keys()):
            more = over_seeds(by_arm[name], both, of) - over_seeds(by_arm[other], both, of)
            rows.append(f"{name:43}{len(both):>6}{told(more):>28}")
    if rows:
        print(f"\n{f'less {other}, the same seeds':43}{'seeds':>6}{SHORT[of]:>28}")
        print("\n".join(rows))


def _print_sources(by_arm: Mapping[str, Mapping[int, Run]]) -> None:
    wanted = {f"{source} px": f"films of {source} px" for source in SOURCES}
    wanted |= {f"{LEAKING}, 1024 px": f"{LEAKING}, 1024 px"}
    print(f"\n{'by source; best inputs of the arm':34}" + "".join(f"{title:>26}" for title in wanted.values()))
    for name, of_seed in by_arm.items():
        best = _best(of_seed)
        print(f"{name:34}" + "".join(f"{_cell(of_seed, f'{best}, {which}'):>26}" for which in wanted))


def _print_pathologies(by_arm: Mapping[str, Mapping[int, Run]]) -> None:
    wide = {name: max(18, 2 + len(name)) for name in by_arm}
    print(
        f"\n{'by pathology, mean over seeds':30}{'positive':>9}" + "".join(f"{name:>{wide[name]}}" for name in by_arm)
    )
    some = next(iter(next(iter(by_arm.values())).values()))
    for pathology in next(iter(some["pathologies"].values())):
        line = f"{pathology:30}{sum(some['positives'][pathology]):>9}"
        for name, of_seed in by_arm.items():
            values = [run["pathologies"][_best(of_seed)][pathology][0] for run in of_seed.values()]
            line += f"{np.mean(values) / 10_000:>{wide[name]}.3f}"
        print(line)


def _summary(by_arm: Mapping[str, Mapping[int, Run]]) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def gain(one: str, other: str, *, of: str, less: str) -> tuple[float, float, int] | None:
        both = sorted(by_arm.get(one, {}).keys() & by_arm.get(other, {}).keys())
        if not both or of not in by_arm[one][both[0]]["auroc_times_10000"]:
            return None
        difference = over_seeds(by_arm[one], both, of) - over_seeds(by_arm[other], both, less)
        return float(difference[0]), low(difference[1:]), len(both)

    for label, of in (("nih_gain", "all"), ("nih_gain_films", "image"), ("nih_gain_last_epoch", "last")):
        if (compared := gain("shipped", "plain", of=of, less="image")) is not None:
            found |= {label: compared[0], f"{label}_low": compared[1], "nih_seeds": compared[2]}
    if (bare := gain("without patches", "plain", of="all", less="image")) is not None:
        found |= {"nih_gain_without_patches": bare[0], "nih_gain_without_patches_low": bare[1]}
    if (patches := gain("patches, 10 % labeled", "none, 10 % labeled", of="all", less="all")) is not None:
        found |= {"nih_patches_few": patches[0], "nih_patches_few_low": patches[1]}
    if (two := gain("two models", "plain", of="all", less="image")) is not None:
        found |= {"nih_gain_two_models": two[0], "nih_gain_two_models_low": two[1]}
    if (few := gain("self-training, 10 % labeled", "none, 10 % labeled", of="all", less="all")) is not None:
        found |= {"nih_ssl_gain": few[0], "nih_ssl_low": few[1], "nih_ssl_seeds": few[2]}
    for label, name, other in (
        ("nih_pretrained", "ImageNet, tuned", "without patches"),
        ("nih_pretrained_few", "ImageNet, tuned, 10 % labeled", "none, 10 % labeled"),
    ):
        if (pretrained := gain(name, other, of="image", less="image")) is not None:
            found |= {label: pretrained[0], f"{label}_low": pretrained[1], f"{label}_seeds": pretrained[2]}
    if "shipped" in by_arm and "plain" in by_arm:
        found["nih_times"] = _seconds(by_arm["shipped"]) / _seconds(by_arm["plain"])
    found["seconds_per_fold"] = {name: round(_seconds(of_seed)) for name, of_seed in by_arm.items()}
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}


def _seconds(of_seed: Mapping[int, Run]) -> float:
    """CPU seconds of a fold, training and answers; the median."""
    return float(np.median([each for run in of_seed.values() for each in run["cpu_seconds"]]))


def _best(of_seed: Mapping[int, Run]) -> str:
    """All inputs, where an arm has more than films."""
    some = next(iter(of_seed.values()))
    return "all" if "all" in some["pathologies"] else "image"


def _cell(of_seed: Mapping[int, Run], which: str) -> str:
    some = next(iter(of_seed.values()))
    return told(over_seeds(of_seed, sorted(of_seed), which)) if which in some["auroc_times_10000"] else "-"
