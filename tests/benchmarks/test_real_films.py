"""The benchmark on real films: its arms, its plain recipe, its tables, and that the docs show just those."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import real_films
from benchmarks.film_folds import CONFIG, LEAKING, SOURCES, OutOfFold, out_of_fold
from benchmarks.kept_runs import NUM_SAMPLES, read_runs
from benchmarks.real_films_tables import print_tables
from components.cxr.auroc import auroc
from components.cxr.config import load_yaml, section
from components.cxr.model.dataset import StudyDataset
from components.cxr.shards import LoadedManifest
from components.cxr.text.text import TextConfig
from components.train.config import TrainConfig

REPOSITORY = Path(__file__).parents[2]
NAMES = ("Effusion", LEAKING)


def run(arm: str, seed: int, *, auroc: float, per_patient: np.ndarray) -> dict:
    conditions = ("image",) if arm == "plain" else ("all", "image", "last")
    kinds = ["", *(f", {source} px" for source in SOURCES), f", {LEAKING}, 1024 px"]
    samples = np.round(10_000 * (auroc + per_patient)).astype(int).tolist()
    return {
        "arm": arm, "seed": seed, "films": 100, "patients": 40, "positives": {name: [10, 20] for name in NAMES},
        "cpu_seconds": [20.0 + seed] if arm == "plain" else [50.0 + seed],
        "auroc_times_10000": {f"{condition}{kind}": samples for condition in conditions for kind in kinds},
        "pathologies": {condition: {name: [round(10_000 * auroc), 1, 2] for name in NAMES} for condition in conditions},
    }  # fmt: skip


@pytest.fixture
def runs() -> list[dict]:
    """Patients move all runs alike by .02; seeds differ by .01 in all arms but the plain one."""
    noise = np.concatenate([[0.0], np.random.default_rng(5).normal(0.0, 0.02, NUM_SAMPLES)])
    means = {
        "shipped": 0.65,
        "plain": 0.62,
        "without patches": 0.64,
        "two models": 0.67,
        "no augmentation": 0.655,
        "ImageNet, tuned": 0.66,
        "none, 10 % labeled": 0.55,
        "patches, 10 % labeled": 0.57,
        "five models, 10 % labeled": 0.555,
        "self-training, 10 % labeled": 0.56,
        "ImageNet, tuned, 10 % labeled": 0.575,
    }
    return [
        run(arm, seed, auroc=mean + 0.01 * seed * (arm != "plain"), per_patient=noise)
        for arm, mean in means.items()
        for seed in range(3)
    ]


def test_arms_are_compared_patient_by_patient(runs: list[dict], capsys: pytest.CaptureFixture[str]) -> None:
    found = print_tables(runs, arms=list(real_films.ARMS))
    assert found["nih_gain"] == pytest.approx(0.04)
    assert found["nih_gain_low"] == pytest.approx(0.033, abs=0.004), (
        "the seeds' spread is left, the patients' falls out"
    )
    assert found["nih_ssl_gain"] == pytest.approx(0.01)
    assert found["nih_ssl_low"] == pytest.approx(0.01, abs=1e-4)
    assert found["nih_gain_last_epoch"] == found["nih_gain_films"] == found["nih_gain"]
    assert found["nih_times"] == pytest.approx(51 / 21, abs=1e-3)
    assert found["seconds_per_fold"]["plain"] == 21
    out = capsys.readouterr().out
    assert out.startswith("100 films of 40 patients, five folds;")
    less = out[out.index("less shipped, the same seeds") :].splitlines()[:4]
    assert [line.split()[:-2] for line in less[1:]] == [
        ["plain", "3", "-0.0400"],
        ["without", "patches", "3", "-0.0100"],
        ["two", "models", "3", "0.0200"],
    ]
    bare = out[out.index("less without patches, the same seeds") :].splitlines()[1:5]
    assert [line.split()[-3] for line in bare] == ["-0.0300", "0.0300", "0.0150", "0.0200"]
    few = out[out.index("less none, 10 % labeled, the same seeds") :].splitlines()[1:5]
    assert [line.split()[-3] for line in few] == ["0.0200", "0.0050", "0.0100", "0.0250"]
    assert (found["nih_pretrained"], found["nih_pretrained_few"]) == pytest.approx((0.02, 0.025))
    assert (found["nih_pretrained_low"], found["nih_pretrained_seeds"]) == (pytest.approx(0.02), 3)
    assert (found["nih_patches_few"], found["nih_gain_without_patches"]) == pytest.approx((0.02, 0.03))
    assert found["nih_gain_two_models"] == pytest.approx(0.06)
    assert found["nih_gain_two_models_low"] == pytest.approx(0.053, abs=0.004)
    (plain, *_) = [line for line in out.splitlines() if line.startswith("plain ")]
    assert "3     21" in plain
    assert plain.endswith(")")
    assert plain.split()[3] == "-", "no metadata to answer from"
    assert "0.6200 (" in plain


def test_only_seeds_that_both_arms_have_are_compared(runs: list[dict]) -> None:
    """The third seed of the shipped recipe alone would make it look better."""
    kept = [each for each in runs if not (each["arm"] == "plain" and each["seed"] == 2)]
    found = print_tables(kept, arms=list(real_films.ARMS))
    assert found["nih_seeds"] == 2
    assert found["nih_gain"] == pytest.approx(0.035)


def test_without_runs_there_is_nothing_to_tell(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_tables([], arms=list(real_films.ARMS)) == {}
    assert capsys.readouterr().out == ""


def test_the_shipped_arm_is_the_shipped_configuration() -> None:
    shipped = section(load_yaml(CONFIG), "train")
    values = real_films.values_of("shipped", 2)
    assert {name: values[name] for name in shipped if name != "num_threads"} == {
        name: value for name, value in shipped.items() if name != "num_threads"
    }
    assert (values["seed"], values["labeled_seed"]) == (200, 2)
    assert real_films.values_of("none, 10 % labeled", 1)["labeled_fraction"] == 0.1
    for name in real_films.ARMS:
        TrainConfig.parse(real_films.values_of(name, 0), where="train")


def test_the_plain_recipe_learns_and_repeats_itself(films: Path, folds: list[LoadedManifest]) -> None:
    values = real_films.values_of("plain", 0) | {"epochs": 60, "batch_size": 16}
    config = TrainConfig.parse(values, where="train")
    scores = real_films.plain_scores(config, folds[0])["image"]
    test = StudyDataset(folds[0], splits=["test"], text=config.text)
    effusion = folds[0].manifest.pathologies.index("Effusion")
    assert auroc(scores[:, effusion], test.states_SP[:, effusion]) > 0.9  # type: ignore[operator]
    few = config.model_copy(update={"epochs": 1})
    again = [real_films.plain_scores(few, folds[0])["image"] for _ in range(2)]
    assert np.array_equal(*again)
    other = real_films.plain_scores(few.model_copy(update={"seed": 1}), folds[0])["image"]
    assert not np.array_equal(again[0], other)


def test_a_run_is_scored_out_of_fold_and_kept_once(
    films: Path, folds: list[LoadedManifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept is not trained again; what a stopped run left is taken."""
    asked: list[str] = []

    def answer(_: TrainConfig, loaded: LoadedManifest) -> dict[str, np.ndarray]:
        asked.append(loaded.hash)
        test = StudyDataset(loaded, splits=["test"], text=TextConfig())
        return {"image": (test.states_SP == 1).astype(np.float32)}

    labels = out_of_fold(films, folds)
    monkeypatch.setattr(real_films, "plain_scores", answer)
    monkeypatch.setattr(OutOfFold, "scored", lambda *_: ["Effusion"])
    monkeypatch.setattr(real_films, "NUM_SAMPLES", 3)  # so few films that more would draw one without a pair
    kept = tmp_path / "runs.json"
    for _ in range(2):
        real_films.keep_run("plain", 0, folds=folds, labels=labels, root=tmp_path, kept=kept)
    assert asked == [loaded.hash for loaded in folds]
    (run,) = read_runs(kept).values()
    assert run["films"] == 60
    assert run["patients"] == 30
    assert set(run["auroc_times_10000"]["image"]) == {10_000}, "every fold's scores stand beside its own labels"
    kept.unlink()
    real_films.keep_run("plain", 0, folds=folds, labels=labels, root=tmp_path, kept=kept)
    assert len(asked) == len(folds), "the scores were there"
    real_films.keep_run("plain", 1, folds=folds, labels=labels, root=tmp_path, kept=kept)
    assert len(asked) == 2 * len(folds)


def test_the_docs_show_what_the_kept_runs_say(capsys: pytest.CaptureFixture[str]) -> None:
    real_films.print_report(real_films.RESULTS)
    shown = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())
    assert f"```text\n{shown}\n```" in (REPOSITORY / "docs" / "learning.md").read_text()


def test_every_kept_run_is_whole_and_of_the_recipes_of_today() -> None:
    kept = read_runs(real_films.RESULTS)
    assert len({(each["arm"], each["seed"]) for each in kept.values()}) == len(kept) > 0
    for key, each in kept.items():
        assert len(key) == 16
        assert each["recipe"] == real_films.recipe_hash(real_films.values_of(each["arm"], each["seed"]))
        for samples in each["auroc_times_10000"].values():
            assert len(samples) == 1 + NUM_SAMPLES
            assert all(2500 < value < 10_000 for value in samples)
