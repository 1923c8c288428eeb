"""Data preprocessed once, then trial after trial; the best is written as a configuration that runs."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import yaml
from optuna.trial import TrialState
from rich.console import Console
from rich.table import Table

from components.cxr.cli import load_config
from components.cxr.errors import UserError
from components.cxr.shards import MANIFEST, LoadedManifest, load_manifest
from components.cxr.storage.storage import Root, open_storage
from components.cxr.tracking.identity import NOTE, data_set_name, run_name
from components.cxr.tracking.tracked_run import TrackedRun
from components.cxr.tracking.tracking import joined_run
from pipeline.config import PipelineConfig
from pipeline.sweep.space import ENSEMBLE, Space, load_space, with_values
from pipeline.sweep.study import (
    ENDED,
    SIGN_S,
    LostTrials,
    drawn_values,
    give_back,
    opened_study,
    sign,
    study_key,
    under_way,
)
from pipeline.sweep.trial import run_trial

__all__ = ["Wanted", "sweep"]

MLFLOW_RUN = "mlflow_run_id"
MOST_FAILURES = 3
"""One after another: then it is not the values' fault."""
SHOWN = 5
POLL_S = 1.0
DRAW_AGAIN_S = 5.0
"""After values that are being trained already were drawn."""


class Wanted(NamedTuple):
    """A sweep as the command line asks for it."""

    config_file: Path
    overrides: list[str]
    space_file: Path
    trials: int
    """In all, those of earlier starts counted."""
    workers: int
    """Trainings at a time; with 0 the data set and the study are made where they are missing, and told."""
    storage: str | None
    """URL of the trials' database; None for a file under the root."""
    prune: bool
    """End trainings that are below the median of the others."""


def sweep(pipeline: PipelineConfig, wanted: Wanted) -> Path | None:
    """Run trials until as many as wanted have ended, and write the best.

    Everything is chosen by the validation mean AUROC of 14. The test split is not read: what the best is worth is said
    by the pipeline run that evaluates it, once.

    Returns:
        `best.yaml`: the configuration with the best trial's values; None where no trial has ended by itself.

    Raises:
        UserError: as load_space, opened_study and the steps, or MOST_FAILURES trainings one after another failed.
    """
    train = pipeline.arguments["train"] | {ENSEMBLE: 1}
    space = load_space(wanted.space_file, train)
    root = Root(pipeline.root)
    loaded = _preprocessed(wanted.config_file, wanted.overrides)
    key = study_key(train, space, loaded.hash)
    with opened_study(root, key, storage=wanted.storage, seed=train["seed"], prune=wanted.prune) as study:
        ended = len(study.get_trials(deepcopy=False, states=ENDED))
        print(f"sweep: study {key}, {ended} of {wanted.trials} trials ended", flush=True)
        name = run_name(data_set_name(root), f"sweep {key[:6]}")
        known = study.user_attrs.get(MLFLOW_RUN)
        with joined_run(
            root, experiment=train["experiment"], run_id=known, run_name=name, source="pipeline.sweep"
        ) as tracked:
            if tracked.id is not None and tracked.id != known:
                study.set_user_attr(MLFLOW_RUN, tracked.id)
                tracked.params({name: dimension.examples for name, dimension in space.items()})
                tracked.tags({NOTE: "The runs nested in this one are its trials.", "manifest_hash": loaded.hash})
            if wanted.workers:
                _run_trials(study, train, space, root, loaded, tracked, trials=wanted.trials, workers=wanted.workers)
            best = None
            if study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
                values = load_config(wanted.config_file, wanted.overrides)
                values["train"] = with_values(values.get("train") or {}, drawn_values(study.best_trial, space))
                text = _header(study) + yaml.safe_dump(values, sort_keys=False)
                tracked.text(text, "best.yaml")
                best = (root.at(f"sweeps/{key}").folder or Path("runs") / "sweeps" / key) / "best.yaml"
                best.parent.mkdir(parents=True, exist_ok=True)
                best.write_text(text)
        _print_best(study, space, wanted.trials)
        return best


def _preprocessed(config_file: Path, overrides: Sequence[str]) -> LoadedManifest:
    """The data set of the configuration, made where it is not there yet, in a process of its own.

    That says at its end where it is; `latest/` may name that of another run by then.
    """
    options = [part for override in overrides for part in ("--set", override)]
    command = [sys.executable, "-m", "components.preprocess", "--config", str(config_file), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["error: preprocess failed"]
        raise UserError.from_line(lines[-1])
    manifest = done.stdout.rpartition("\nmanifest: ")[2].rstrip("\n")
    return load_manifest(open_storage(manifest.removesuffix(f"/{MANIFEST}")))


class _Running(NamedTuple):
    trial: optuna.Trial
    values: dict[str, Any]


def _run_trials(
    study: optuna.Study,
    train: dict[str, Any],
    space: Space,
    root: Root,
    loaded: LoadedManifest,
    tracked: TrackedRun,
    *,
    trials: int,
    workers: int,
) -> None:
    """Keep `workers` trainings going until enough trials have ended."""
    distributions = {name: dimension.distribution for name, dimension in space.items()}
    stop, pending, failures = threading.Event(), dict[Future[float | None], _Running](), 0
    lost, signed, draw_at = LostTrials(study), time.monotonic(), 0.0

    def are_missing() -> bool:
        return len(study.get_trials(deepcopy=False, states=ENDED)) + len(under_way(study)) < trials

    try:
        with ThreadPoolExecutor(workers) as pool, _set_at_the_end(stop):
            while True:
                if time.monotonic() - signed >= SIGN_S:
                    signed = time.monotonic()
                    for running in pending.values():
                        sign(running.trial)
                    lost.queue_again()
                while len(pending) < workers and time.monotonic() >= draw_at and are_missing():
                    trial = study.ask(distributions)
                    sign(trial)  # first, so that of two machines with the same at least one sees the other
                    if any(o.params == trial.params for o in under_way(study) if o.number != trial.number):
                        study.tell(trial, state=TrialState.FAIL)  # two processes do not train the same
                        study.sampler.reseed_rng()  # machines that began together draw the same
                        draw_at = time.monotonic() + DRAW_AGAIN_S
                        break
                    values = {name: space[name].value(drawn) for name, drawn in trial.params.items()}
                    future = pool.submit(
                        run_trial,
                        with_values(train, values),
                        root=root,
                        loaded=loaded,
                        parent_run=tracked.id,
                        name=f"trial {trial.number}: {_shown(values)}",
                        goes_on=_median_rule(trial),
                        stop=stop,
                    )
                    pending[future] = _Running(trial, values)
                if not pending:
                    if not are_missing():
                        return
                    time.sleep(POLL_S)
                done, _ = wait(pending, timeout=POLL_S, return_when=FIRST_COMPLETED)  # Ctrl-C wakes no wait without end
                for future in done:
                    draw_at = 0.0
                    failures = _tell(study, pending.pop(future), future, tracked, failures)
    finally:
        for running in pending.values():  # their trainings have left checkpoints: any machine may go on
            give_back(study, running.trial)


@contextlib.contextmanager
def _set_at_the_end(event: threading.Event) -> Iterator[None]:
    try:
        yield
    finally:
        event.set()


def _median_rule(trial: optuna.Trial) -> Any:
    def goes_on(epoch: int, auroc: float) -> bool:
        try:
            trial.report(auroc, epoch)
        except optuna.exceptions.UpdateFinishedTrialError:  # this machine was silent for too long
            return False
        return not trial.should_prune()

    return goes_on


def _tell(
    study: optuna.Study, running: _Running, future: Future[float | None], tracked: TrackedRun, failures: int
) -> int:
    """Keep how a trial ended, say it in one line, and return how many failed one after another."""
    number, shown = running.trial.number, _shown(running.values)
    try:
        auroc = future.result()
    except UserError as error:
        study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        print(f"sweep: trial {number} failed ({error})  {shown}", flush=True)
        if failures + 1 == MOST_FAILURES:
            raise
        return failures + 1
    if study.get_trials(deepcopy=False)[number].state.is_finished():
        print(f"sweep: trial {number} was taken over by another machine  {shown}", flush=True)
        return 0
    if auroc is None:
        study.tell(number, state=TrialState.PRUNED)
        print(f"sweep: trial {number} ended early, below the median  {shown}", flush=True)
        return 0
    study.tell(number, auroc)
    best = study.best_trial
    tracked.metrics({"sweep/validate_auroc": auroc, "sweep/best_validate_auroc": best.value or auroc}, step=number)
    print(f"sweep: trial {number}  {auroc:.4f} (best {best.value:.4f}, trial {best.number})  {shown}", flush=True)
    return 0


def _header(study: optuna.Study) -> str:
    ended = len(study.get_trials(deepcopy=False, states=ENDED))
    return (
        f"# Trial {study.best_trial.number} of {study.study_name}: the best of {ended} by validation mean AUROC, "
        f"{study.best_value:.4f}.\n# The best of many is partly luck: what it is worth, the test studies say.\n"
    )


def _print_best(study: optuna.Study, space: Space, trials: int) -> None:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    ended = len(study.get_trials(deepcopy=False, states=ENDED))
    best = sorted(complete, key=lambda trial: -(trial.value or 0.0))[:SHOWN]
    table = Table()
    table.add_column("trial", justify="right")
    table.add_column("AUROC", justify="right")
    for name in space:
        table.add_column(name, justify="right")
    for trial in best:
        values = drawn_values(trial, space)
        table.add_row(str(trial.number), f"{trial.value:.4f}", *(_short(values[name]) for name in space))
    if best:
        print(f"Best {len(best)} of {ended} trials by validation mean AUROC")  # a title would be as narrow as the table
        Console().print(table)
    if ended < trials:
        print(f"sweep: {trials - ended} of {trials} trials are still missing or under way elsewhere")


def _shown(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in values.items())


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
