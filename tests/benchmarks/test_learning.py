"""What the benchmark of learning makes of the runs that are kept, and that the docs show just that."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from benchmarks import indication, learning, real_films
from benchmarks.checkpoints import MINILM
from benchmarks.kept_runs import NUM_SAMPLES, add_run, read_runs, run_key
from benchmarks.learning_curve import curve_figure, curve_table
from components.cxr.errors import UserError
from components.cxr.shards import LoadedManifest

REPOSITORY = Path(__file__).parents[2]


def run(arm: str, seed: int, *, auroc: float, per_patient: np.ndarray, percent: int = 10, version: int = 9) -> dict:
    samples = np.round(10_000 * (auroc + per_patient)).astype(int).tolist()
    return {
        "arm": arm,
        "percent": percent,
        "seed": seed,
        "preset": "medium",
        "version": version,
        "cpu_minutes": 1.5,
        "auroc_times_10000": {"all": samples, "image": samples},
    }


@pytest.fixture
def runs() -> list[dict]:
    """Patients move all runs alike by .02; seeds differ by .01 in every arm but the oracle."""
    noise = np.concatenate([[0.0], np.random.default_rng(5).normal(0.0, 0.02, NUM_SAMPLES)])
    means = {"none": 0.66, "mean teacher": 0.65, "self-training": 0.69, "report labels": 0.74, "oracle": 0.76}
    return [
        run(
            arm,
            seed,
            auroc=mean + 0.01 * seed * (arm != "oracle"),
            per_patient=noise,
            percent=100 if arm == "oracle" else 10,
        )
        for arm, mean in means.items()
        for seed in range(3)
    ]


def test_the_best_method_is_compared_with_none_patient_by_patient(
    runs: list[dict], capsys: pytest.CaptureFixture[str]
) -> None:
    found = learning.methods_table(runs)
    assert found["ssl_method"] == "self-training"
    assert found["ssl_seeds"] == 3
    assert found["ssl_gain"] == pytest.approx(0.03, abs=1e-6)
    assert found["ssl_gain_low"] == pytest.approx(0.03, abs=2e-4), "what all runs have in common falls out"
    assert found["report_gap_closed"] == pytest.approx(0.08 / 0.09, abs=1e-3)
    assert found["report_gap_closed_low"] < found["report_gap_closed"]
    lines = capsys.readouterr().out.splitlines()
    (none,) = [line for line in lines if line.startswith("none ")]
    assert "0.6700 (" in none


def test_the_gain_over_labels_alone_in_equal_time_is_told_beside(runs: list[dict]) -> None:
    equal = [each | {"arm": "none, equal time"} for each in runs if each["arm"] == "mean teacher"]
    found = learning.methods_table(runs + equal)
    assert found["ssl_gain"] == pytest.approx(0.03, abs=1e-6)
    assert found["ssl_gain_equal_time"] == pytest.approx(0.04, abs=1e-6)
    assert found["ssl_gain_equal_time_low"] == pytest.approx(0.04, abs=2e-4)
    assert "ssl_gain_equal_time" not in learning.methods_table(runs)


def test_what_self_training_gains_beside_an_expert_of_patches_is_told_too(
    runs: list[dict], capsys: pytest.CaptureFixture[str]
) -> None:
    other = {"none": "patches", "report labels": "self-training, patches"}
    beside = [each | {"arm": other[each["arm"]]} for each in runs if each["arm"] in other]
    found = learning.methods_table(runs + beside)
    assert found["ssl_gain_beside_patches"] == pytest.approx(0.08, abs=1e-6)
    assert found["ssl_gain_beside_patches_low"] == pytest.approx(0.08, abs=2e-4)
    assert found["ssl_gain"] == pytest.approx(0.03, abs=1e-6), "without the expert, as it was"
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("less patches"))
    assert lines[start + 1].startswith("self-training, patches ")
    assert "0.0800 (" in lines[start + 1]
    assert "ssl_gain_beside_patches" not in learning.methods_table(runs)


@pytest.mark.parametrize("benchmark", [learning, real_films, indication])
def test_a_misspelled_arm_is_refused_before_anything_runs(benchmark: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found nonne") as error:
        benchmark.main(root=tmp_path, arm=["nonne"])
    assert error.value.code == "unknown-arm"
    assert list(tmp_path.iterdir()) == []


def test_only_seeds_that_both_arms_have_are_compared(runs: list[dict]) -> None:
    """The third seed of self-training alone would make it look better."""
    kept = [each for each in runs if not (each["arm"] == "none" and each["seed"] == 2)]
    found = learning.methods_table(kept)
    assert found["ssl_seeds"] == 2
    assert found["ssl_gain"] == pytest.approx(0.03, abs=1e-6)


def test_runs_by_two_versions_are_never_compared(runs: list[dict], capsys: pytest.CaptureFixture[str]) -> None:
    """The new code is worth .05 in every arm: a method that ran with it beside one that did not would seem better."""

    def better(of: list[dict]) -> list[dict]:
        found = []
        for each in of:
            samples = [score + 500 for score in each["auroc_times_10000"]["all"]]
            found.append(each | {"version": 10, "auroc_times_10000": {"all": samples, "image": samples}})
        return found

    renewed = better([each for each in runs if each["arm"] == "self-training"])
    found = learning.methods_table(runs + renewed)
    assert (found["ssl_gain"], found["ssl_seeds"]) == (pytest.approx(0.03, abs=1e-6), 3)
    rows = {line[:13].strip(): line.split() for line in capsys.readouterr().out.split("\n\n")[0].splitlines()}
    assert (rows["none"][1:3], rows["none"][4]) == (["3", "9"], "0.6700")
    assert (rows["self-training"][1:3], rows["self-training"][4]) == (["3", "10"], "0.7500"), "alone, the newest"

    first = better([each for each in runs if each["arm"] == "none" and each["seed"] == 0])
    found = learning.methods_table(runs + renewed + first)
    assert (found["ssl_gain"], found["ssl_seeds"]) == (pytest.approx(0.03, abs=1e-6), 3), "the most pairs"
    rows = {line[:13].strip(): line.split() for line in capsys.readouterr().out.split("\n\n")[0].splitlines()}
    assert (rows["none"][1:3], rows["none"][4]) == (["3", "9"], "0.6700"), "a row is of one version"

    lower = [each | {"auroc_times_10000": runs[0]["auroc_times_10000"]} for each in renewed]
    every = better([each for each in runs if each["arm"] == "none"])
    found = learning.methods_table(runs + lower + every)
    assert found["ssl_gain"] == pytest.approx(-0.06, abs=1e-6), "of equals the newest"


def test_the_gap_that_reports_close_is_of_one_version(runs: list[dict]) -> None:
    """New runs of `none` and of report labels say nothing of it beside an oracle that was not run again."""
    known = learning.methods_table(runs)["report_gap_closed"]
    renewed = []
    for each in runs:
        if each["arm"] in ("none", "report labels"):
            more = 500 if each["arm"] == "none" else 800
            samples = [score + more for score in each["auroc_times_10000"]["all"]]
            renewed.append(each | {"version": 10, "auroc_times_10000": {"all": samples, "image": samples}})
    found = learning.methods_table(runs + renewed)
    assert found["report_gap_closed"] == known
    oracle = [each | {"version": 10} for each in runs if each["arm"] == "oracle"]
    assert learning.methods_table(runs + renewed + oracle)["report_gap_closed"] == pytest.approx(0.11 / 0.04, abs=1e-3)


def test_what_a_version_changed_is_told_by_arm(runs: list[dict], capsys: pytest.CaptureFixture[str]) -> None:
    learning.methods_table(runs)
    assert "less code" not in capsys.readouterr().out
    samples = [score + 40 for score in runs[0]["auroc_times_10000"]["all"]]
    assert (runs[0]["arm"], runs[0]["seed"]) == ("none", 0)
    again = [runs[0] | {"version": 10, "auroc_times_10000": {"all": samples, "image": samples}}]
    learning.methods_table(runs + again + [each | {"version": 3, "seed": 7} for each in runs])
    (table,) = [
        part for part in capsys.readouterr().out.split("\n\n") if part.startswith("less code 9, the same seeds")
    ]
    (row,) = [line.split() for line in table.splitlines()[1:]]
    assert row[:3] == ["none", "1", "10"]
    assert row[4:7] == ["0.0040", "(0.0040,", "0.0040)"]


def test_without_runs_there_is_nothing_to_tell() -> None:
    assert learning.methods_table([]) == {}


def test_shares_of_labels_are_rows_of_the_curve(runs: list[dict]) -> None:
    few = [each | {"percent": 1, "arm": each["arm"]} for each in runs if each["arm"] in ("none", "report labels")]
    curve = {"arms": learning.CURVES["oracle"], "everything": "oracle"}
    table, differences = curve_table(runs + few[:1], **curve).split("\n\n")
    (one,) = [line for line in table.splitlines() if line.startswith("1 %")]
    (ten,) = [line for line in table.splitlines() if line.startswith("10 %")]
    (whole,) = [line for line in table.splitlines() if line.startswith("100 %")]
    assert "0.6600 (" in one
    assert "(1)" in one
    assert "0.6700 (" in ten
    assert "(3)" in ten
    assert "0.7600 (" in whole
    title, arms, only = differences.splitlines()
    assert (title, arms.split()[:2]) == ("less none, the same seeds", ["self-training", "report"])
    assert only.split() == [
        "10",
        "%",
        "0.0300",
        "(0.0300,",
        "0.0300)",
        "(3)",
        "0.0800",
        "(0.0800,",
        "0.0800)",
        "(3)",
    ], "at 1 % one arm ran"
    assert not curve_table(runs, **curve), "10 % alone is no curve"
    assert curve_figure(runs, learning.CURVES) is None


def test_every_curve_of_the_figure_ends_where_all_labels_are_used(runs: list[dict]) -> None:
    alone = [each for each in runs if each["arm"] in (*learning.CURVES["oracle"], "oracle")]
    arm = {other: name for name, other in learning.PATCHES.items()}
    beside = []
    for each in alone:
        better = {name: [score + 500 for score in scores] for name, scores in each["auroc_times_10000"].items()}
        beside.append(each | {"arm": arm[each["arm"]], "auroc_times_10000": better})
    few = [each | {"percent": 1} for each in alone + beside if each["percent"] == 10]
    drawn = curve_figure(alone + beside + few, learning.CURVES)
    (axes,) = drawn.axes
    curves = {each.get_label(): each.lines[0] for each in axes.containers}
    assert list(curves) == [name for arms in learning.CURVES.values() for name in arms]
    for name, line in curves.items():
        assert line.get_ydata()[-1] == pytest.approx(0.81 if name in learning.PATCHES else 0.76, abs=1e-4)
    assert curves["none"].get_ydata()[1] == pytest.approx(0.67, abs=1e-4)
    looks = {(line.get_marker(), line.get_markerfacecolor() == "white") for line in curves.values()}
    assert len(looks) == 6, "told apart without colors"


def test_ablations_are_compared_with_the_oracle(runs: list[dict], capsys: pytest.CaptureFixture[str]) -> None:
    oracle = [each for each in runs if each["arm"] == "oracle"]
    lower = [
        each
        | {
            "arm": "no EMA",
            "auroc_times_10000": {
                name: [value - 100 for value in values] for name, values in each["auroc_times_10000"].items()
            },
        }
        for each in oracle
    ]
    learning.less_table("less oracle", {"no EMA": lower, "no augmentation": []}, oracle)
    table = capsys.readouterr().out
    (row,) = [line for line in table.splitlines() if line.startswith("no EMA")]
    assert row.split()[2] == "3"
    assert "-0.0100 (-0.0100, -0.0100)" in table


def test_a_pretrained_arm_changes_the_text_encoder_alone() -> None:
    methods = {name: values for name, _, values in learning._arms(learning.Part.METHODS, 2)}
    arms = list(learning._arms(learning.Part.PRETRAINED, 2))
    assert {(name, percent) for name, percent, _ in arms} == {
        (name, percent) for name in learning.PRETRAINED for percent in (10, 100)
    }
    for name, percent, values in arms:
        assert values.pop("tuning") == learning.PRETRAINED[name]
        text = values["architecture"].pop("text")
        assert values == methods["oracle" if percent == 100 else "none"]
        assert text == {"model_type": "bert", "pretrained": MINILM}


def test_an_arm_with_a_share_of_the_labels_changes_only_that() -> None:
    arms = {(name, percent): values for name, percent, values in learning._arms(learning.Part.CURVE, 3)}
    methods = {name: values for name, _, values in learning._arms(learning.Part.METHODS, 3)}
    for name in (name for of_curve in learning.CURVES.values() for name in of_curve):
        assert arms[name, 10] == methods[name], "the run is found again"
        assert arms[name, 1]["labeled_fraction"] == 0.01
        assert arms[name, 1]["labeled_seed"] == 3
        assert (arms[name, 3]["architecture"]["patches"] == "none") == (name not in learning.PATCHES)
    for name in learning.CURVES:
        assert arms[name, 100] == methods[name]
    assert arms["self-training", 3]["semi_supervised"]["teacher_epochs"] == arms["none", 3]["epochs"]
    assert arms["self-training, patches", 3]["semi_supervised"] == arms["self-training", 3]["semi_supervised"]
    assert arms["patches", 3]["epochs"] == arms["none", 3]["epochs"]
    assert "teacher_epochs" not in methods["self-training"]["semi_supervised"]


def test_an_ablation_keeps_the_rest_of_its_section() -> None:
    arms = {name: values for name, _, values in learning._arms(learning.Part.ABLATIONS, 0)}
    concat = arms["one attention (concat)"]["architecture"]
    assert concat["fusion"] == {"kind": "concat"}
    assert concat["vision"]["model_type"] == "resnet"


def test_runs_of_several_processes_are_all_kept(tmp_path: Path) -> None:
    for key in ("b", "a"):
        add_run(tmp_path / "runs.json", key, {"arm": key})
    assert read_runs(tmp_path / "runs.json") == {"a": {"arm": "a"}, "b": {"arm": "b"}}
    assert read_runs(tmp_path / "none.json") == {}


def test_a_run_is_found_again_where_the_data_moved() -> None:
    def data(*shards: str, place: str = "here") -> LoadedManifest:
        manifest = SimpleNamespace(shards=tuple(SimpleNamespace(sha256=sha256) for sha256 in shards))
        return LoadedManifest(manifest, None, place)  # type: ignore[arg-type]

    key = run_key("train 1", {"epochs": 2}, data("a", "b"))
    assert key == run_key("train 1", {"epochs": 2}, data("a", "b", place="there"))
    assert key != run_key("train 1", {"epochs": 2}, data("a", "c"))
    assert key != run_key("train 2", {"epochs": 2}, data("a", "b"))
    assert key != run_key("train 1", {"epochs": 3}, data("a", "b"))


def test_the_docs_show_what_the_kept_runs_say(capsys: pytest.CaptureFixture[str]) -> None:
    page = (REPOSITORY / "docs" / "learning.md").read_text()
    for preset in sorted({each["preset"] for each in read_runs(learning.RESULTS).values()}):
        learning.print_report(learning.RESULTS, preset)
        shown = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())
        assert f"```text\n{shown}\n```" in page


def test_the_figure_in_the_docs_is_drawn_from_the_kept_runs(tmp_path: Path) -> None:
    """By its description, as another matplotlib may draw the same curves by other pixels."""
    page = REPOSITORY / "docs" / "learning-curve.png"
    learning.print_report(learning.RESULTS, figure=tmp_path / "curve.png")
    with Image.open(page) as shown, Image.open(tmp_path / "curve.png") as drawn:
        assert "self-training" in drawn.info["Description"]
        assert shown.info["Description"] == drawn.info["Description"]
        assert shown.size == drawn.size


def test_every_kept_run_is_whole() -> None:
    known = {(name, percent) for part in learning.Part for name, percent, _ in learning._arms(part, 0)}
    known |= {(name, 10) for name in learning.REMOVED}
    for key, kept in read_runs(learning.RESULTS).items():
        assert len(key) == 16
        assert (kept["arm"], kept["percent"]) in known
        assert kept["revision"]
        for samples in kept["auroc_times_10000"].values():
            assert len(samples) == 1 + NUM_SAMPLES
            assert all(3000 < value < 10_000 for value in samples)
