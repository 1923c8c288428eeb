"""`python -m pipeline`: run the pipeline here or on Kubeflow, look at its runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from components.cxr.cli import ConfigOption, SetOption, clean_errors, terminate_cleanly
from components.cxr.errors import UserError
from components.cxr.storage.storage import Root, Storage
from pipeline.config import load_pipeline_config
from pipeline.encoders import check_encoders

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)

LOG = Path("runs/pipeline.log")
"""Of a run on this machine."""


@app.callback()
def main() -> None:
    """Chest X-rays and reports in, a deployed classifier out."""


@app.command()
@clean_errors
def run(
    config: ConfigOption,
    overrides: SetOption,
    log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"Everything that the steps and kfp print here; default: {LOG}."),
    ] = None,
    runner: Annotated[
        Literal["process", "docker", "slurm"],
        typer.Option(help="Every task as a process here, as a container of its image, or as a job of a Slurm cluster."),
    ] = "process",
    network: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Docker network of the containers; default: one of their own that reaches nothing but MLflow.",
        ),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Follow Slurm's jobs to their end; Ctrl-C cancels them.")] = True,
) -> None:
    """Run the whole pipeline on this machine or a Slurm cluster; finished steps are reused."""
    from pipeline.run import run_locally
    from pipeline.summary import print_summary

    started = time.monotonic()
    pipeline = load_pipeline_config(config, overrides)
    check_encoders(pipeline, here=runner != "docker")
    if runner != "docker" and network is not None:
        raise UserError(
            "no-network", "a Docker network is for containers", where="--network", remedy="Add --runner docker."
        )
    _check_wait(runner, wait=wait)
    if runner == "slurm" and log is not None:
        raise UserError(
            "no-log", "Slurm's jobs have a log each, in the run's folder", where="--log", remedy="Leave out --log."
        )
    evaluation: Storage | None
    if runner == "slurm":
        from pipeline.slurm.run import run_on_slurm

        terminate_cleanly()  # or the jobs would outlive who follows them
        evaluation = run_on_slurm(pipeline, wait=wait)
    elif runner == "docker":
        from pipeline.docker import containers

        evaluation = run_locally(pipeline, log=log or LOG, runner=containers(pipeline, network=network))
    else:
        evaluation = run_locally(pipeline, log=log or LOG)
    if evaluation is not None:
        seconds = time.monotonic() - started
        print_summary(pipeline, evaluation, config_file=config, overrides=overrides, seconds=seconds)


def _check_wait(runner: str, *, wait: bool) -> None:
    if runner != "slurm" and not wait:
        raise UserError("no-queue", "only Slurm's jobs go on alone", where="--no-wait", remedy="Add --runner slurm.")


@app.command()
@clean_errors
def sweep(
    config: ConfigOption,
    overrides: SetOption,
    space: Annotated[Path, typer.Option(metavar="FILE", help="What varies: fields of section train (docs/sweeps.md).")],
    trials: Annotated[int, typer.Option(min=1, help="In all, those of earlier starts counted.")] = 40,
    workers: Annotated[
        int, typer.Option(min=0, help="Trainings at a time; 0 makes data and study alone and says how it stands.")
    ] = 1,
    storage: Annotated[
        str | None,
        typer.Option(
            envvar="CXRFLOW_SWEEP_STORAGE",
            metavar="URL",
            help="Database of the trials; default: a file under the root. Machines may share either.",
        ),
    ] = None,
    prune: Annotated[bool, typer.Option(help="End trainings that are below the median of the others.")] = True,
    runner: Annotated[
        Literal["process", "slurm"],
        typer.Option(help="Train here, or as an array of a Slurm cluster with an element a worker."),
    ] = "process",
    wait: Annotated[bool, typer.Option(help="Follow Slurm's jobs to their end; Ctrl-C cancels them.")] = True,
) -> None:
    """Train under many configurations, and write the best by validation as a configuration that runs."""
    pipeline = load_pipeline_config(config, overrides)
    check_encoders(pipeline, here=True)
    _check_wait(runner, wait=wait)
    terminate_cleanly()
    from pipeline.sweep.sweep import Wanted
    from pipeline.sweep.sweep import sweep as run_sweep

    wanted = Wanted(config, overrides, space, trials, workers, storage, prune)
    if runner == "slurm":
        from pipeline.slurm.sweep import sweep_on_slurm

        best = sweep_on_slurm(pipeline, wanted, wait=wait)
    else:
        best = run_sweep(pipeline, wanted)
    if best is not None:
        print(f"\nNext:\n  python -m pipeline run --config {best}   evaluate it on the test studies and decide")


EndpointOption = Annotated[
    str,
    typer.Option(
        envvar="KF_PIPELINES_ENDPOINT", metavar="URL", help="Address of Kubeflow Pipelines.", show_default=False
    ),
]


@app.command()
@clean_errors
def submit(
    config: ConfigOption,
    overrides: SetOption,
    endpoint: EndpointOption,
    experiment: Annotated[str, typer.Option(metavar="NAME", help="Created where there is none.")] = "cxr",
    namespace: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of your profile, where several users share Kubeflow.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the run's end; a failed run is an error.")] = True,
) -> None:
    """Run the pipeline on Kubeflow: upload it, create experiment and run, print the link."""
    from pipeline.submit import submit as submit_pipeline

    pipeline = load_pipeline_config(config, overrides)
    check_encoders(pipeline, here=False)
    submit_pipeline(pipeline, endpoint=endpoint, experiment=experiment, namespace=namespace, wait=wait)


@app.command()
@clean_errors
def doctor(
    config: ConfigOption,
    overrides: SetOption,
    endpoint: Annotated[
        str | None,
        typer.Option(
            envvar="KF_PIPELINES_ENDPOINT", metavar="URL", help="Of Kubeflow Pipelines; without it, for this machine."
        ),
    ] = None,
) -> None:
    """Check what a run needs: endpoint, root, data, MLflow, images, secrets. Exit code 1 when something fails."""
    from pipeline.doctor import examine

    failed = False
    for found in examine(load_pipeline_config(config, overrides), endpoint=endpoint):
        failed |= found.status == "fail"
        print(f"{found.status:<4}  {found.name:<16}  {found.text}", flush=True)
    raise typer.Exit(int(failed))


@app.command()
@clean_errors
def mlflow(
    config: ConfigOption,
    overrides: SetOption,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
    browse: Annotated[bool, typer.Option(help="Open a browser, where this machine has a screen.")] = True,
) -> None:
    """Show the runs of a configuration's root in MLflow's pages, until Ctrl-C."""
    from pipeline.mlflow_ui import show_runs

    pipeline = load_pipeline_config(config, overrides)
    show_runs(Root(pipeline.root), experiment=pipeline.arguments["train"]["experiment"], port=port, browse=browse)


@app.command()
def reference() -> None:
    """Print every field of the configuration, as in docs/configuration.md."""
    from pipeline.reference import reference as text

    print(text(), end="")


if __name__ == "__main__":
    app()
