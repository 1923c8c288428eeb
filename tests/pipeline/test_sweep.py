"""Sweeps: what may vary, trials that go on where they were, and a best that never saw the test split."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import optuna
import pytest
import yaml
from optuna.trial import TrialState

from components.cxr.errors import UserError
from components.cxr.shards import MANIFEST, load_manifest
from components.cxr.storage.pointers import read_pointer, write_pointer
from components.cxr.storage.storage import Root, open_storage
from components.cxr.tracking.mlflow_server import quiet_mlflow, tracking_uri
from components.cxr.tracking.tracked_run import TrackedRun
from components.train.config import TrainConfig
from pipeline.config import load_pipeline_config
from pipeline.sweep.space import Dimension, load_space, with_values
from pipeline.sweep.study import ENDED, OWNER, LostTrials, give_back, opened_study, sign, study_key, under_way
from pipeline.sweep.sweep import Wanted, _preprocessed, _run_trials, sweep
from pipeline.sweep.trial import run_trial

REPOSITORY = Path(__file__).parents[2]


def space_file(folder: Path, text: str) -> Path:
    file = folder / "space.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "code", "found"),
    [
        ("{}", "empty-space", "nothing to vary"),
        ("learning_rat: {low: 0.1, high: 1}", "unknown-config-field", "learning_rat"),
        ("learning_rate: {low: 1, high: 0.1}", "bad-config-value", "low < high"),
        ("learning_rate: {low: 0, high: 0.1, log: true}", "bad-config-value", "low above 0"),
        ("epochs: {low: 0, high: 4}", "bad-config-value", "epochs"),
        ("precision: {choices: [float32, float16]}", "bad-config-value", "precision"),
        ("precision: {choices: [float32]}", "bad-config-value", "two choices"),
        ("epochs: {low: 1, high: 3, choices: [1, 2]}", "bad-config-value", "choices alone"),
        ("epochs: 3", "bad-space", "int"),
        ("seed: {low: 0, high: 9}", "sweep-over-luck", "seed"),
        ("num_models: {choices: [1, 3]}", "sweep-over-models", "one model"),
    ],
)
def test_what_cannot_be_swept_is_said_before_anything_runs(text: str, code: str, found: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(found)) as error:
        load_space(space_file(tmp_path, text), {})
    assert str(tmp_path / "space.yaml") in str(error.value)
    assert error.value.code == code


def test_an_empty_space_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    values = {"root": f"{tmp_path}/root", "data": {"adapter": "dicom-folder", "dir": f"{tmp_path}/films"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    space_file(tmp_path, "# learning_rate: {low: 0.0001, high: 0.01}\n")
    done = start(tmp_path / "config.yaml", trials=1)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: nothing to vary: ")
    assert done.stderr.endswith("  [empty-space]\n")
    assert done.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "space.yaml"}


def test_a_sweep_takes_its_own_data_set_where_another_run_has_made_one_meanwhile(
    blob_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, run = Root(tmp_path / "root"), subprocess.run

    def run_beside_another(*arguments: Any, **options: Any) -> Any:
        done = run(*arguments, **options)
        write_pointer(root, "manifest", root.data("another").uri)
        return done

    monkeypatch.setattr(subprocess, "run", run_beside_another)
    found = _preprocessed(blob_config, [f"root={root.uri}"])
    assert found.storage.exists(MANIFEST)
    assert found.storage.uri.startswith(f"{root.uri}/data/")


def test_the_space_of_the_page_is_one_of_the_demo(tmp_path: Path) -> None:
    (block,) = re.findall(
        r"^```yaml\n(.*?)^```$", (REPOSITORY / "docs/sweeps.md").read_text(), re.DOTALL | re.MULTILINE
    )
    train = load_pipeline_config(REPOSITORY / "pipeline/configs/demo.yaml").arguments["train"]
    assert {"learning_rate", "architecture.fusion.kind"} <= load_space(space_file(tmp_path, block), train).keys()


def test_a_value_goes_where_its_name_says_and_nothing_else_changes() -> None:
    train = {"epochs": 3, "semi_supervised": {"method": "none", "weight": 1.0}}
    found = with_values(train, {"semi_supervised.weight": 2.5, "augment.erase": 0.1})
    assert found == {"epochs": 3, "semi_supervised": {"method": "none", "weight": 2.5}, "augment": {"erase": 0.1}}
    assert train["semi_supervised"] == {"method": "none", "weight": 1.0}


def test_whole_numbers_and_sections_come_back_as_they_were() -> None:
    whole = Dimension(low=2, high=64, log=True)
    assert isinstance(whole.distribution, optuna.distributions.IntDistribution)
    sections = Dimension(choices=({"kind": "concat"}, None, 3))
    drawn = sections.distribution.choices  # type: ignore[attr-defined]
    assert tuple(sections.value(each) for each in drawn) == sections.choices


def test_trials_of_other_code_or_of_another_bundle_to_start_from_are_of_another_study(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = TrainConfig().model_dump(mode="json")
    tuned = TrainConfig(fine_tune_from="/runs/public").model_dump(mode="json")

    def starts_from(bundle: str) -> str:
        known = SimpleNamespace(hash=bundle)
        monkeypatch.setattr("components.train.key.origin", lambda source: (source, known))
        return study_key(tuned, {}, "data")

    before = study_key(plain, {}, "data")
    assert before == study_key(plain, {}, "data") != study_key(plain, {}, "other data")
    assert starts_from("one") == starts_from("one") != starts_from("another")
    monkeypatch.setattr("components.train.key.VERSION", 0)
    assert study_key(plain, {}, "data") != before


def test_a_trial_that_was_killed_is_queued_again_and_a_finished_one_is_not(tmp_path: Path) -> None:
    distributions = {"learning_rate": Dimension(low=1e-4, high=1e-2, log=True).distribution}
    with opened_study(Root(tmp_path), "k", storage=None, seed=0, prune=True) as study:
        first = study.ask(distributions)
        study.tell(first, 0.6)
        lost = study.ask(distributions)  # its process ends here
        lost.set_user_attr(OWNER, [socket.gethostname(), 2**22 + 1, 0.0, time.time()])
    with opened_study(Root(tmp_path), "k", storage=None, seed=0, prune=True) as study:
        again = study.ask(distributions)
        assert again.params == lost.params
        other = study.ask(distributions)
        assert other.params not in (first.params, lost.params), "not the first draws again"
        states = [trial.state for trial in study.trials]
        assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING, TrialState.RUNNING]


def test_a_running_trial_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = {"learning_rate": Dimension(low=1e-4, high=1e-2, log=True)}
    no_data: Any = None  # the training below waits, and learns nothing
    none, deadline, seen = TrackedRun(None, None, journal=None), time.monotonic() + 20, set[float]()

    def training(train: dict[str, Any], **_: object) -> float:
        assert 1e-4 < train["learning_rate"] < 1e-2
        while len(seen) < 3 and time.monotonic() < deadline:
            seen.add(study.get_trials()[0].user_attrs[OWNER][-1])
            time.sleep(0.02)
        return 0.7

    monkeypatch.setattr("pipeline.sweep.sweep.run_trial", training)
    monkeypatch.setattr("pipeline.sweep.sweep.SIGN_S", 0.0)
    monkeypatch.setattr("pipeline.sweep.sweep.POLL_S", 0.05)
    with opened_study(Root(tmp_path), "k", storage=None, seed=0, prune=True) as study:
        _run_trials(study, {}, space, Root(tmp_path), no_data, none, trials=1, workers=1)
        assert study.best_value == 0.7
    assert len(seen) == 3
    assert max(seen) - min(seen) < 60


def test_two_sweeps_share_a_file_and_take_no_trial_from_each_other(tmp_path: Path) -> None:
    distributions = {"learning_rate": Dimension(low=1e-4, high=1e-2, log=True).distribution}
    with (
        opened_study(Root(tmp_path), "k", storage=None, seed=0, prune=True) as here,
        opened_study(Root(tmp_path), "k", storage=None, seed=0, prune=True) as there,
    ):
        one, other = here.ask(distributions), there.ask(distributions)
        sign(one)
        sign(other)
        LostTrials(there).queue_again()
        assert {trial.number for trial in under_way(here)} == {one.number, other.number} == {0, 1}
        give_back(there, other)
        assert here.ask(distributions).params == other.params
        here.tell(one, 0.6)
        assert there.best_trial.number == one.number


def test_a_trial_of_which_nobody_said_a_word_is_lost_in_every_time_zone(tmp_path: Path) -> None:
    distributions = {"learning_rate": Dimension(low=1e-4, high=1e-2, log=True).distribution}
    zones = ("UTC", "Pacific/Kiritimati", "Etc/GMT+12")
    with (
        pytest.MonkeyPatch.context() as patch,
        opened_study(Root(tmp_path), "k", storage=None, seed=0, prune=True) as study,
    ):
        drawn = [_drawn_in(zone, study, distributions, patch) for zone in zones]
        patch.setenv("TZ", "UTC")
        time.tzset()
        lost = LostTrials(study)
        lost.queue_again()
        assert {trial.state for trial in study.trials} == {TrialState.RUNNING}, "they may say it yet"
        sign(drawn[0])
        lost.queue_again()
        running, failed, waiting = TrialState.RUNNING, TrialState.FAIL, TrialState.WAITING
        assert [trial.state for trial in study.trials] == [running, failed, failed, waiting, waiting]
    time.tzset()


def _drawn_in(zone: str, study: optuna.Study, distributions: Any, patch: pytest.MonkeyPatch) -> optuna.Trial:
    patch.setenv("TZ", zone)
    time.tzset()
    return study.ask(distributions)


def test_a_bucket_or_a_database_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    wrong = "postgresql://nobody:secret-word@127.0.0.1:1/none"
    for root, storage, found in (
        (Root("gs://bucket/runs"), None, "a bucket"),
        (Root(tmp_path), wrong, "OperationalError"),
        (Root(tmp_path), "no such thing", "ArgumentError"),
    ):
        with (
            pytest.raises(UserError) as error,
            opened_study(root, "k", storage=storage, seed=0, prune=True),
        ):
            pass
        assert error.value.code == "no-sweep-storage"
        assert found in str(error.value)
        assert "secret-word" not in str(error.value)


def test_no_trial_logs_into_the_run_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLFLOW_RUN_ID is the sweep's; in one run for all, a trial's curves would be taken for those of the first."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nenv >{tmp_path}/environment\necho 'error: no training  [none]'\nexit 2\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    loaded: Any = SimpleNamespace(hash="0" * 64, storage=SimpleNamespace(uri=str(tmp_path)))
    with pytest.raises(UserError, match="no training"):
        run_trial(
            {}, root=Root(tmp_path), loaded=loaded, parent_run="1" * 32, name="trial 0",
            goes_on=lambda *_: True, stop=threading.Event(),
        )  # fmt: skip
    names = {line.partition("=")[0] for line in (tmp_path / "environment").read_text().splitlines()}
    assert "CXRFLOW_PARENT_RUN" in names
    assert "MLFLOW_RUN_ID" not in names


@pytest.fixture(scope="module")
def swept(blob_config: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Root, configuration (of two models) and output of a sweep of three trials by two workers, the first too slow."""
    folder = tmp_path_factory.mktemp("sweep")
    config = folder / "config.yaml"
    values = yaml.safe_load(blob_config.read_text()) | {"root": str(folder / "root")}
    values["train"]["num_models"] = 2
    config.write_text(yaml.safe_dump(values))
    space_file(folder, "learning_rate: {choices: [1.0e-6, 5.0e-3]}\nepochs: {low: 6, high: 8}\n")
    done = start(config, trials=3, workers=2)
    assert done.returncode == 0, done.stderr
    return folder, config, done.stdout


def start(config: Path, *, trials: int, workers: int = 1) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(config, trials, workers), cwd=REPOSITORY, capture_output=True, text=True)


def command(config: Path, trials: int, workers: int = 1) -> list[str]:
    return [
        sys.executable, "-m", "pipeline", "sweep", "--config", str(config),
        "--space", str(config.parent / "space.yaml"), "--trials", str(trials), "--workers", str(workers),
    ]  # fmt: skip


def trials_of(root: Path) -> list[optuna.trial.FrozenTrial]:
    (log,) = root.glob("sweeps/*/trials.log")
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(log)))
    return optuna.load_study(study_name=None, storage=storage).trials


@pytest.mark.slow
def test_the_best_by_validation_is_written_as_a_configuration_that_runs(swept: tuple[Path, Path, str]) -> None:
    folder, config, output = swept
    trials = trials_of(folder / "root")
    assert [trial.state for trial in trials if trial.state in ENDED] == 3 * [TrialState.COMPLETE]
    best = max(trials, key=lambda trial: trial.value or 0)
    (file,) = (folder / "root").glob("sweeps/*/best.yaml")
    pipeline = load_pipeline_config(file)
    rate = json.loads(best.params["learning_rate"])
    assert pipeline.arguments["train"]["learning_rate"] == rate
    assert pipeline.arguments["train"]["epochs"] == best.params["epochs"]
    assert load_pipeline_config(config).arguments["data"] == pipeline.arguments["data"]
    learned = [trial.value for trial in trials if json.loads(trial.params["learning_rate"]) == 5e-3]
    stood = [trial.value for trial in trials if json.loads(trial.params["learning_rate"]) == 1e-6]
    assert not learned or not stood or min(learned) > max(stood)
    assert f"--config {file}" in output
    assert pipeline.arguments["train"]["num_models"] == 2, "the winner is trained as the configuration says"
    bundles = list((folder / "root" / "bundles").glob("*/bundle.json"))
    assert {json.loads(bundle.read_text())["num_models"] for bundle in bundles} == {1}, "a trial trains one"
    train = [sys.executable, "-m", "components.train", "--config", str(file), "--set", "train.num_models=1"]
    done = subprocess.run(train, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "train: reused bundles/" in done.stdout, "the best is trained already"


@pytest.mark.slow
def test_trials_are_runs_nested_in_the_sweeps(swept: tuple[Path, Path, str]) -> None:
    folder, _, _ = swept
    with quiet_mlflow():
        client = mlflow.MlflowClient(tracking_uri(Root(folder / "root")))
        experiment = client.get_experiment_by_name("cxrflow")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.data.tags["mlflow.source.name"] == "pipeline.sweep"]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    values = sorted(trial.value or 0 for trial in trials_of(folder / "root"))
    assert len(children) == len({json.dumps(trial.params, sort_keys=True) for trial in trials_of(folder / "root")})
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    for run in children:
        assert re.match(r"trial \d+: learning_rate [\d.e-]+", run.info.run_name), "what tells it from the others"
    assert parent.data.metrics["sweep/best_validate_auroc"] == pytest.approx(values[-1])
    assert {run.data.metrics["validate/kept_auroc"] for run in children} == {*values}


@pytest.mark.slow
def test_a_trial_whose_epoch_validation_cannot_pick_is_an_error(swept: tuple[Path, Path, str]) -> None:
    folder, config, _ = swept
    root = Root(folder / "root")
    options = {"num_models": 1, "epochs": 1, "labeled_fraction": 0.15}  # validated, by too few
    with pytest.raises(UserError, match="too few labels to choose by"):
        run_trial(
            load_pipeline_config(config).arguments["train"] | options,
            root=root,
            loaded=load_manifest(open_storage(read_pointer(root, "manifest", made_by="preprocess"))),
            parent_run=None,
            name="trial",
            goes_on=lambda *_: True,
            stop=threading.Event(),
        )


@pytest.mark.slow
def test_a_sweep_without_the_test_split_finds_the_same(swept: tuple[Path, Path, str], tmp_path: Path) -> None:
    folder, config, _ = swept
    values = yaml.safe_load(config.read_text()) | {"root": str(tmp_path / "root")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "space.yaml").write_text((folder / "space.yaml").read_text())
    options = ["--config", str(tmp_path / "config.yaml")]
    subprocess.run([sys.executable, "-m", "components.preprocess", *options], cwd=REPOSITORY, check=True)
    shards = list((tmp_path / "root").glob("data/*/shards/*test*")) or list((tmp_path / "root").rglob("*test*.parquet"))
    assert shards
    for shard in shards:
        shard.write_bytes(b"nothing that could be read")
    pipeline = load_pipeline_config(tmp_path / "config.yaml")
    files = (tmp_path / "config.yaml", [], tmp_path / "space.yaml")
    found = sweep(pipeline, Wanted(*files, trials=1, workers=1, storage=None, prune=True))
    assert found.exists()
    known = {json.dumps(trial.params, sort_keys=True): trial.value for trial in trials_of(folder / "root")}
    for trial in trials_of(tmp_path / "root"):
        shown = json.dumps(trial.params, sort_keys=True)
        assert trial.value == known.get(shown, trial.value)
    assert any(json.dumps(trial.params, sort_keys=True) in known for trial in trials_of(tmp_path / "root"))
